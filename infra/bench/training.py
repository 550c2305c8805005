"""The training steps that `train` measures, each in a process of its own, and what each must at least do.

Letters: B samples, G group elements, C channels, F features, K active features, U features touched by a batch.
"""

import resource
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.harvest.activations import arithmetic
from gc_core.losses import l1_losses
from gc_core.optim import RowAdam
from gc_core.sparse import choose, row_gradient, sparse_decode, sparse_encode
from infra.bench import machine
from infra.bench.plain_training import PlainTraining

PATHS = ("reference", "sparse", "sparse_lazy", "dense_l1")
LEARNING_RATE, L1_COEFFICIENT = 1e-3, 1e-3
NUM_BATCHES = 3
"""Different ones, taken in turn: a step never finds the rows of the step before in the cache."""
SMALL_PART = 8
"""The first step, which is not measured, sees one sample in this many."""
COPIED_BYTES = 2**28
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is trained."""

    group: str
    channels: int
    features: int
    batch: int = 512
    k: int = 32

    @property
    def group_order(self) -> int:
        return groups.parse(self.group).order

    @property
    def row(self) -> int:
        """Numbers of a feature's decoder."""
        return self.group_order * self.channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What one process measured."""

    step_s: float
    peak_bytes: int
    matmul_share: float | None
    """Of the rate of a square product in the fast type, over the whole step (dense paths)."""
    bandwidth_share: float | None
    """Of the rate at which memory is copied, over the whole step, for the bytes that must move (sparse paths)."""


def visit(size: Size, path: str, seconds: float, device: str) -> Visit:
    """Measure one path at one size for about so long, at least for one step, then what the machine can do."""
    pool_NBGC = random_batches(size, device)
    step = make_step(size, path, device, random_weights(size, device))
    step(pool_NBGC[0][: max(1, size.batch // SMALL_PART)])
    if path != "reference":
        step(pool_NBGC[1])
    turn = iter(range(2, 2**31))
    took = machine.rate(lambda: _count(step, pool_NBGC[next(turn) % NUM_BATCHES]), seconds, device)
    step_s, peak_bytes = took.seconds / took.amount, _peak_bytes(device)
    sparse = path.startswith("sparse")
    touched = _touched(size, pool_NBGC[0], random_weights(size, device)["W_enc"]) if sparse else 0
    return Visit(
        step_s=step_s,
        peak_bytes=peak_bytes,
        bandwidth_share=least_bytes(size, path, touched) / step_s / _copy_bytes_per_s(device) if sparse else None,
        matmul_share=None if sparse else flop(size, path) / step_s / _matmul_flop_per_s(path, device),
    )


def make_step(size: Size, path: str, device: str, weights: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """A training step of a path: changes weights of its own, returns the loss before."""
    if path == "reference":
        return PlainTraining(weights, size.k, LEARNING_RATE).step
    model = _model(size, path, weights)
    optimiser = RowAdam(model.parameters(), lr=LEARNING_RATE)
    if path == "dense_l1":
        return lambda acts_BGC: _dense_step(model, optimiser, acts_BGC, fast_products(device))
    steps = SparseSteps(model, optimiser)
    if path == "sparse_lazy":
        steps.become_lazy(random_batches(size, device)[0][:1])
    return steps.step


class SparseSteps:
    """Top-k steps at the cost of the active features."""

    def __init__(self, model: GroupCrosscoder, optimiser: RowAdam) -> None:
        self._model, self._optimiser, self._lazy = model, optimiser, False
        self._norm_F = model.decoder_norm()

    def become_lazy(self, acts_BGC: Tensor) -> None:
        """After a step that visits every row: a lazy run's steady state, in which all rows have moments."""
        self.step(acts_BGC)
        self._lazy = True
        for options in self._optimiser.param_groups:
            options["lazy"] = True

    def step(self, acts_BGC: Tensor) -> Tensor:
        """One step; the loss before it, 0-dim."""
        model, read = self._model, acts_BGC[:, list(self._model.shape.reads)]
        index_BK = choose(read, model.W_enc, model.b_enc, self._norm_F, model.shape.k)
        value_BK = sparse_encode(read, model.W_enc, model.b_enc, index_BK, dense_grad=False).relu()
        recon_BGC = sparse_decode(value_BK, index_BK, model.W_dec, dense_grad=False) + model.b_dec
        loss = (recon_BGC - acts_BGC).square().sum((1, 2)).mean()
        loss.backward()
        self._optimiser.step()
        self._follow_norms()
        self._optimiser.zero_grad()
        return loss.detach()

    def _follow_norms(self) -> None:
        """A lazy step changes the norms of the rows that it touched, any other step those of all."""
        gradient = row_gradient(self._model.W_dec)
        if not self._lazy or gradient is None:
            self._norm_F = self._model.decoder_norm()
            return
        for rows_U in gradient.touched_U.split(max(1, 2**19 // self._model.W_dec[0].numel())):
            self._norm_F[rows_U] = self._model.W_dec.detach().index_select(0, rows_U).flatten(1).norm(dim=1)


def _dense_step(
    model: GroupCrosscoder, optimiser: RowAdam, acts_BGC: Tensor, products: AbstractContextManager[object]
) -> Tensor:
    with products:
        loss = l1_losses(model, acts_BGC, L1_COEFFICIENT, "joint").total
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    return loss.detach()


def fast_products(device: str) -> AbstractContextManager[object]:
    """In which matrix products use the device's fast type and add up in float32; the weights stay float32."""
    fast = arithmetic("auto", device)
    return nullcontext() if fast == torch.float32 else torch.autocast(device, dtype=fast)


def random_batches(size: Size, device: str) -> Tensor:
    """(N, B, G, C): no structure, so that all features are about equally active, the worst case for rows touched."""
    generator = torch.Generator(device).manual_seed(1)
    shape = (NUM_BATCHES, size.batch, size.group_order, size.channels)
    return torch.randn(shape, generator=generator, device=device)


def random_weights(size: Size, device: str) -> dict[str, Tensor]:
    """Encoder rows all different; decoder rows repeat, which does not change what a step costs."""
    generator = torch.Generator(device).manual_seed(0)
    num_features, order, channels = size.features, size.group_order, size.channels
    rows = torch.randn((min(512, num_features), order, channels), generator=generator, device=device) / size.row**0.5
    return {
        "W_enc": torch.randn((num_features, 1, channels), generator=generator, device=device) / channels**0.5,
        "b_enc": torch.zeros(num_features, device=device),
        "W_dec": rows.repeat(-(-num_features // len(rows)), 1, 1)[:num_features],
        "b_dec": torch.zeros(order, channels, device=device),
    }


def flop(size: Size, path: str) -> float:
    """Of the matrix products: encoder forward and weights; decoder forward, weights and codes."""
    return 2.0 * size.batch * size.features * (2 * size.channels + 3 * size.row)


def least_bytes(size: Size, path: str, touched: int) -> float:
    """That must move: each row once for each of its uses, each moment read and written, each activation array once.

    Decoder rows: read to decode, read for the codes' gradient, and for the optimiser; read for their norm. The encoder
    is read whole to choose. Of activations: read, reconstruction written, error written and read twice.
    """
    moved = touched if path == "sparse_lazy" else size.features
    decoder = (2 * touched + 6 * moved + moved) * size.row
    encoder = (size.features + 6 * moved) * size.channels
    return FLOAT_BYTES * (decoder + encoder + 5 * size.batch * size.row)


def loss_disagreement(steps: int = 200) -> dict[str, float]:
    """Largest relative difference of a path's loss from the plain formulas' over so many steps on a small problem."""
    size = Size(group="C4", channels=12, features=256, batch=64, k=8)
    acts_NBGC = _planted_batches(size, steps)
    losses = {
        path: torch.stack([step(acts_BGC) for acts_BGC in acts_NBGC])
        for path in ("reference", "sparse")
        for step in [make_step(size, path, "cpu", random_weights(size, "cpu"))]
    }
    difference = (losses["sparse"] / losses["reference"] - 1).abs().max()
    return {"sparse": float(difference), "fall": float(losses["reference"][-1] / losses["reference"][0])}


def _planted_batches(size: Size, count: int) -> Tensor:
    """(N, B, G, C) sums of a few of 64 directions."""
    generator = torch.Generator().manual_seed(2)
    truth_FGC = torch.randn(64, size.group_order, size.channels, generator=generator)
    code_NBF = torch.rand(count, size.batch, 64, generator=generator)
    code_NBF *= torch.rand(code_NBF.shape, generator=generator) < 0.06
    return torch.tensordot(code_NBF, truth_FGC, 1)


def _model(size: Size, path: str, weights: dict[str, Tensor]) -> GroupCrosscoder:
    shape = CrosscoderShape(
        group=size.group,
        channels=size.channels,
        dict_size=size.features,
        reads=(0,),
        activation="l1" if path == "dense_l1" else "topk",
        k=size.k,
    )
    with torch.device("meta"):
        model = GroupCrosscoder(shape)
    model.load_state_dict(weights, assign=True)
    return model


def _touched(size: Size, acts_BGC: Tensor, W_enc: Tensor) -> int:
    """U of one batch at the start."""
    ones_F = torch.ones(size.features, device=W_enc.device)
    return len(choose(acts_BGC[:, :1], W_enc, 0 * ones_F, ones_F, size.k).unique())


def _count(step: Callable[[Tensor], Tensor], acts_BGC: Tensor) -> float:
    step(acts_BGC)
    return 1


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _matmul_flop_per_s(path: str, device: str) -> float:
    """In the fast type, or in the type that the path uses."""
    dtype = torch.float32 if path == "reference" else arithmetic("auto", device)
    multiply = machine.matmul_gflop(device, dtype)
    multiply()
    return 1e9 * statistics.median(machine.rate(multiply, 0, device).per_s for _ in range(5))


def _copy_bytes_per_s(device: str) -> float:
    """Read and written bytes together."""
    source = torch.zeros(COPIED_BYTES // FLOAT_BYTES, device=device)
    target = torch.ones_like(source)

    def copy() -> float:
        target.copy_(source)
        return 2 * COPIED_BYTES

    return statistics.median(machine.rate(copy, 0, device).per_s for _ in range(7))
