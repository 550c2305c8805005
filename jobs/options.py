"""Command-line options that decide where and how fast a job runs, never what it computes."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Resources of a stage."""

    num_workers: int | None = None
    """Workers; None for one per GPU of the cluster, or without GPUs one per CPU."""
    gpus_per_worker: float | None = None
    """GPUs of each worker; None for 1 where the cluster has GPUs now, else 0. Give 1 where GPU nodes start on
    demand."""
    cpus_per_worker: float = 1
    """CPUs reserved for each worker."""
    dict_shards: int | None = 1
    """Training only: workers that split each dictionary among them (features and all that belongs to them), for
    dictionaries that one worker cannot hold; divides num_workers. None for the number that the planner recommends."""

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise ValueError(f"num_workers: found {self.num_workers}, expected at least 1")
        if self.dict_shards is not None and self.dict_shards < 1:
            raise ValueError(f"dict_shards: found {self.dict_shards}, expected at least 1, or None")

    def resolve(self, *, num_cpus: int, num_gpus: int) -> "Workers":
        """The same with every None decided for a cluster of this size."""
        gpus = (1.0 if num_gpus else 0.0) if self.gpus_per_worker is None else self.gpus_per_worker
        fitting = num_gpus // gpus if gpus else num_cpus // self.cpus_per_worker
        number = self.num_workers or max(1, int(fitting))
        return replace(self, num_workers=number, gpus_per_worker=gpus)
