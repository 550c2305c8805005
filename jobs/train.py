"""Stage 2: fit a group crosscoder to a harvested run (Ray Train).

    python -m jobs.train --run RUN --dict-size 4096
    python -m jobs.train --run RUN --group trivial      the plain autoencoder (SAE) to compare with

Continues from the last checkpoint where an earlier, interrupted run of the same command stopped.
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import ray
import ray.train
import ray.train.torch
import torch
import tyro
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from gc_core import objects, s3
from gc_core import train as training
from gc_core.checkpoint import save_checkpoint, write_metrics
from gc_core.config import TrainConfig
from gc_core.run_folder import RunFolder, read_json, write_json
from jobs import cluster, console
from jobs.options import Workers

MAX_FAILURES = 3
POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Fit a group crosscoder to a harvested run."""

    run: str
    """The run folder that `jobs.harvest` made: a path or URL."""
    name: str | None = None
    """Name of the crosscoder inside the run; None for one made of the method and the size, such as topk-1024."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    workers: Workers = field(default_factory=Workers)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.train`."""
    with console.one_line_errors(remedy="The same command continues from the last checkpoint."):
        job = tyro.cli(TrainJob, prog="python -m jobs.train", args=args, description=__doc__)
        with cluster.connect():
            console.summary("trained", run_train(RunFolder.at(job.run), job.name, job.config, job.workers)[1])


def default_name(config: TrainConfig, store_group: str) -> str:
    """Of a resolved config: `topk-1024`, with `-sae` for the trivial group and `-D_16` for a part of the store's."""
    part = "" if config.group == store_group else "-sae" if config.group == "trivial" else f"-{config.group}"
    return f"{config.activation}-{config.dict_size}{part}"


def run_train(
    run: RunFolder, name: str | None, config: TrainConfig, workers: Workers
) -> tuple[str, list[tuple[str, str]]]:
    """Train unless it was done before; the crosscoder's name, and rows of the summary."""
    data = training.open_data(run, config)
    resolved = training.resolve(config, data)
    name = name or default_name(resolved, data.store.group.name)
    folder = run.crosscoder(name)
    results = _claim(folder, resolved)
    if results is None:
        _fit(run, name, resolved, _placement(workers))
        results = read_json(folder, "config.json")["results"]
    features = f"{resolved.dict_size:,} features over {resolved.group}"
    held_out = f"held-out FVU {results['held_out_fvu']:.3f} ({len(data.held_out_rows):,} samples)"
    return name, [
        ("crosscoder", f"{name}: {features}, {len(data.train_rows):,} samples to train on"),
        ("unexplained", f"{held_out}, in training {results['fvu']:.3f}"),
        ("sparsity", f"L0 {results['l0']:.1f}, dead {results['dead_share']:.1%}"),
        ("weights", objects.join(folder, "model.safetensors")),
        ("metrics", objects.join(folder, "metrics.parquet")),
    ]


def _claim(folder: str, config: TrainConfig) -> dict[str, float] | None:
    """Results if this very crosscoder is finished; else None, with the config written so that no other takes the
    name."""
    try:
        known = read_json(folder, "config.json")
    except FileNotFoundError:
        write_json(folder, "config.json", {"train": config.to_json()})
        return None
    other = TrainConfig.from_json(known["train"])
    if other != config:
        changed = "; ".join(config.differences(other))
        raise ValueError(
            f"{folder}: was trained with other options ({changed}); choose another --name, or the same options"
        )
    return known.get("results")


def _placement(workers: Workers) -> Workers:
    """One worker on all CPUs where there is no GPU: threads share a batch better than processes that exchange
    gradients."""
    gpus = cluster.num_gpus()
    if gpus or workers.num_workers or workers.gpus_per_worker:
        return workers.resolve(num_cpus=cluster.num_cpus(), num_gpus=gpus)
    return Workers(num_workers=1, gpus_per_worker=0, cpus_per_worker=cluster.num_cpus())


def _fit(run: RunFolder, name: str, config: TrainConfig, workers: Workers) -> None:
    board = _Board.remote()
    trainer = TorchTrainer(
        _train_loop,
        train_loop_config={
            "run": run.url,
            "name": name,
            "config": config.to_json(),
            "board": board,
            "threads": int(workers.cpus_per_worker),
        },
        scaling_config=ScalingConfig(
            num_workers=workers.num_workers or 1,
            use_gpu=bool(workers.gpus_per_worker),
            resources_per_worker={
                "CPU": workers.cpus_per_worker,
                **({"GPU": workers.gpus_per_worker} if workers.gpus_per_worker else {}),
            },
        ),
        run_config=RunConfig(
            name="checkpoints",
            storage_path=objects.without_scheme(run.crosscoder(name)),
            storage_filesystem=None if objects.is_local(run.url) else s3.file_system(),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    with _shown(board, config):
        trainer.fit()


@contextlib.contextmanager
def _shown(board: Any, config: TrainConfig) -> Iterator[None]:
    """Progress from the workers' board, until the block ends."""
    stop = threading.Event()
    with console.progress("train", config.steps or 0, "steps") as meter:

        def follow() -> None:
            while not stop.wait(POLL_S):
                show()

        def show() -> None:
            if metrics := ray.get(board.read.remote()):
                note = f"FVU {metrics['fvu']:.3f}  L0 {metrics['l0']:.1f}  dead {metrics['dead_share']:.1%}"
                meter.set(metrics["step"], note)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        show()


@ray.remote(num_cpus=0)
class _Board:
    """The newest metrics, for whoever watches."""

    def __init__(self) -> None:
        self._metrics: dict[str, float] = {}

    def write(self, metrics: dict[str, float]) -> None:
        self._metrics = metrics

    def read(self) -> dict[str, float]:
        return self._metrics


def _train_loop(settings: dict[str, Any]) -> None:
    """What every training worker runs: `gc_core.train.train`, with Ray Train keeping the checkpoints."""
    run, config = RunFolder(settings["run"]), TrainConfig.from_json(settings["config"])
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(settings["threads"])
    place = training.Place(rank=context.get_world_rank(), num_workers=context.get_world_size(), device=str(device))

    def report(metrics: dict[str, float], checkpoint: training.Trainer | None) -> None:
        if place.rank == 0:
            settings["board"].write.remote(metrics)
        if checkpoint is not None:
            _report_checkpoint(metrics, checkpoint)

    resume = ray.train.get_checkpoint()
    with resume.as_directory() if resume else contextlib.nullcontext() as folder:
        earlier = Path(folder) if folder else None
        trainer = training.train(config, training.open_data(run, config), place, resume=earlier, report=report)
    if place.rank == 0:
        _export(run.crosscoder(settings["name"]), trainer)


def _report_checkpoint(metrics: dict[str, float], trainer: training.Trainer) -> None:
    """Rank 0 writes the state; all ranks wait for one another."""
    if trainer.place.rank:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), trainer.state(), trainer.metrics)
        ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))


def _export(folder: str, trainer: training.Trainer) -> None:
    """The finished model in the run folder; `results` in config.json are written last and mean that all is there."""
    write_metrics(folder, trainer.metrics)
    trainer.exported().save(folder)
    about = {"train": trainer.config.to_json(), "results": trainer.metrics[-1], "finished_unix_s": int(time.time())}
    write_json(folder, "config.json", {**read_json(folder, "config.json"), **about})


if __name__ == "__main__":
    main()
