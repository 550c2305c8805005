"""How much interpolation changes blocks, and what `--resample-all` does about it.

    python -m infra.bench artefacts [--backbone inceptionv1 --weights PATH] [--json FILE]

Of D_32's elements 8 are exact and 56 are interpolated, which blurs a little. A block that owes something to being
sharp stands out from its neighbours, one step of rotation before and after it. So every block is compared with the
mean of its two neighbours, in two ways: within the usual blocks, and with the blocks of `--resample-all`, which lie
half a step before and after it and were all interpolated. What exact elements differ more than the others is the
artefact; with `--resample-all` the elements at the same places must not differ more.

Letters: N centres, G group elements, C channels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from gc_core import groups, harvest
from gc_core.backbones import AnyBackbone
from gc_core.config import HarvestConfig
from gc_core.groups import Group
from gc_core.harvest.centres import uniform_centres
from gc_core.images import decode
from gc_core.transforms import Interpolation, Resampling
from infra.bench import images
from infra.bench.results import write_results
from jobs.common import console
from jobs.common.options import cli

RESIZE_PX = 256
KERNELS: tuple[Interpolation, ...] = ("bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True)
class ArtefactReport:
    """Compare exact and interpolated elements on the built-in photographs."""

    backbone: str = "googlenet"
    """`googlenet` or `inceptionv1`."""
    weights: str | None = None
    """Weights of the backbone, as in a harvest."""
    group: str = "D32"
    """Any group with interpolated elements."""
    centres_per_image: int = 4
    """Samples from each of the photographs."""
    json: Path | None = None
    """Write the results here, as one flat object."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench artefacts`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(ArtefactReport, prog="python -m infra.bench artefacts", args=args, description=__doc__)
        by_kernel = {kernel: compare(options, kernel) for kernel in KERNELS}
        if options.json is not None:
            flat = {f"{kernel}_{name}": value for kernel, values in by_kernel.items() for name, value in values.items()}
            write_results(options.json, flat)
        show(by_kernel)


def compare(options: ArtefactReport, kernel: Interpolation) -> dict[str, float]:
    """Medians over samples and elements, of exact elements and of the others."""
    config = HarvestConfig(
        backbone=options.backbone, weights=options.weights, group=options.group, resample_all=True, dtype="float32"
    )
    group, network = groups.parse(config.group), harvest.load_backbone(config, "cpu")
    usual_NGC, control_NGC = (
        _blocks(options, group, network, Resampling(interpolation=kernel, half_step=half_step))
        for half_step in (False, True)
    )
    comparisons = {
        "usual": (usual_NGC, neighbours(usual_NGC, group)),
        "resample_all": (control_NGC, neighbours(control_NGC, group)),
        "usual_to_resample_all": (usual_NGC, half_a_step_away(control_NGC, group)),
    }
    exact_G = torch.from_numpy(4 * group.turns % group.n == 0)
    medians: dict[str, float] = {}
    for name, (blocks_NGC, around_NGC) in comparisons.items():
        for kind, elements_G in (("exact", exact_G), ("others", ~exact_G)):
            measured = differences(blocks_NGC[:, elements_G], around_NGC[:, elements_G])
            medians |= {f"{name}_{kind}_{what}": value for what, value in measured.items()}
    return medians


def neighbours(acts_NGC: Tensor, group: Group) -> Tensor:
    """Mean, for each element, of the blocks one step of rotation before and after it."""
    before, after = _turned_by(group, -1), _turned_by(group, 1)
    return (acts_NGC[:, before] + acts_NGC[:, after]) / 2


def half_a_step_away(control_NGC: Tensor, group: Group) -> Tensor:
    """Mean, for each element g, of the blocks of `half_step` that lie half a step before and after it.

    They are r^(k + 1/2) at index r^k, but r^(k - 1/2) m at index r^k m.
    """
    mirrored = torch.from_numpy(group.mirrored)
    other = torch.where(mirrored, _turned_by(group, 1), _turned_by(group, -1))
    return (control_NGC + control_NGC[:, other]) / 2


def differences(blocks_NGC: Tensor, around_NGC: Tensor) -> dict[str, float]:
    """Medians of: the relative change, the cosine, and the norm over the norm around it (1 where neither is larger)."""
    norm_NG = blocks_NGC.norm(dim=-1)
    return {
        "change": float(((blocks_NGC - around_NGC).norm(dim=-1) / norm_NG).median()),
        "cosine": float(torch.cosine_similarity(blocks_NGC, around_NGC, dim=-1).median()),
        "norm": float((norm_NG / around_NGC.norm(dim=-1)).median()),
    }


def show(by_kernel: dict[str, dict[str, float]]) -> None:
    """One row for each comparison."""
    table = Table(title="a block and the mean of its neighbours (medians)")
    headings = ("kernel", "blocks", "neighbours", "elements", "relative change", "cosine", "ratio of norms")
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="left" if position < 4 else "right")
    names = {
        "usual": ("usual", "usual, a step away"),
        "resample_all": ("resample-all", "resample-all, a step away"),
        "usual_to_resample_all": ("usual", "resample-all, half a step away"),
    }
    for kernel, values in by_kernel.items():
        for name, (blocks, around) in names.items():
            for kind in ("exact", "others"):
                change, cosine, norm = (values[f"{name}_{kind}_{what}"] for what in ("change", "cosine", "norm"))
                place = kind if name != "resample_all" or kind == "others" else "at the exact ones' places"
                table.add_row(kernel, blocks, around, place, f"{change:.4f}", f"{cosine:.4f}", f"{norm:.4f}")
    console.console.print(table)


def _blocks(options: ArtefactReport, group: Group, network: AnyBackbone, resampling: Resampling) -> Tensor:
    """(N, G, C) at the same centres of the built-in photographs for every resampling."""
    widest = Resampling(interpolation="bicubic", half_step=True)
    room_px, parts = harvest.field_window_px(group, network, widest), []
    for number, content in enumerate(images.jpegs()):
        pixels_CHW, rng = decode(content, RESIZE_PX), np.random.default_rng(number)
        _, height, width = pixels_CHW.shape
        centres_N2 = uniform_centres(height, width, room_px, options.centres_per_image, rng)
        parts.append(harvest.group_activations(pixels_CHW, centres_N2, group, network, resampling=resampling))
    return torch.cat(parts)


def _turned_by(group: Group, steps: int) -> Tensor:
    """The index of r^steps g for each element g."""
    return torch.from_numpy((group.turns + steps) % group.n + group.n * group.mirrored)
