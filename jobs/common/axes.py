"""Lists of a sweep on the command line: everything that `jobs.train` takes, and words as well as numbers in lists."""

from dataclasses import dataclass, field, fields
from typing import Any

from tyro.constructors import StructConstructorSpec, StructTypeInfo

from gc_core.config import TrainConfig
from gc_core.sweep.plan import AXES
from jobs.common.lists import REGISTRY, options_of_training

__all__ = ["REGISTRY", "Axes"]

MORE_HELP = " In a sweep one or several, with commas between them."
BLOCKS = "+"
"""What stands between numbers of blocks in a list of encoders: 0+8,all are two."""


@dataclass(frozen=True)
class Axes:
    """Options of a training by name, of which those of `gc_core.sweep.plan.AXES` are tuples."""

    options: dict[str, Any] = field(default_factory=lambda: _defaults())


def _defaults() -> dict[str, Any]:
    every = {each.name: each.default for each in fields(TrainConfig) if each.name != "steps_before"}
    return {name: (value,) if name in AXES else value for name, value in every.items()}


def _axes(**options: Any) -> Axes:
    blocks = tuple(each.replace(BLOCKS, ",") for each in options["encoder_reads"])
    return Axes({**options, "encoder_reads": blocks})


@REGISTRY.struct_rule
def _options(asked: StructTypeInfo) -> StructConstructorSpec | None:
    """Options of a `TrainConfig`, by the same names and defaults."""
    if asked.type is not Axes:
        return None
    return StructConstructorSpec(instantiate=_axes, fields=options_of_training(AXES, MORE_HELP))
