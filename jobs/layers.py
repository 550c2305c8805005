"""List a network's layers, and how each would be harvested.

python -m jobs.layers --backbone torchvision:resnet50 --weights random:0
"""

from dataclasses import dataclass

from gc_core import backbones
from gc_core.backbones.layer_table import LayerRow, layer_table
from gc_core.backbones.networks import load_network
from jobs.common import console
from jobs.common.options import cli


@dataclass(frozen=True, kw_only=True)
class LayersJob:
    """List a network's layers. No cluster is started."""

    backbone: str = "googlenet"
    """The network, as `jobs.harvest` takes it."""
    weights: str | None = None
    """Its weights, as `jobs.harvest` takes them; `random:0` downloads nothing, and the list is the same."""
    input_px: int | None = None
    """Side of the image that the network gets; None for what it was made for."""
    find: str = ""
    """Show only layers whose name has this in it."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.layers`."""
    with console.one_line_errors(remedy="Run the same command again."):
        job = cli(LayersJob, prog="python -m jobs.layers", args=args, description=__doc__)
        if job.backbone in backbones.NAMES:
            _named(job)
        else:
            _traced(job)


def _named(job: LayersJob) -> None:
    """The networks whose layers are written down."""
    weights = "random:0" if job.weights is None else job.weights
    names = backbones.load(job.backbone, weights=weights).layers
    layers = [backbones.load(job.backbone, weights=weights, layer=name) for name in names if job.find in name]
    rows = [[each.layer, f"{each.channels:,}", str(each.stride_px), f"{each.receptive_field_px} px"] for each in layers]
    console.table(job.backbone, ["layer", "channels", "stride px", "a unit sees"], rows)


def _traced(job: LayersJob) -> None:
    network = load_network(job.backbone, job.weights)
    rows, left_out = layer_table(network, input_px=job.input_px)
    side_px = job.input_px or network.input_px
    console.table(
        f"{job.backbone}, {side_px} px, {network.scaling.describe()}",
        ["layer", "module", "channels", "units", "stride px", "a unit sees", "MFLOP", "why not its field alone"],
        [_columns(row) for row in rows if job.find in row.name],
    )
    if left_out:
        console.say(
            f"not listed: {len(left_out)} modules that run never or more than once for an image, or put out something"
            f" else than one tensor of units ({', '.join(left_out[:4])}{', ...' if len(left_out) > 4 else ''})"
        )


def _columns(row: LayerRow) -> list[str]:
    return [
        row.name,
        row.kind,
        f"{row.channels:,}",
        row.units,
        "" if row.stride_px is None else str(row.stride_px),
        "the whole input" if row.field_px is None else f"{row.field_px} px",
        "" if row.mflop is None else f"{row.mflop:,.3g}" if row.mflop < 1000 else f"{row.mflop:,.0f}",
        row.why,
    ]


if __name__ == "__main__":
    main()
