"""How workers share the work: replicas take different samples, the shards of a replica different features."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Workers as `replicas` x `shards`; made with no arguments, one worker alone."""

    replicas: int = 1
    """Groups of workers that take different samples."""
    shards: int = 1
    """Workers of such a group, which hold different features of every dictionary."""
    sharded_optimiser: bool = False
    """Whether replicas share out the optimiser's state of the features that they hold alike."""

    @staticmethod
    def of(num_workers: int, shards: int, *, sharded_optimiser: bool = False) -> "Mesh":
        """The mesh of so many workers.

        Raises:
            ValueError: they cannot be shared out to the shards.
        """
        if num_workers % shards:
            found = f"dict_shards: found {shards}, expected a divisor of the {num_workers} worker(s)"
            raise ValueError(f"{found}; choose another --workers.num-workers or --workers.dict-shards")
        return Mesh(replicas=num_workers // shards, shards=shards, sharded_optimiser=sharded_optimiser)

    @property
    def num_workers(self) -> int:
        """All of them."""
        return self.replicas * self.shards

    def within(self, num_workers: int, *, lanes: int) -> "Mesh | None":
        """The largest mesh, with as many shards as this one and no more replicas, of at most so many workers to which
        so many lanes are shared out evenly; None where there are too few for one replica."""
        most = min(num_workers // self.shards, self.replicas)
        fitting = (count for count in range(most, 0, -1) if lanes % count == 0)
        replicas = next(fitting, None)
        return None if replicas is None else replace(self, replicas=replicas)

    def obstacle(self, *, lanes: int, features: Mapping[str, int]) -> str | None:
        """Why lanes, or dictionaries of so many rows (by the name of the option), cannot be shared out; None if they
        can."""
        if lanes % self.replicas:
            return f"lanes: found {lanes}, expected a multiple of {self.replicas} replicas"
        for name, size in features.items():
            if size % self.shards:
                return f"{name}: found {size:,}, expected a multiple of {self.shards} dict_shards"
            if self.sharded_optimiser and size % self.num_workers:
                return f"{name}: found {size:,}, expected a multiple of {self.num_workers} workers (sharded_optimiser)"
        return None

    def __str__(self) -> str:
        return f"{self.replicas} x {self.shards}"


def even_part(total: int, parts: int, index: int) -> range:
    """The `index`-th of equal parts of [0, total).

    Raises:
        ValueError: there are no equal parts; `Mesh.obstacle` tells so before anything starts.
    """
    if total % parts:
        raise ValueError(f"found {total:,} rows, expected a multiple of {parts} workers that share them")
    size = total // parts
    return range(index * size, (index + 1) * size)
