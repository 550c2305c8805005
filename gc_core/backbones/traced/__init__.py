"""A network's operations up to one layer, where each of its units looks, and how one unit is computed alone.

`exported.export` writes the operations down, `reach.analyse` finds the pixels that one unit depends on, and `program`
computes that unit with no padding.
"""

from gc_core.backbones.traced.exported import Exported, blank_images, export, the_tensor, watched
from gc_core.backbones.traced.operations import NotLocalError
from gc_core.backbones.traced.program import Program
from gc_core.backbones.traced.reach import Reach, analyse, ancestors

__all__ = [
    "Exported",
    "NotLocalError",
    "Program",
    "Reach",
    "analyse",
    "ancestors",
    "blank_images",
    "export",
    "the_tensor",
    "watched",
]
