"""Features and samples split over workers: which worker this is, what they tell each other, whose rows are whose."""

from gc_core.parallel.collectives import ALONE, Peers, Shards, peers_of, shards_of, sum_over_replicas
from gc_core.parallel.mesh import Mesh
from gc_core.parallel.worker import Worker, join

__all__ = ["ALONE", "Mesh", "Peers", "Shards", "Worker", "join", "peers_of", "shards_of", "sum_over_replicas"]
