"""Are features found that fire together, in trees, in superposition? SynthSAEBench (arXiv 2602.14687) made again.

    python -m infra.bench synthetic [--peer PYTHON_WITH_SAE_LENS] [--seeds 0 1] [--json FILE]
    python -m infra.bench synthetic --true-features 16384 --channels 768 --roots 128 --latents 4096 --k 25 \\
        --samples 200000000 --device cuda --peer PYTHON_WITH_SAE_LENS --json FILE        # SynthSAEBench-16k

Our autoencoder (`trivial` group, top-k) and SAELens' own of the same size and k see the same samples in the same order
and are scored by the same functions on others. `oracle` is given the most frequent features and when they fire.
Controls that must fail: `untrained`, and `shuffled`, our trained one scored by what fires in other samples.

Letters: B samples, F true features, L latents, C channels.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from gc_core.config import TrainConfig
from gc_core.train import keep_freed_memory
from infra.bench.peer import Autoencoder, PeerOptions, train_peer
from infra.bench.results import collected
from infra.bench.streamed import FIRST_SAMPLES, train
from infra.bench.synthetic_scores import Counts, Scores
from infra.bench.synthetic_world import Batch, Truth, World, batches, generator_of, plant
from jobs.common import console
from jobs.common.options import cli

KEPT_BYTES = 2**30
"""Samples of at most so many bytes are made once and kept; more are made anew for every training."""
TRAINING, HELD_OUT, UNTRAINED = 1, 2, 3
"""Purposes of random numbers."""
COLUMNS = {"F1": "f1", "MCC": "mcc", "uniqueness": "uniqueness", "R²": "r2", "L0": "l0", "dead": "dead_share"}
Coder = Callable[[Batch], tuple[Tensor, Tensor]]
"""Codes (B, L) and reconstructions (B, C) of samples."""


@dataclass(frozen=True, kw_only=True)
class SyntheticBench(World):
    """Find known features."""

    latents: int = 256
    """Size of the dictionaries; as in SynthSAEBench a quarter of the true features."""
    k: int = 6
    """Active latents a sample: about as many as fire of the most frequent features, of which there are as many as
    latents."""
    samples: int = 1_500_000
    batch: int = 1024
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Learning rates, one training each, of SAELens, whose default is the first, and of ours beside its own default."""
    peer: Path | None = None
    """A Python that has sae-lens, such as PLACE/bin/python after `uv venv PLACE` and `uv pip install --python
    PLACE/bin/python sae-lens`; without it there is no peer."""
    held_out: int = 50_000
    """Samples that all are scored on."""
    seeds: tuple[int, ...] = (0,)
    device: str = "cpu"
    json: Path | None = None
    """Write the results here: a list of flat objects, one a dictionary."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("latents", self.true_features), ("k", self.latents)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected 1 to {most}")
        for name in ("samples", "held_out"):
            if getattr(self, name) < self.batch:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected at least one batch ({self.batch})")

    @property
    def steps(self) -> int:
        """Whole batches of samples."""
        return self.samples // self.batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Scores):
    """One dictionary."""

    kind: str
    seed: int
    learning_rate: float | None
    """None for the default, or where nothing is trained."""
    seconds: float


class Data:
    """The samples of one seed: the same to all that are trained, and others to score them."""

    def __init__(self, options: SyntheticBench, seed: int) -> None:
        self.options, self.seed = options, seed
        self.truth = plant(options, seed).to(options.device)
        fits = options.samples * options.channels * 4 <= KEPT_BYTES
        self._kept = list(self._made()) if fits else None

    def training(self) -> Iterator[Tensor]:
        """Batches (B, C)."""
        return iter(self._kept) if self._kept is not None else self._made()

    def held_out(self) -> Iterator[Batch]:
        """Batches that nothing is trained on."""
        count = self.options.held_out // self.options.batch
        return batches(self.truth, self.options.batch, count, HELD_OUT, self.seed)

    def _made(self) -> Iterator[Tensor]:
        made = batches(self.truth, self.options.batch, self.options.steps, TRAINING, self.seed)
        return (each.acts_BC for each in made)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench synthetic`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(SyntheticBench, prog="python -m infra.bench synthetic", args=args, description=__doc__)
        torch.set_num_threads(1)
        keep_freed_memory()
        rows = (row for seed in options.seeds for row in measure(options, seed))
        show(collected(rows, options.json))


def measure(options: SyntheticBench, seed: int) -> Iterator[Row]:
    """What is given, the controls, ours, and the peer at every rate."""
    data = Data(options, seed)
    yield _row("oracle", data, data.truth.direction_FC[: options.latents], oracle(data.truth, options.latents))
    yield _scored("untrained", data, untrained(options, seed))
    for rate in (None, *options.rates):
        start = time.perf_counter()
        mine = ours(options, data, seed, rate)
        row = _scored("ours", data, mine)
        yield replace(row, learning_rate=rate, seconds=time.perf_counter() - start)
        if rate is None:
            yield _scored("shuffled", data, mine, shuffled(data.held_out()))
    for rate in options.rates if options.peer is not None else ():
        start = time.perf_counter()
        row = _scored("saelens", data, _peer(options, data, seed, rate))
        yield replace(row, learning_rate=rate, seconds=time.perf_counter() - start)


def oracle(truth: Truth, latents: int) -> Coder:
    """The most frequent features with their true magnitudes: what a dictionary of this size can do at best."""

    def code(batch: Batch) -> tuple[Tensor, Tensor]:
        code_BL = batch.fired_BF[:, :latents]
        return code_BL, code_BL @ truth.direction_FC[:latents] + truth.bias_C

    return code


def untrained(options: SyntheticBench, seed: int) -> Autoencoder:
    """Random directions that read as they write."""
    generator = generator_of(UNTRAINED, seed)
    drawn_LC = torch.randn(options.latents, options.channels, generator=generator).to(options.device)
    unit_LC = torch.nn.functional.normalize(drawn_LC, dim=1)
    zeros = unit_LC.new_zeros
    return Autoencoder(
        W_enc=unit_LC.T, b_enc=zeros(options.latents), W_dec=unit_LC, b_dec=zeros(options.channels), k=options.k
    )


def ours(options: SyntheticBench, data: Data, seed: int, rate: float | None) -> Autoencoder:
    """Our autoencoder after one pass; at the default rate of `jobs.train` where none is given."""
    config = TrainConfig(
        group="trivial", tying="none", dict_size=options.latents, k=options.k, steps=options.steps, seed=seed,
        batch=options.batch, learning_rate=rate,
    )  # fmt: skip
    first = torch.cat([*islice(data.training(), -(-FIRST_SAMPLES // options.batch))])[:FIRST_SAMPLES]
    model = train(
        f"ours at {rate or 'default'}, seed {seed}", config, first[:, None], (each[:, None] for each in data.training())
    )
    norm_L = model.decoder_norm()
    norm_L = norm_L.where(norm_L > 0, 1)
    return Autoencoder(
        W_enc=(model.W_enc.detach()[:, 0] * norm_L[:, None]).T, b_enc=model.b_enc.detach() * norm_L,
        W_dec=model.W_dec.detach()[:, 0] / norm_L[:, None], b_dec=model.b_dec.detach()[0], k=options.k,
    )  # fmt: skip


def shuffled(held_out: Iterable[Batch]) -> Iterator[Batch]:
    """The same samples, each said to hold what fires in the one before."""
    return (replace(each, fired_BF=each.fired_BF.roll(1, 0)) for each in held_out)


def _peer(options: SyntheticBench, data: Data, seed: int, rate: float) -> Autoencoder:
    assert options.peer is not None, "asked only where there is one"
    peer = PeerOptions(
        channels=options.channels, latents=options.latents, k=options.k, batch=options.batch, steps=options.steps,
        learning_rate=rate, seed=seed, device=options.device,
    )  # fmt: skip
    with console.progress(f"SAELens at {rate:g}, seed {seed}", options.steps, "steps") as meter:
        told = (meter.set(step) or each for step, each in enumerate(data.training(), 1))
        return train_peer(options.peer, peer, told)


def _scored(kind: str, data: Data, model: Autoencoder, held_out: Iterable[Batch] | None = None) -> Row:
    def code(batch: Batch) -> tuple[Tensor, Tensor]:
        code_BL = model.encode(batch.acts_BC)
        return code_BL, model.decode(code_BL)

    return _row(kind, data, model.W_dec, code, held_out)


def _row(kind: str, data: Data, decoder_LC: Tensor, code: Coder, held_out: Iterable[Batch] | None = None) -> Row:
    counts = Counts(decoder_LC, data.truth.direction_FC)
    for batch in data.held_out() if held_out is None else held_out:
        counts.add(*code(batch), batch.acts_BC, batch.fired_BF)
    return Row(**asdict(counts.scores()), kind=kind, seed=data.seed, learning_rate=None, seconds=0.0)


def show(rows: Sequence[Row]) -> None:
    """The table."""
    table = Table(title="features of SynthSAEBench's kind")
    for heading in ("", *COLUMNS):
        table.add_column(heading, justify="right" if heading else "left")
    for each in rows:
        rate = f" at {each.learning_rate:g}" if each.learning_rate else ""
        figures: list[Any] = [getattr(each, name) for name in COLUMNS.values()]
        table.add_row(f"{each.kind}{rate}, seed {each.seed}", *(f"{figure:.3f}" for figure in figures))
    console.console.print(table)
    if rows:
        console.console.print(f"{rows[0].true_l0:.2f} features fire in a sample")
