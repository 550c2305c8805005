"""`jobs.train` on a Ray of two machines, of which one is drained and lost and another joins; then it is interrupted.

The run folder is the only argument. What the job says comes out, and between its lines what happens to the machines.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from gc_core.config import TrainConfig
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.train.checkpoint import checkpoints

NAME, EVERY = "elastic", 97
CONFIG = TrainConfig(
    dict_size=20, k=2, batch=64, lanes=4, steps=100_000, buffer_rows=512, learning_rate=1e-3, augment=False,
    checkpoint_every=EVERY,
)  # fmt: skip
"""Its checkpoints hardly ever stand at a tenth step, where those are written that a notice asks for."""
OPTIONS = [
    "--dict-size", "20", "--k", "2", "--batch", "64", "--lanes", "4", "--steps", "100000", "--buffer-rows", "512",
    "--learning-rate", "1e-3", "--no-augment", "--checkpoint-every", str(EVERY), "--keep.last", "1000",
    "--workers.num-workers", "2", "--workers.min-workers", "1", "--workers.grow-every-minutes", "0.1",
]  # fmt: skip
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000}
NOTICE_S = 15


def main() -> int:
    run = RunFolder.at(sys.argv[1])
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    doomed, _ = cluster.add_node(**NODE), cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False)
    job = Job(run, f"{cluster.address}")
    try:
        machines_come_and_go(cluster, doomed, run.crosscoder(NAME), job)
        job.process.send_signal(signal.SIGINT)
        return job.process.wait()
    finally:
        job.process.kill()
        ray.shutdown()
        cluster.shutdown()


def machines_come_and_go(cluster: Cluster, doomed: Any, folder: Location, job: "Job") -> None:
    """A notice, the loss, and a machine that takes its place."""
    job.once(lambda: steps_of(folder))
    drain(cluster, doomed)
    kept = job.once(lambda: [step for step in steps_of(folder) if step % EVERY])
    cluster.remove_node(doomed, allow_graceful=False)
    print(f"a machine was lost after a checkpoint of step {kept[0]}", flush=True)
    job.once(lambda: "1 of 2 workers" in job.said and steps_of(folder)[-1] > kept[0])
    cluster.add_node(**NODE)
    print("a machine joined", flush=True)
    job.once(lambda: "2 of 2 workers" in job.said)
    most = steps_of(folder)[-1]
    job.once(lambda: steps_of(folder)[-1] > most)


class Job:
    """The training, and what it said so far."""

    def __init__(self, run: RunFolder, address: str) -> None:
        command = [sys.executable, "-m", "jobs.train", "--run", run.url, "--name", NAME, *OPTIONS]
        self.process = subprocess.Popen(
            command, env={**os.environ, "RAY_ADDRESS": address}, stdout=subprocess.PIPE, text=True
        )
        self.said = ""
        threading.Thread(target=self._listen, daemon=True).start()

    def once(self, there: Callable[[], Any]) -> Any:
        """What that gives, as soon as it is something; RuntimeError if the job ends before."""
        while not (found := there()):
            if self.process.poll() is not None:
                raise RuntimeError(f"the job ended with {self.process.returncode}")
            time.sleep(0.2)
        return found

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            self.said += line
            print(line, end="", flush=True)


def steps_of(folder: Location) -> list[int]:
    """Of all checkpoints so far."""
    return [each.step for each in checkpoints(folder / "checkpoints")]


def drain(cluster: Cluster, node: Any) -> None:
    """Tell the cluster that it will lose a machine, as after a spot notice."""
    named = {each["ObjectStoreSocketName"]: each["NodeID"] for each in ray.nodes()}
    told = ["--node-id", named[node.plasma_store_socket_name], "--deadline-remaining-seconds", str(NOTICE_S)]
    why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot notice"]
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--address", f"{cluster.address}", *told, *why]
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
