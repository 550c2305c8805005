"""What gc_core.families.communities uses of leidenalg, which ships no types."""

from collections.abc import Iterator, Sequence

from igraph import Graph

class CPMVertexPartition:
    def __iter__(self) -> Iterator[list[int]]: ...

def find_partition(
    graph: Graph,
    partition_type: type[CPMVertexPartition],
    *,
    weights: Sequence[float],
    resolution_parameter: float,
    n_iterations: int,
    seed: int,
) -> CPMVertexPartition: ...
