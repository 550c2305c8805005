"""What grows with rows and features outside training and analysis, next to the plain way.

    python -m infra.bench scale [--rows 16384 65536] [--features 1024 4096] [--rounds 3] [--json FILE]

Each visit is in a process of its own (`infra.bench.visits`):

- `held-out`: reading the held-out rows of a store of so many. Ours: they stand together, behind all others. Plain: as
  many, spread over the store, each of which a whole chunk is decoded for.
- `export`: a hub folder of so many features. Ours: tensor by tensor. Plain: the whole model is copied first.
- `spectrum`: energies in the irreducible representations. Ours: real rows. Plain: complex products.
- `score`: reconstructing samples by top-k. Ours: what is active alone is decoded. Plain: all features are.
- `match`: one-to-one partners in another dictionary. Ours: among the nearest. Plain: among all, as up to 4,096.

Letters: N rows, B samples, F features, G group elements, C channels.
"""

import copy
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gc_core import export, groups, store
from gc_core.crosscoder import Crosscoder, CrosscoderShape
from gc_core.evaluate.matching import matched_among_nearest
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.stream import read_rows
from gc_core.symmetry import spectrum
from infra.bench.machine import device_name
from infra.bench.results import write_results
from infra.bench.visits import Peak, Visit, in_a_fresh_process, measured, show
from jobs.common import console
from jobs.common.options import cli

GROUP, CHANNELS = groups.parse("D8"), 64
SHARD_ROWS, HELD_OUT_SHARE = 4096, 1 / 32
SAMPLES, K = 256, 24
ROWS_AT_ONCE = 256
Ways = Mapping[str, Callable[[], object]]
"""What each way does; what it gives is in memory when its peak is looked at."""
BY_ROWS, BY_FEATURES = ("held-out",), ("export", "spectrum", "score", "match")


@dataclass(frozen=True, kw_only=True)
class ScaleBench:
    """Measure what grows."""

    rows: tuple[int, ...] = (16_384, 65_536)
    """Rows of the stores, multiples of 4,096."""
    features: tuple[int, ...] = (1024, 4096)
    rounds: int = 3
    json: Path | None = None
    """Write the results here: a list of flat objects, one a task and size."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench scale`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(ScaleBench, prog="python -m infra.bench scale", args=args, description=__doc__)
        cases = [(task, size) for task in BY_ROWS for size in options.rows]
        cases += [(task, size) for task in BY_FEATURES for size in options.features]
        with tempfile.TemporaryDirectory() as folder:
            for rows in options.rows:
                _write_store(RunFolder.at(f"{folder}/{rows}"), rows)
            rows = measured(
                cases,
                rounds=options.rounds,
                visit=lambda task, size, way: in_a_fresh_process(visit, task, size, way, folder),
            )
        if options.json is not None:
            write_results(options.json, [{"device": device_name("cpu"), **row} for row in rows])
        show(rows, f"over {GROUP.name}, {CHANNELS} channels, {device_name('cpu')}", "rows or features")


def visit(task: str, size: int, way: str, folder: str) -> Visit:
    """One task, one way, in this process."""
    torch.set_num_threads(1)
    work = _TASKS[task](size, folder)  # what both ways begin with
    peak = Peak()
    start = time.perf_counter()
    with peak.watched():
        kept = work[way]()
    peak.look()
    del kept
    return Visit(seconds=time.perf_counter() - start, peak_bytes=peak.num_bytes)


@torch.no_grad()
def plain_spectrum(decoder_FGC: Tensor) -> Tensor:
    """(F, R) energies, by the matrices as they are."""
    energies = []
    for irrep in GROUP.irreps():
        matrix_GDD = torch.from_numpy(irrep.matrices).to(torch.complex64)
        coefficient = torch.einsum("gij,fgc->fijc", matrix_GDD, decoder_FGC.to(torch.complex64))
        energies.append(coefficient.abs().square().sum((1, 2, 3)) * irrep.dim / GROUP.order)
    return torch.stack(energies, 1)


def _held_out(num_rows: int, folder: str) -> Ways:
    opened, count = store.open_store(RunFolder.at(f"{folder}/{num_rows}")), round(num_rows * HELD_OUT_SHARE)
    last_N, spread_N = np.arange(num_rows - count, num_rows), np.arange(0, num_rows, round(1 / HELD_OUT_SHARE))
    blocks = np.arange(GROUP.order)
    return {"ours": lambda: read_rows(opened, last_N, blocks), "plain": lambda: read_rows(opened, spread_N, blocks)}


def _export(num_features: int, folder: str) -> Ways:
    model = _model(num_features)
    story = export.Story(name="bench", trained={}, store={}, evaluation=None)

    def write(its: Crosscoder) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            export.write_hub(Location.parse(out), its, story)

    return {"ours": lambda: write(model), "plain": lambda: write(copy.deepcopy(model))}


def _spectrum(num_features: int, folder: str) -> Ways:
    decoder_FGC = _model(num_features).W_dec.detach()
    return {"ours": lambda: spectrum(decoder_FGC, GROUP), "plain": lambda: plain_spectrum(decoder_FGC)}


def _score(num_features: int, folder: str) -> Ways:
    model = _model(num_features).requires_grad_(False)
    acts_BGC = torch.randn(SAMPLES, GROUP.order, CHANNELS, generator=torch.Generator().manual_seed(1))
    return {"ours": lambda: model.reconstruct(acts_BGC), "plain": lambda: model.decode(model.encode(acts_BGC))}


def _match(num_features: int, folder: str) -> Ways:
    rng = np.random.default_rng(0)
    # No twins: of two seeds hardly any feature has one.
    cosine_FJ = np.tanh(rng.normal(size=(num_features, num_features)) / 3).astype(np.float32)
    firsts = range(0, num_features, ROWS_AT_ONCE)

    def rows() -> Iterator[NDArray[np.float32]]:
        return (cosine_FJ[first : first + ROWS_AT_ONCE] for first in firsts)

    ours = partial(matched_among_nearest, rows, num_features, num_features)
    return {"ours": ours, "plain": lambda: linear_sum_assignment(cosine_FJ, maximize=True)}


def _model(num_features: int) -> Crosscoder:
    shape = CrosscoderShape(group=GROUP, channels=CHANNELS, dict_size=num_features, reads=(0,), activation="topk", k=K)
    model = Crosscoder.of(shape)
    for number, weights in enumerate((model.W_enc, model.W_dec)):
        torch.nn.init.normal_(weights, generator=torch.Generator().manual_seed(number))
    return model


def _write_store(run: RunFolder, num_rows: int) -> None:
    spec = store.StoreSpec(
        num_rows=num_rows,
        shard_rows=SHARD_ROWS,
        channels=CHANNELS,
        group=GROUP,
        attrs={"config": {}, "config_hash": "benchmark"},
        compression="zstd",
    )
    store.create(run, spec)
    numbers = np.random.default_rng(0).normal(size=(SHARD_ROWS, GROUP.order, CHANNELS))
    arrays = store.ShardArrays(
        activations=np.maximum(numbers, 0).astype(np.float16),
        image=np.arange(SHARD_ROWS),
        centre_yx=np.zeros((SHARD_ROWS, 2), np.int32),
    )
    for shard in range(num_rows // SHARD_ROWS):
        store.write_shard(run, shard, arrays, attempt="bench")
    store.finish(run)


_TASKS = {"held-out": _held_out, "export": _export, "spectrum": _spectrum, "score": _score, "match": _match}


if __name__ == "__main__":
    main()
