"""What `infra.gpu_check` compares and measures, each part on whatever device it is given.

Letters: B samples, G group elements, C channels, N centres.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gc_core import analyse, groups, harvest
from gc_core.config import AnalyseConfig, HarvestConfig, TrainConfig
from gc_core.crosscoder import Activation
from gc_core.crosscoder.initialise import FirstSamples
from gc_core.parallel import Mesh
from gc_core.sparse import drop_row_gradient, row_gradient
from gc_core.train import Trainer, Worker, resolve
from gc_core.train.objective import Objective
from gc_core.train.planner import OVERHEAD_BYTES, demand_of, plan
from infra.bench import machine
from infra.bench.training import NEVER, Size, empty_data, flop, least_bytes, new_trainer, random_batches

MOST_ERROR_FP32, LEAST_COSINE_FAST, MOST_ERROR_OF_GRADIENTS, MOST_ERROR_OF_FIGURES = 1e-4, 0.9995, 1e-3, 1e-3
STEPS = 3
Tying = Literal["none", "orbit"]
COPIED_BYTES = 2**28

SPECIFIED: dict[str, tuple[float, float]] = {
    "H200": (4800, 989),
    "H100 80GB HBM3": (3350, 989),
    "A100-SXM4-80GB": (2039, 312),
    "A100-SXM4-40GB": (1555, 312),
    "L40S": (864, 362),
    "NVIDIA L4": (300, 121),
    "Tesla T4": (320, 65),
}
"""GB/s of memory, and TFLOP/s of matrix products in half precision without sparsity, as NVIDIA's data sheets have them;
by a part of the name that PyTorch reports, the more particular ones first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    part: str
    what: str
    found: float | None
    """None where an error came before the number."""
    unit: str = ""
    expected: str = ""
    """What decides, or what the number is to be read beside."""
    passed: bool | None = None
    """None where the number is told and not judged."""


def harvest_agrees(device: str, group: str = "D32") -> Iterator[Finding]:
    """Blocks of the bundled network on the device, beside the CPU's in float32."""
    expected_NGC = _blocks("cpu", "float32", group)
    error = _largest_of_blocks(_blocks(device, "float32", group), expected_NGC)
    yield _at_most("harvest", "float32 blocks, largest relative error", error, MOST_ERROR_FP32)
    fast_NGC = _blocks(device, "auto", group)
    cosine = float(torch.cosine_similarity(fast_NGC, expected_NGC, dim=-1).median())
    yield Finding(
        part="harvest",
        what="blocks in the device's own type, median cosine",
        found=cosine,
        expected=f"at least {LEAST_COSINE_FAST}",
        passed=cosine >= LEAST_COSINE_FAST,
    )


def steps_agree(device: str, size: Size) -> Iterator[Finding]:
    """Loss and gradient of the first step and the loss of some, of every kind of crosscoder, beside the CPU's."""
    for tying, activation in product(get_args(Tying), get_args(Activation)):
        config = _config(size, tying=tying, activation=activation)
        on_cpu, on_device = _trainer(config, size, "cpu"), _trainer(config, size, device)
        on_device.model.load_state_dict(on_cpu.model.state_dict())
        kind = f"{'tied ' if tying == 'orbit' else ''}{activation}"
        error = _relative(_gradient(on_device, size), _gradient(on_cpu, size))
        yield _at_most("step", f"{kind}: gradient, relative error", error, MOST_ERROR_OF_GRADIENTS)
        loss, other = (_loss_after_steps(trainer, size) for trainer in (on_device, on_cpu))
        what = f"{kind}: mean loss of {STEPS} steps, relative error"
        yield _at_most("step", what, abs(loss / other - 1), MOST_ERROR_OF_FIGURES)


def analysis_agrees(device: str, size: Size) -> Iterator[Finding]:
    """Symmetry of features with random weights, and its evidence, beside the CPU's."""
    trainer = _trainer(_config(size, tying="none", activation="topk"), size, "cpu")
    features = np.arange(min(64, size.features))
    config = replace(AnalyseConfig().resolved(tied=False), surrogates=99)

    def judged(where: str) -> tuple[analyse.FeatureSymmetry, np.ndarray]:
        model = trainer.model.to(where)
        described = analyse.describe_features(model, features)
        pooled = analyse.summed_alignment(described, np.ones(len(features), bool))
        return described, analyse.evidence_of_features(model, features, pooled, config).p_FQ

    (expected, p_FQ), (found, other_FQ) = judged("cpu"), judged(device)
    differences = {
        "self-similarity": np.abs(found.self_similarity_FG - expected.self_similarity_FG).max(),
        "spectrum": np.abs(found.spectrum_FR - expected.spectrum_FR).max(),
        "p-values, mean": np.nanmean(np.abs(other_FQ - p_FQ)),
    }
    for what, difference in differences.items():
        yield _at_most("analysis", f"{what}, difference", float(difference), MOST_ERROR_OF_FIGURES)


def limits(device: str) -> Iterator[Finding]:
    """What the device can do at best, measured and as specified."""
    of_memory, of_products = copied_gb_per_s(device), product_tflop_per_s(device)
    name = machine.device_name(device)
    known = next((each for part, each in SPECIFIED.items() if part in name), None)
    gb, tflop = (f"{each:,.0f} specified" for each in known) if known else ("no specification known",) * 2
    yield Finding(part="limits", what="memory copied, read and written", found=of_memory, unit="GB/s", expected=gb)
    yield Finding(part="limits", what="bfloat16 products", found=of_products, unit="TFLOP/s", expected=tflop)


def harvest_rate(device: str, seconds: float, group: str = "D32", centres: int = 256) -> Iterator[Finding]:
    """Samples a second of the bundled network, decoding and writing left out."""
    backbone, parsed = harvest.load_backbone(HarvestConfig(), device), groups.parse(group)
    centres_N2 = np.full((centres, 2), 128, np.int32)

    def work() -> float:
        harvest.group_activations(_image_CHW(), centres_N2, parsed, backbone)
        return centres

    work()
    found = machine.rate(work, seconds, device).per_s
    yield Finding(part="rate", what=f"harvest under {group}", found=found, unit="samples/s")


def step_rates(device: str, size: Size, seconds: float) -> Iterator[Finding]:
    """Samples a second of training steps, what they move or multiply, and their memory beside the planner's."""
    for path in ("sparse", "sparse_lazy", "dense_l1", "tied"):
        _forget_peak(device)
        trainer, acts_NBGC = new_trainer(size, path, device), random_batches(size, device)
        for acts_BGC in acts_NBGC:
            trainer.advance(acts_BGC)
        step_s = 1 / machine.rate(_stepping(trainer, acts_NBGC), seconds, device).per_s
        what = f"{path} step, {size.features:,} features of {size.group_order} x {size.channels}"
        yield Finding(part="rate", what=what, found=size.batch / step_s, unit="samples/s")
        if path == "dense_l1":
            computed = flop(size, path) / step_s / 1e12
            yield Finding(part="rate", what=f"{path} step, products", found=computed, unit="TFLOP/s")
        elif path == "sparse":
            moved = least_bytes(size, path, size.features) / step_s / 1e9
            yield Finding(part="rate", what=f"{path} step, bytes that must move", found=moved, unit="GB/s")
        yield from _memory(path, trainer, acts_NBGC, device)


def copied_gb_per_s(device: str, num_bytes: int = COPIED_BYTES) -> float:
    """Read and written bytes together."""
    source = torch.zeros(num_bytes // 4, device=device)
    target = torch.ones_like(source)

    def copy() -> float:
        target.copy_(source)
        return 2 * num_bytes / 1e9

    copy()
    return max(machine.rate(copy, 0, device).per_s for _ in range(7))


def product_tflop_per_s(device: str) -> float:
    """Of square matrices in bfloat16."""
    multiply = machine.matmul_gflop(device, torch.bfloat16)
    multiply()
    return max(machine.rate(multiply, 0, device).per_s for _ in range(5)) / 1e3


def _memory(path: str, trainer: Trainer, acts_NBGC: Tensor, device: str) -> Iterator[Finding]:
    if device == "cpu":  # whose peak is that of the whole process
        return
    planned = plan(demand_of([trainer.config], trainer.data.shape, on_host=False), Mesh()).memory_bytes - OVERHEAD_BYTES
    peak = torch.cuda.max_memory_allocated() - acts_NBGC[1:].nbytes  # a training has one batch there
    yield Finding(
        part="memory",
        what=f"{path} step, peak",
        found=peak / 1e9,
        unit="GB",
        expected=f"at most {planned / 1e9:.2f} planned",
        passed=peak <= planned,
    )


def _config(size: Size, *, tying: Tying, activation: Activation) -> TrainConfig:
    return TrainConfig(
        group=size.group,
        tying=tying,
        activation=activation,
        dict_size=size.features,
        k=size.k,
        batch=size.batch,
        steps=NEVER,
        aux_k=0,
        dead_after_samples=NEVER,
        lr_warmup_share=0,
        augment=False,
    )


def _trainer(config: TrainConfig, size: Size, device: str) -> Trainer:
    data, first = empty_data(size), FirstSamples.of(random_batches(size, "cpu")[0])
    return Trainer(resolve(config, data), data, Worker(device=device), first)


def _gradient(trainer: Trainer, size: Size) -> Tensor:
    """Of all parameters, one behind the other, on the CPU; then forgotten."""
    acts_BGC = random_batches(size, "cpu")[0].to(trainer.worker.device)
    Objective(trainer.model, trainer.config, trainer.worker)(acts_BGC, trainer.dead_F, 0).total.backward()
    found = []
    for parameter in trainer.model.parameters():
        rows = row_gradient(parameter)
        grad = parameter.grad if rows is None else rows.dense()
        found.append((torch.zeros_like(parameter) if grad is None else grad).flatten().cpu())
        parameter.grad = None
        drop_row_gradient(parameter)
    return torch.cat(found)


def _loss_after_steps(trainer: Trainer, size: Size) -> float:
    for acts_BGC in random_batches(size, "cpu")[:STEPS]:
        trainer.advance(acts_BGC.to(trainer.worker.device))
    return trainer.log()["loss"]


def _stepping(trainer: Trainer, acts_NBGC: Tensor) -> Callable[[], float]:
    def step() -> float:
        trainer.advance(acts_NBGC[trainer.step % len(acts_NBGC)])
        return 1

    return step


def _blocks(device: str, dtype: Literal["auto", "float32"], group: str) -> Tensor:
    backbone = harvest.load_backbone(HarvestConfig(dtype=dtype), device)
    centres_N2 = np.array([[128, 128], [90, 140], [151, 77]], np.int32)
    return harvest.group_activations(_image_CHW(), centres_N2, groups.parse(group), backbone).float().cpu()


def _image_CHW() -> np.ndarray:
    """Arcs and gratings would do as well; noise has every frequency."""
    return np.random.default_rng(0).integers(0, 256, (3, 256, 256), np.uint8)


def _largest_of_blocks(found_NGC: Tensor, expected_NGC: Tensor) -> float:
    return float(((found_NGC - expected_NGC).norm(dim=-1) / expected_NGC.norm(dim=-1)).max())


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def _at_most(part: str, what: str, found: float, most: float) -> Finding:
    passed = math.isfinite(found) and found <= most
    return Finding(part=part, what=what, found=found, expected=f"at most {most:g}", passed=passed)


def _forget_peak(device: str) -> None:
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
