"""The training steps that `train` measures, each in a process of its own, and what each must at least do.

Letters: B samples, G group elements, C channels, F features, K active features, U features touched by a batch.
"""

import resource
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from gc_core import groups, store
from gc_core.config import TrainConfig
from gc_core.crosscoder.initialise import FirstSamples
from gc_core.io.run_folder import RunFolder
from gc_core.sparse import choose
from gc_core.store.shards import CHUNK_ROWS
from gc_core.train import Trainer, TrainingData, Worker, keep_freed_memory, resolve
from infra.bench import machine
from infra.bench.plain_training import PlainTraining

PATHS = ("reference", "sparse", "sparse_lazy", "dense_l1", "reference_all", "tied")
PLAIN = ("reference", "reference_all")
LEARNING_RATE, L1_COEFFICIENT = 1e-3, 1e-3
NUM_BATCHES = 3
"""Different ones, taken in turn: a step never finds the rows of the step before in the cache."""
NEVER = 10**9
"""Steps of a run that is not run to its end; samples after which a feature is dead."""
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
    """Share of the rate of a square product in the fast type, over the whole step (dense paths)."""
    bandwidth_share: float | None
    """Share of the memory's copying rate, over the whole step, for the bytes that must move (sparse paths)."""
    load: float
    """Load of the machine: threads that wanted a core in the last minute, this one's among them."""


def visit(size: Size, path: str, seconds: float, device: str) -> Visit:
    """Measure one path at one size for about so long, at least for one step, then what the machine can do.

    Before that ours sees every batch once: of a lazy optimiser's rows all have moments then that will be touched. The
    slow reference, which visits every row at every step, sees one.
    """
    pool_NBGC = random_batches(size, device)
    if path not in PLAIN:
        keep_freed_memory()  # as a training worker does
    step = make_step(size, path, device)
    for acts_BGC in pool_NBGC[:1] if path in PLAIN else pool_NBGC:
        step(acts_BGC)
    turn = iter(range(2, 2**31))
    took = machine.rate(lambda: _count(step, pool_NBGC[next(turn) % NUM_BATCHES]), seconds, device)
    step_s, peak_bytes = took.seconds / took.amount, _peak_bytes(device)
    sparse = path.startswith("sparse")
    touched = _touched(size, pool_NBGC[0], random_weights(size, path, device)["W_enc"]) if sparse else 0
    return Visit(
        step_s=step_s,
        load=machine.load_average(),
        peak_bytes=peak_bytes,
        bandwidth_share=least_bytes(size, path, touched) / step_s / _copy_bytes_per_s(device) if sparse else None,
        matmul_share=None if sparse or path == "tied" else flop(size, path) / step_s / _matmul_flop_per_s(path, device),
    )


def make_step(size: Size, path: str, device: str) -> Callable[[Tensor], object]:
    """A training step of a path, all from the same first weights."""
    if path in PLAIN:
        return PlainTraining(random_weights(size, path, device), size.k, LEARNING_RATE).step
    return new_trainer(size, path, device).advance


def new_trainer(size: Size, path: str, device: str) -> Trainer:
    """What `jobs.train` steps, with a constant learning rate and no feature ever dead."""
    fast = _product_dtype(device) if path == "dense_l1" else torch.float32
    config = TrainConfig(
        group=size.group,
        tying="orbit" if path == "tied" else "none",
        prototypes=size.features // size.group_order if path == "tied" else None,
        dict_size=size.features,
        k=size.k,
        activation="l1" if path == "dense_l1" else "topk",
        l1_coefficient=L1_COEFFICIENT,
        l1_warmup_share=0,
        dtype="bfloat16" if fast == torch.bfloat16 else "float32",
        optimiser="lazy" if path == "sparse_lazy" else "adam",
        aux_k=0,
        dead_after_samples=NEVER,
        steps=NEVER,
        batch=size.batch,
        blocks_per_step=size.group_order,
        learning_rate=LEARNING_RATE,
        lr_warmup_share=0,
        lr_decay="none",
        clip_norm=0,
    )
    data, first = empty_data(size), FirstSamples.of(random_batches(size, "cpu")[0])
    trainer = Trainer(resolve(config, data), data, Worker(device=device), first)
    trainer.model.load_state_dict(random_weights(size, path, device))
    return trainer


def empty_data(size: Size, num_rows: int = CHUNK_ROWS) -> TrainingData:
    """An empty store that says what is trained on; the steps' samples do not come from it."""
    group = groups.parse(size.group)
    with TemporaryDirectory() as folder:
        run = RunFolder.at(folder)
        store.create(
            run,
            store.StoreSpec(
                num_rows=num_rows,
                shard_rows=CHUNK_ROWS,
                channels=size.channels,
                group=group,
                attrs={"config": {}, "config_hash": "benchmark"},
            ),
        )
        opened = store.open_store(run, unfinished=True)
    rows = np.arange(num_rows)
    return TrainingData(store=opened, blocks=np.arange(group.order), train_rows=rows, held_out_rows=rows[:0], scale=1.0)


def random_batches(size: Size, device: str) -> Tensor:
    """(N, B, G, C): no structure, so that all features are about equally active, the worst case for rows touched."""
    generator = torch.Generator(device).manual_seed(1)
    shape = (NUM_BATCHES, size.batch, size.group_order, size.channels)
    return torch.randn(shape, generator=generator, device=device)


def random_weights(size: Size, path: str, device: str) -> dict[str, Tensor]:
    """Encoder rows all different; decoder rows repeat, which does not change what a step costs."""
    generator = torch.Generator(device).manual_seed(0)
    order, channels, tied = size.group_order, size.channels, path == "tied"
    num_features, reads = size.features // (order if tied else 1), order if tied or path == "reference_all" else 1
    rows = torch.randn((min(512, num_features), order, channels), generator=generator, device=device) / size.row**0.5
    return {
        "W_enc": torch.randn((num_features, reads, channels), generator=generator, device=device)
        / (reads * channels) ** 0.5,
        "b_enc": torch.zeros(num_features, device=device),
        "W_dec": rows.repeat(-(-num_features // len(rows)), 1, 1)[:num_features],
        "b_dec": torch.zeros(channels, device=device) if tied else torch.zeros(order, channels, device=device),
    }


def flop(size: Size, path: str) -> float:
    """FLOP of the matrix products: encoder forward and weights; decoder forward, weights and codes."""
    reads = size.row if path == "reference_all" else size.channels
    return 2.0 * size.batch * size.features * (2 * reads + 3 * size.row)


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
    plain, ours = (
        PlainTraining(random_weights(size, "reference", "cpu"), size.k, LEARNING_RATE),
        new_trainer(size, "sparse", "cpu"),
    )
    expected, losses = [], []
    for acts_BGC in acts_NBGC:
        expected.append(float(plain.step(acts_BGC)))
        ours.advance(acts_BGC)
        losses.append(ours.log()["loss"])
    difference = max(abs(loss / other - 1) for loss, other in zip(losses, expected, strict=True))
    return {"sparse": difference, "fall": expected[-1] / expected[0]}


def _planted_batches(size: Size, count: int) -> Tensor:
    """(N, B, G, C) sums of a few of 64 directions."""
    generator = torch.Generator().manual_seed(2)
    truth_FGC = torch.randn(64, size.group_order, size.channels, generator=generator)
    code_NBF = torch.rand(count, size.batch, 64, generator=generator)
    code_NBF *= torch.rand(code_NBF.shape, generator=generator) < 0.06
    return torch.tensordot(code_NBF, truth_FGC, 1)


def _touched(size: Size, acts_BGC: Tensor, W_enc: Tensor) -> int:
    """U of one batch at the start."""
    ones_F = torch.ones(size.features, device=W_enc.device)
    return len(choose(acts_BGC[:, :1], W_enc, 0 * ones_F, ones_F, size.k).unique())


def _count(step: Callable[[Tensor], object], acts_BGC: Tensor) -> float:
    step(acts_BGC)
    return 1


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _matmul_flop_per_s(path: str, device: str) -> float:
    """FLOP a second of a square matrix product, in float32 for the plain paths, else in the fast type."""
    dtype = torch.float32 if path in PLAIN else _product_dtype(device)
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


def _product_dtype(device: str) -> torch.dtype:
    """What matrix products are fastest in; of the types that `jobs.train --dtype` knows."""
    fast = device == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
