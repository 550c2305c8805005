"""What gc_core.families.communities uses of igraph, which ships no types."""

from collections.abc import Sequence
from random import Random
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

class Layout:
    coords: list[list[float]]

class Graph:
    def __init__(self, n: int, edges: NDArray[np.int64]) -> None: ...
    def layout_umap(self, *, dist: Sequence[float], seed: list[list[float]]) -> Layout: ...

def set_random_number_generator(generator: Random | ModuleType) -> None: ...
