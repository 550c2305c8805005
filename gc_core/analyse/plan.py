"""What an analysis will need, before it starts: memory of the driver and of each task, and disk. Integers in and out.

Weights are files mapped into memory: all tasks of a machine share them, and they give way where memory is short. What
is planned is what each process holds besides.

Letters: F features, G group elements, C channels, R representations, T candidates.
"""

from dataclasses import dataclass

from gc_core.analyse.firing import ROWS_AT_ONCE, SPARE_CANDIDATES
from gc_core.analyse.shown import SAMPLES_AT_ONCE
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import CrosscoderShape
from gc_core.families.neighbours import COLUMNS
from gc_core.families.search import blocks
from gc_core.families.sketch import NUMBERS
from gc_core.groups import FiniteGroup, Group
from gc_core.images.catalogue import fixed_set
from gc_core.store.shards import CHUNK_ROWS
from gc_core.symmetry import classes, features_at_once
from gc_core.symmetry.table_chance import MOST_DIRECTIONS
from gc_core.symmetry.tuning import LEAST_ANGLES

MOST_PARTS = 128
"""Parts in which samples are watched, at most: each is kept on disk until the end, 14 T + 8 bytes a feature, and 8 G
where poses are tied."""
DESCRIBED_AT_ONCE = 128
STIMULI_AT_ONCE = 8
"""Stimuli that one task shows: some 500 pictures over D_32, so a few seconds."""
COPIES_OF_RESPONSES = 8
"""Tensors like the responses (F, L) to one stimulus: codes, their transpose, changing parts, products, sums."""
NETWORK_BYTES = 200_000_000
"""Memory of a network and of one batch of pictures in it."""
OVERHEAD_BYTES = 900_000_000
"""Python, torch, Ray and what the allocator keeps; of the driver too. Measured as peaks of resident memory, without a
cluster: 0.79 GB before anything is computed; over D_4 with 32 channels 0.81 GB after `encode` of 2,048 features (0.92
planned) and 0.85 of 8,192 (0.97), 0.80 after `describe` of 2,048 (0.90) and 0.83 after `similarities` (0.92)."""
FLOAT64, FLOAT32, FLOAT16 = 8, 4, 2
COPIES_OF_CODES = 6
"""Tensors like a slice's codes (B, F): scores, codes, their transpose, masks, and gaps."""
COPIES_OF_SAMPLES = 5
COPIES_OF_CANDIDATES = 4
COPIES_OF_DECODERS = 5
"""Tensors like some features' decoders: rows, unit rows, transform, a temporary of those, and the changing part."""
PRODUCT_BYTES, PAIR_BYTES = 50_000_000, 120
"""Memory of the products at every pose of some pairs; and of every pair of a block and the features it meets at once,
were all of them candidates."""
KEPT_NEIGHBOUR_BYTES, NEIGHBOUR_BYTES = 28, 90
"""Memory of a pair of neighbours: kept; and where all of them are: joined, sorted, and a graph."""
COPIES_OF_COEFFICIENTS, COPIES_OF_GRAMS, COPIES_OF_SURROGATES = 8, 8, 10
VERDICT_BYTES = 1500
"""Memory of a feature: Python's record of its symmetry, and the row of the table that it becomes."""
BYTES_A_GB = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisPlan:
    """Bytes, of which each number is an estimate from above."""

    weights_bytes: int
    """Mapped by every task."""
    encode_bytes: int
    """Memory of a task that watches features fire."""
    describe_bytes: int
    compare_bytes: int
    show_bytes: int
    """Memory of a task that shows stimuli."""
    driver_bytes: int
    disk_bytes: int
    """Space for parts in the run folder, until the end."""

    @property
    def worker_bytes(self) -> int:
        """Memory of the largest task."""
        return max(self.encode_bytes, self.describe_bytes, self.compare_bytes, self.show_bytes)


def plan_analysis(
    shape: CrosscoderShape, config: AnalyseConfig, *, num_shards: int, stored_elements: int
) -> AnalysisPlan:
    """Plan the analysis of a crosscoder of this shape on a store of so many shards, whose group has so many elements;
    all features count as alive."""
    group = shape.group
    count, order, block = shape.num_rows, group.order, shape.channels * FLOAT32
    decoder, candidates = order * block, config.top_examples * SPARE_CANDIDATES
    seen = count * (14 * candidates + 8 + (8 * order if shape.tying == "orbit" else 0))
    described = count * (5 * FLOAT32 * order + FLOAT64 * (order + 6 * len(classes(group))) + VERDICT_BYTES)
    neighbours = count * min(count, config.neighbours)
    tuning = count * _tuning_bytes(order) if config.stimuli else 0
    samples = ROWS_AT_ONCE * order * block * COPIES_OF_SAMPLES + CHUNK_ROWS * 2 * stored_elements * block
    return AnalysisPlan(
        weights_bytes=count * (decoder + len(shape.reads) * block + 2 * FLOAT32) + decoder,
        encode_bytes=OVERHEAD_BYTES
        + samples
        + (2 * count * decoder if shape.tying == "orbit" else 0)  # their transform, made for each batch
        + COPIES_OF_CODES * FLOAT32 * ROWS_AT_ONCE * count
        + COPIES_OF_CANDIDATES * seen,
        describe_bytes=OVERHEAD_BYTES
        + DESCRIBED_AT_ONCE * (COPIES_OF_DECODERS * decoder + 8 * FLOAT32 * order**2)
        + _evidence_bytes(group, decoder, config.surrogates),
        compare_bytes=OVERHEAD_BYTES
        + _comparison_bytes(shape)
        + 2 * KEPT_NEIGHBOUR_BYTES * neighbours // len(blocks(count)),
        show_bytes=_show_bytes(shape, tuning) if config.stimuli else 0,
        driver_bytes=OVERHEAD_BYTES
        + COPIES_OF_CANDIDATES * seen
        + 2 * described
        + NEIGHBOUR_BYTES * neighbours
        + 3 * tuning,
        disk_bytes=min(num_shards, MOST_PARTS) * seen
        + described
        + KEPT_NEIGHBOUR_BYTES * neighbours
        + len(shown(len(fixed_set()))) * tuning,
    )


def _evidence_bytes(group: FiniteGroup, decoder_bytes: int, surrogates: int) -> int:
    """Memory in float64 of some features' coefficients, their products, and one feature's surrogates."""
    a_feature = 2 * COPIES_OF_COEFFICIENTS * decoder_bytes + COPIES_OF_GRAMS * FLOAT64 * (group.order + 4) ** 2
    return features_at_once(group) * a_feature + COPIES_OF_SURROGATES * FLOAT64 * surrogates * _surrogate_numbers(group)


def _surrogate_numbers(group: FiniteGroup) -> int:
    """Numbers that are drawn for each surrogate."""
    return group.n if isinstance(group, Group) else group.order * MOST_DIRECTIONS


def _comparison_bytes(shape: CrosscoderShape) -> int:
    """Memory of a block of features and some others with their decoders, the sketches of all features, and products."""
    count, block = shape.num_rows, shape.channels * FLOAT32
    decoders = (len(blocks(count)[0]) + COLUMNS) * COPIES_OF_DECODERS * shape.group.order * block
    pairs = PAIR_BYTES * len(blocks(count)[0]) * COLUMNS
    return decoders + 2 * count * (block + NUMBERS * FLOAT32) + PRODUCT_BYTES + pairs


def _tuning_bytes(order: int) -> int:
    """Memory of what stimuli tell of one feature: its curve, products and energies by element, sums by kind."""
    return FLOAT32 * _most_shown(order) + 2 * FLOAT64 * order + 20 * FLOAT64


def _most_shown(order: int) -> int:
    """Most elements under which stimuli are shown, of a group of this order: finer turns make up what is missing."""
    return order + 2 * LEAST_ANGLES


def _show_bytes(shape: CrosscoderShape, tuning_bytes: int) -> int:
    """Memory of a task with the network, a batch of samples, responses to one stimulus, and sums of two."""
    samples = COPIES_OF_SAMPLES * SAMPLES_AT_ONCE * shape.group.order * shape.channels * FLOAT32
    responses = COPIES_OF_RESPONSES * FLOAT32 * shape.num_rows * _most_shown(shape.group.order)
    return OVERHEAD_BYTES + NETWORK_BYTES + samples + responses + 3 * tuning_bytes


def shown(num_stimuli: int) -> list[range]:
    """Stimuli of each task that shows them; the same whatever the machine."""
    return [range(first, min(first + STIMULI_AT_ONCE, num_stimuli)) for first in range(0, num_stimuli, STIMULI_AT_ONCE)]


def watched(num_shards: int) -> list[range]:
    """Shards of each part, as even as can be; the same whatever the machine."""
    count = min(num_shards, MOST_PARTS)
    return [range(number * num_shards // count, (number + 1) * num_shards // count) for number in range(count)]


def described(num_features: int) -> list[range]:
    """Features of each task that describes them."""
    return [
        range(first, min(first + DESCRIBED_AT_ONCE, num_features))
        for first in range(0, num_features, DESCRIBED_AT_ONCE)
    ]


def refuse_too_large(
    plan: AnalysisPlan, *, driver_bytes: int | None, worker_bytes: int | None, disk_bytes: int | None
) -> None:
    """Refuse a plan that needs more than was found; None is unknown.

    Raises:
        ValueError: it is not enough; with the numbers, and what helps.
    """
    if worker_bytes is not None and plan.worker_bytes > worker_bytes:
        raise ValueError(
            f"memory: a task of the analysis needs {gb(plan.worker_bytes)} (encode {gb(plan.encode_bytes)}, symmetry "
            f"{gb(plan.describe_bytes)}, families {gb(plan.compare_bytes)}, stimuli {gb(plan.show_bytes)}), found "
            f"{gb(worker_bytes)}; lower --top-examples or --neighbours, leave the stimuli out with --no-stimuli, or "
            "use a machine with more memory"
        )
    if driver_bytes is not None and plan.driver_bytes > driver_bytes:
        raise ValueError(
            f"memory: the analysis needs {gb(plan.driver_bytes)} where it is started, found {gb(driver_bytes)}; lower "
            "--neighbours or --top-examples"
        )
    if disk_bytes is not None and plan.disk_bytes > disk_bytes:
        raise ValueError(
            f"disk: the analysis keeps {gb(plan.disk_bytes)} in the run folder until it is done, found "
            f"{gb(disk_bytes)} free; free some, or lower --top-examples or --neighbours"
        )


def gb(num_bytes: int) -> str:
    """Two digits after the point."""
    return f"{num_bytes / BYTES_A_GB:.2f} GB"
