"""Do data or network prefer some orientations? What a bias for each pose adds to tied poses, and free weights after it.

    python -m infra.bench poses --run RUN [--group D8] [--steps 300] [--json FILE]

A tied crosscoder is trained; its prototypes are then untied, one feature a pose. With all weights fixed its biases are
fitted, one a prototype or one a pose: the second explains more only by preferring poses. All weights free, it trains on
as an ordinary crosscoder, beside a tied one that trains on. Nothing is turned at random, which would even out what
poses the images show. One thread.

Letters: B samples, G group elements, C channels, P prototypes, F features, K active ones.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from gc_core.config import TrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.crosscoder.activation_functions import SparseCode
from gc_core.io.run_folder import RunFolder
from gc_core.metrics import VarianceSums
from gc_core.stream import read_rows
from gc_core.train import TrainingData, keep_freed_memory, open_data
from infra.bench.results import write_results
from infra.bench.tying import cut, taught
from jobs.common import console
from jobs.common.options import cli

RATE = 1e-3
"""Learning rate of the biases, over the root mean square of active codes."""


@dataclass(frozen=True, kw_only=True)
class PosesBench:
    """Measure what a preference for poses explains."""

    run: str
    """A run folder whose harvest is finished: a path or URL."""
    group: str | None = None
    """None for the store's, or a group inside it."""
    held_out: int = 560
    """Samples held out at least, of whole images drawn at random."""
    prototypes: int = 64
    k: int = 24
    steps: int = 300
    """Steps of the tied training, and of each that follows it."""
    batch: int = 128
    seed: int = 0
    free: bool = True
    """Train on with all weights free, too: |G| times the memory and time of a tied step."""
    json: Path | None = None
    """Write the results here: a list of flat objects, one a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One model."""

    kind: str
    held_out_fvu: float
    training_fvu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Biased:
    """Untied features of tied poses whose weights are fixed; of each prototype the best pose alone is active."""

    model: Crosscoder
    """Materialised: feature p G + h is prototype p, turned by h."""
    bias: Tensor
    """(P, 1) of prototypes, or (P, G) of poses; less what the decoder's bias gives."""

    def reconstruct(self, acts_BGC: Tensor) -> Tensor:
        """(B, G, C), with gradient for the bias alone."""
        weights, shape = self.model.W_enc.detach().flatten(1), self.model.shape
        pre_BPG = (acts_BGC.flatten(1) @ weights.T).unflatten(1, (len(self.bias), -1)) + self.bias
        best = pre_BPG.max(2)
        norm_P = self.model.decoder_norm().unflatten(0, (len(self.bias), -1))[:, 0]
        index_BK = (best.values * norm_P).topk(shape.k, dim=1).indices
        value_BK = best.values.gather(1, index_BK).relu()
        feature_BK = index_BK * pre_BPG.shape[2] + best.indices.gather(1, index_BK)
        return self.model.decode_sparse(SparseCode(value_BK, feature_BK, None))


class Rows:
    """Samples that are read once and kept as they are stored."""

    def __init__(self, data: TrainingData, rows: NDArray[np.int64]) -> None:
        self._data, self._stored_NGC = data, torch.from_numpy(read_rows(data.store, rows, data.blocks))

    def some(self, index_B: Tensor) -> Tensor:
        """(B, G, C), scaled."""
        return self._data.scaled(self._stored_NGC[index_B])

    def __len__(self) -> int:
        return len(self._stored_NGC)

    @torch.no_grad()
    def unexplained(self, reconstruct: Callable[[Tensor], Tensor], batch: int) -> float:
        """Fraction of the variance."""
        sums = VarianceSums.zeros(self._stored_NGC.shape[1], self._stored_NGC.shape[2])
        for index_B in torch.arange(len(self)).split(batch):
            acts_BGC = self.some(index_B)
            sums.add(acts_BGC, reconstruct(acts_BGC))
        share = sums.fraction_unexplained()
        return float("nan") if share is None else share


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench poses`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(PosesBench, prog="python -m infra.bench poses", args=args, description=__doc__)
        torch.set_num_threads(1)
        keep_freed_memory()
        whole = open_data(RunFolder.at(options.run), TrainConfig(group=options.group))
        outcomes: list[Outcome] = []
        for outcome in compare(options, cut(whole, None, options.held_out, options.seed)):
            outcomes.append(outcome)
            console.say(f"{outcome.kind}: FVU {outcome.held_out_fvu:.3f}, in training {outcome.training_fvu:.3f}")
            if options.json is not None:
                write_results(options.json, [asdict(each) for each in outcomes])
        show(outcomes)


def compare(options: PosesBench, data: TrainingData) -> Iterator[Outcome]:
    """The tied model, what becomes of it with fixed weights, and with free ones."""
    held_out, training = Rows(data, data.held_out_rows), Rows(data, data.train_rows)

    def judged(kind: str, reconstruct: Callable[[Tensor], Tensor]) -> Outcome:
        scores = (rows.unexplained(reconstruct, options.batch) for rows in (held_out, training))
        return Outcome(kind=kind, held_out_fvu=next(scores), training_fvu=next(scores))

    config = TrainConfig(
        tying="orbit", group=options.group, prototypes=options.prototypes, k=options.k, steps=options.steps,
        batch=options.batch, seed=options.seed, augment=False,
    )  # fmt: skip
    trainer, _ = taught("tied", config, data)
    tied, exported = trainer.result, trainer.exported()
    assert exported is not None, "one worker has the whole crosscoder"
    plain = tied.materialised()
    yield judged("tied", lambda acts: tied.reconstruct(acts)[1])
    yield judged("untied, before anything moves", lambda acts: plain.reconstruct(acts)[1])
    for kind, columns in (("one bias a prototype", 1), ("one bias a pose", tied.group.order)):
        yield judged(f"weights fixed, {kind}", fitted(kind, plain, columns, training, options).reconstruct)
    if options.free:
        for kind, changes in (
            ("tied", {}),
            ("untied", {"tying": "none", "prototypes": None, "dict_size": len(plain.W_enc), "encoder_reads": "all"}),
        ):
            model = _trained_on(kind, replace(config, **changes), exported, data)
            yield judged(f"{kind}, all weights free", lambda acts, model=model: model.reconstruct(acts)[1])


def fitted(kind: str, plain: Crosscoder, columns: int, training: Rows, options: PosesBench) -> Biased:
    """Biases that lower the squared error, begun with those of the tied model."""
    first_PG = plain.b_enc.detach().unflatten(0, (options.prototypes, -1))
    biased = Biased(model=plain, bias=first_PG[:, :columns].clone().requires_grad_())
    with torch.no_grad():
        z_BF, _ = plain.reconstruct(training.some(torch.arange(min(options.batch, len(training)))))
    optimiser = torch.optim.Adam([biased.bias], lr=RATE * float(z_BF[z_BF > 0].square().mean().sqrt()))
    rng = np.random.default_rng([options.seed, 7])
    with console.progress(kind, options.steps, "steps") as meter:
        for step in range(options.steps):
            acts_BGC = training.some(torch.from_numpy(rng.integers(len(training), size=options.batch)))
            optimiser.zero_grad()
            (biased.reconstruct(acts_BGC) - acts_BGC).square().sum((1, 2)).mean().backward()
            optimiser.step()
            meter.set(step + 1)
    return biased


def _trained_on(kind: str, config: TrainConfig, exported: Crosscoder, data: TrainingData) -> Crosscoder:
    """A training that begins with the tied model's weights."""
    with tempfile.TemporaryDirectory() as folder:
        exported.save(folder)
        return taught(f"{kind}, all weights free", replace(config, init_from=folder), data)[0].result


def show(outcomes: Sequence[Outcome]) -> None:
    """The table."""
    table = Table(title="fraction of variance unexplained", caption="the first is trained, all others begin with it")
    for heading in ("", "held out", "in training", "gained over the first, held out"):
        table.add_column(heading, justify="right" if heading else "left")
    for each in outcomes:
        gained = f"{outcomes[0].held_out_fvu - each.held_out_fvu:+.4f}"
        table.add_row(each.kind, f"{each.held_out_fvu:.4f}", f"{each.training_fvu:.4f}", gained)
    console.console.print(table)
