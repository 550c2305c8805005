"""Harvests on a Ray of three nodes and removes one that computes, as a spot machine goes; the run folder is the only
argument."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import ray
from ray.cluster_utils import Cluster

from gc_core.config import HarvestConfig
from gc_core.io import objects
from gc_core.io.run_folder import RunFolder
from jobs.common.options import Workers
from jobs.harvest import run_harvest

CONFIG = HarvestConfig(images="stimuli", max_stimuli=3000, group="D1", layer="conv1", shard_rows=128, dtype="float32")
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}


def main() -> None:
    run = RunFolder.at(sys.argv[1])
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    doomed, _ = cluster.add_node(**NODE), cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        with ThreadPoolExecutor(1) as beside:
            removed = beside.submit(remove, cluster, doomed, run)
            run_harvest(run, CONFIG, Workers(num_workers=2))
            removed.result()
    finally:
        ray.shutdown()
        cluster.shutdown()


def remove(cluster: Cluster, doomed: object, run: RunFolder) -> None:
    """Once the first shard is there."""
    while not (done := objects.sizes(run.commits)):
        time.sleep(0.02)
    cluster.remove_node(doomed, allow_graceful=False)
    print(f"a node was removed after {len(done)} of 24 shards")


if __name__ == "__main__":
    main()
