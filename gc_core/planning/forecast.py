"""Bytes, requests, memory, traffic and hours of each stage: arithmetic on a workload and on measured rates.

Letters: G group elements, C channels, P rows of the dictionary.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gc_core.analyse.plan import plan_analysis, watched
from gc_core.atlas.build import MOST_CARDS
from gc_core.config import Compression
from gc_core.crosscoder import CrosscoderShape
from gc_core.io.objects import STREAM_BYTES
from gc_core.manifest.resumable_index import parts
from gc_core.parallel import Mesh
from gc_core.planning.rates import Rates
from gc_core.planning.workload import Workload
from gc_core.train.checkpoint import Keep
from gc_core.train.planner import FLOAT32, Plan, plan

STORED_SHARE: Mapping[Compression, float] = {"zstd": 0.5, "lz4": 0.9, "none": 1.0}
"""Bytes stored as a share of those before compression, where nothing was measured (`store.SAVED` in words)."""
MANIFEST_ROW_BYTES = 20
"""Of the manifest's Parquet file, for an image that is a file of its own."""
COMMIT_BYTES = 560
TABLE_ROW_BYTES, TABLE_NUMBER_BYTES = 150, 44
"""Of the feature table and its arrays: a row, and a row's numbers for each group element."""
CARD_BYTES = 16_000
"""Of the page: one card with its patches."""
FIXED_BYTES = 50_000
"""Metadata, metrics and logs of a run, whatever its size."""
WORKER_BYTES = 1_100_000_000
"""Memory of a process that harvests, beside its shards: Python, torch, Ray, network and pixels."""
SHARDS_IN_MEMORY = 3
"""One that is computed, one that is written, and its packed chunks."""
DRIVER_BYTES, DRIVER_IMAGE_BYTES = 400_000_000, 400
"""Memory of the process that deals out work, and what an image adds to it while the manifest is made."""

INDEX_PUTS, INDEX_GETS, INDEX_GETS_A_PART = 10, 10, 2
"""Requests of a stage, beside what follows from its size, put down from reading the code; those of a shard are a test
(`store.REQUESTS_A_SHARD`)."""
HARVEST_PUTS, HARVEST_GETS, PUTS_A_SHARD, GETS_A_SHARD = 10, 20, 4, 9
TRAIN_PUTS, TRAIN_GETS, PUTS_A_CHECKPOINT = 10, 20, 1
ANALYSE_PUTS, ANALYSE_GETS, GETS_A_WATCHED_SHARD = 60, 60, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one stage takes."""

    name: str
    hours: float | None
    """With all workers; None where no rate was measured."""
    stored_bytes: int
    puts: int
    """Requests that are billed as puts: lists, too."""
    gets: int
    """Requests that are billed as gets: looking whether an object is there, too."""
    memory_bytes: Mapping[str, int]
    """Peak of each kind of process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run takes."""

    stages: tuple[Stage, ...]
    sent_bytes_per_step: int
    """What each worker sends to others in a step of the training."""
    steps: int
    num_samples: int

    @property
    def stored_bytes(self) -> int:
        return sum(stage.stored_bytes for stage in self.stages)

    @property
    def puts(self) -> int:
        return sum(stage.puts for stage in self.stages)

    @property
    def gets(self) -> int:
        return sum(stage.gets for stage in self.stages)

    @property
    def hours(self) -> float | None:
        """One stage after another; None where one is unknown."""
        known = [stage.hours for stage in self.stages]
        return None if None in known else math.fsum(hours for hours in known if hours is not None)


def forecast(work: Workload, rates: Rates, device: str) -> Forecast:
    """What the run takes on workers of such a device.

    Raises:
        ValueError: the options of the training contradict one another.
    """
    config = work.resolved
    mesh = plan(work.demand, Mesh.of(work.num_workers, 1))
    stages = (_index(work, rates, device), _harvest(work, rates, device), _train(work, rates, device, mesh),
              _analyse(work, rates, device))  # fmt: skip
    return Forecast(
        stages=stages, sent_bytes_per_step=mesh.sent_bytes, steps=config.steps, num_samples=work.num_samples
    )


def _index(work: Workload, rates: Rates, device: str) -> Stage:
    rate, count = rates.harvest_of(work, device), len(parts(work.num_images))
    return Stage(
        name="index",
        hours=None if rate is None else _hours(work.num_images, rate.images_per_s, work.num_workers),
        stored_bytes=FIXED_BYTES + MANIFEST_ROW_BYTES * work.num_images,
        puts=count + INDEX_PUTS,
        gets=work.num_images + INDEX_GETS_A_PART * count + INDEX_GETS,
        memory_bytes={"driver": DRIVER_BYTES + DRIVER_IMAGE_BYTES * work.num_images},
    )


def _harvest(work: Workload, rates: Rates, device: str) -> Stage:
    """The last round of shards may leave workers idle; images that two shards share are fetched twice."""
    rate, shards = rates.harvest_of(work, device), work.num_shards
    share = STORED_SHARE[work.compression] if rate is None or work.compression != "zstd" else rate.stored_share
    rows = min(work.num_samples, -(-shards // work.num_workers) * work.shard_rows)
    return Stage(
        name="harvest",
        hours=None if rate is None else _hours(rows, rate.samples_per_s, 1),
        stored_bytes=round(work.num_samples * work.sample_bytes * share) + COMMIT_BYTES * shards,
        puts=HARVEST_PUTS + PUTS_A_SHARD * shards,
        gets=HARVEST_GETS + GETS_A_SHARD * shards + work.num_images + shards - 1,
        memory_bytes={
            "worker": WORKER_BYTES + SHARDS_IN_MEMORY * min(work.shard_rows, work.num_samples) * work.sample_bytes,
            "driver": DRIVER_BYTES + DRIVER_IMAGE_BYTES * work.num_images,
        },
    )


def _train(work: Workload, rates: Rates, device: str, mesh: Plan) -> Stage:
    """Every pass reads each chunk once; a checkpoint is the weights and Adam's two moments."""
    config, rate = work.resolved, rates.train_of(work, device)
    model = weights_bytes(work)
    checkpoint = model * (2 if config.average_decay else 1) + 2 * model * work.demand.state_bytes // FLOAT32
    saved = -(-config.steps // config.checkpoint_every)
    kept = min(saved, Keep().last + Keep().best)
    passes = config.steps * config.batch / work.data.num_samples
    return Stage(
        name="train",
        hours=None if rate is None else _hours(config.steps * config.batch, rate.samples_per_s, work.num_workers),
        stored_bytes=model + kept * checkpoint,
        puts=TRAIN_PUTS + saved * (uploads(checkpoint) + PUTS_A_CHECKPOINT) + uploads(model),
        gets=TRAIN_GETS + math.ceil(passes * work.num_chunks) + work.num_shards * (work.num_workers + 1),
        memory_bytes={"worker": mesh.memory_bytes},
    )


def _analyse(work: Workload, rates: Rates, device: str) -> Stage:
    """Hours are those of watching features fire on every sample: what grows with the store."""
    config, rate = work.resolved, rates.train_of(work, device)
    shape = CrosscoderShape(
        group=work.parsed_group,
        channels=work.channels,
        dict_size=config.dict_size,
        reads=config.elements_read(work.parsed_group.order),
        activation=config.activation,
        k=config.k,
        tying=config.tying,
    )
    planned = plan_analysis(shape, work.analyse, num_shards=work.num_shards, stored_elements=work.parsed_group.order)
    cards = min(config.num_rows, MOST_CARDS)
    tables = config.num_rows * (TABLE_ROW_BYTES + TABLE_NUMBER_BYTES * work.parsed_group.order)
    return Stage(
        name="analyse",
        hours=None if rate is None else _hours(work.num_samples, rate.encode_samples_per_s, work.num_workers),
        stored_bytes=tables + CARD_BYTES * cards,
        puts=ANALYSE_PUTS + len(watched(work.num_shards)) + cards,
        gets=ANALYSE_GETS + work.num_chunks + GETS_A_WATCHED_SHARD * work.num_shards,
        memory_bytes={"worker": planned.worker_bytes, "driver": planned.driver_bytes},
    )


def weights_bytes(work: Workload) -> int:
    """Of a crosscoder's file: decoder, encoder and bias of each row, and the decoder's bias."""
    return FLOAT32 * (work.resolved.num_rows * work.demand.row_values + work.channels)


def uploads(num_bytes: int) -> int:
    """Requests that write an object piece by piece: one, or each piece between a beginning and an end."""
    pieces = -(-num_bytes // STREAM_BYTES)
    return 1 if pieces <= 1 else pieces + 2


def _hours(amount: float, per_s: float, workers: int) -> float:
    return amount / per_s / workers / 3600
