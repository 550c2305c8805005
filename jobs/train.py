"""Stage 2: fit a group crosscoder to a harvested run (Ray Train).

    python -m jobs.train --run RUN --dict-size 4096
    python -m jobs.train --run RUN --group trivial              the plain autoencoder (SAE) to compare with
    python -m jobs.train --run RUN --dict-size 1024,4096        two sizes side by side, from one pass over the data
    python -m jobs.train --run RUN --name N --steps 3000        a finished one goes on, to 3,000 steps in all
    python -m jobs.train --run RUN --name M --init-from N       a new one begins with the weights of another

Continues from the last checkpoint where an earlier, interrupted run of the same command stopped, on as many workers as
it is given now.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import ray
import tyro
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from gc_core import train as training
from gc_core.config import ResolvedTrainConfig, TrainConfig
from gc_core.io import s3
from gc_core.io.lease import Lease
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder, read_trained
from gc_core.parallel.mesh import Mesh
from gc_core.train.loggers import check_installed
from gc_core.train.recovery import newest
from jobs.common import board, claims, cluster, console, interrupt, lists, meshes
from jobs.common.lists import TrainConfigs
from jobs.common.options import ResolvedWorkers, Workers, cli
from jobs.common.train_loop import LoopSettings, Upkeep, train_loop

MAX_FAILURES = 3


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Fit a group crosscoder to a harvested run."""

    run: str
    """The run folder that `jobs.harvest` made: a path or URL."""
    name: str | None = None
    """Name of the crosscoder inside the run; None for one made of the method and the size, such as topk-1024.
    With several crosscoders, what differs is added."""
    configs: Annotated[TrainConfigs, tyro.conf.arg(name="")] = field(default_factory=TrainConfigs)
    workers: Workers = field(default_factory=Workers)
    upkeep: Annotated[Upkeep, tyro.conf.arg(name="")] = field(default_factory=Upkeep)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.train`."""
    with console.one_line_errors(remedy="The same command continues from the last checkpoint."):
        prog = "python -m jobs.train"
        job = cli(TrainJob, prog=prog, args=args, description=__doc__, registry=lists.REGISTRY)
        with cluster.connect():
            run = RunFolder.at(job.run)
            for name, rows in run_train(run, job.name, job.configs.every, job.workers, job.upkeep).items():
                console.summary(f"trained {name}", rows)


def run_train(
    run: RunFolder,
    name: str | None,
    configs: Sequence[TrainConfig],
    workers: Workers,
    upkeep: Upkeep | None = None,
) -> dict[str, list[tuple[str, str]]]:
    """Train what was not trained before, side by side; rows of the summary by each crosscoder's name.

    Raises:
        ValueError: an option does not fit the store, a name is taken, a logger is not installed, or training diverged.
    """
    cluster.refuse_impossible(placement(workers))
    data = training.open_data(run, configs[0])
    names = lists.names_of([training.resolve(config, data) for config in configs], data.store.group.text, name)
    wanted = train_named(run, dict(zip(names, configs, strict=True)), data, workers, upkeep)
    return {each: _summary(run.crosscoder(each), config, data) for each, config in wanted.items()}


def train_named(
    run: RunFolder,
    configs: Mapping[str, TrainConfig],
    data: training.TrainingData,
    workers: Workers,
    upkeep: Upkeep | None = None,
    *,
    until: int | None = None,
) -> dict[str, ResolvedTrainConfig]:
    """Train what was not trained before, side by side, to its end or to a step; what was made of the configs, by the
    crosscoders' names.

    Raises:
        ValueError: as `run_train`.
    """
    upkeep = upkeep or Upkeep()
    check_installed(upkeep.loggers)
    resolved = {name: training.resolve(config, data) for name, config in configs.items()}

    def named() -> dict[str, ResolvedTrainConfig]:
        every = configs.items()
        return {
            each: claims.config_to_train(run.crosscoder(each), asked, resolved[each], data) for each, asked in every
        }

    to_do = [each for each, config in named().items() if not claims.is_finished(run.crosscoder(each), config)]
    with claims.at_work([run.crosscoder(each) for each in to_do], workers) as leases:
        wanted = named()  # another job may have done it, while this one waited
        unfinished = {each: wanted[each] for each in to_do if not claims.claim(run.crosscoder(each), wanted[each])}
        if unfinished:
            placed, mesh = _placed(list(unfinished.values()), workers, data)
            settings = LoopSettings(
                run=run,
                configs=unfinished,
                mesh=mesh,
                threads=placed.threads,
                board=board.put_up(),
                terms=tuple(each.term for each in leases),
                upkeep=upkeep,
                until=until,
            )
            fit(settings, placed, leases)
    return wanted


def _placed(
    configs: Sequence[ResolvedTrainConfig], workers: Workers, data: training.TrainingData
) -> tuple[ResolvedWorkers, Mesh]:
    """The workers and their mesh, once they can start."""
    wanted = placement(workers)
    cluster.require(wanted, 1)  # the mesh looks at the memory of a GPU
    mesh = meshes.decide(configs, wanted, data.shape)
    cluster.require(wanted, meshes.fewest_workers(configs, wanted, mesh, data.shape))
    return wanted, mesh


def _summary(folder: Location, config: ResolvedTrainConfig, data: training.TrainingData) -> list[tuple[str, str]]:
    _, results = read_trained(folder)
    features = f"{config.dict_size:,} features over {config.parsed_group.name}, {config.activation}"
    if config.tying == "orbit":
        invariant = f" ({config.invariant_prototypes:,} invariant)" if config.invariant_prototypes else ""
        features = f"{config.prototypes:,} prototypes{invariant}, {features}"
    turned = ", turned at random" if config.augment else ""
    return [
        ("crosscoder", f"{features}, {len(data.train_rows):,} samples to train on{turned}"),
        ("unexplained", f"{held_out_note(results)}; in training {_figure(results.get('fvu'))}"),
        ("sparsity", f"L0 {results['l0']:.1f}, dead {results['dead_share']:.1%}"),
        ("weights", f"{folder / 'model.safetensors'}"),
        ("metrics", f"{folder / 'metrics.parquet'}"),
    ]


def held_out_note(results: Mapping[str, float | None]) -> str:
    """The held-out score, what it rests on, and how far it may be off."""
    samples, images = results.get("held_out_samples"), results.get("held_out_images")
    rests_on = f" ({samples:,} samples of {images:,} images)" if samples is not None else ""
    low, high = results.get("held_out_fvu_low"), results.get("held_out_fvu_high")
    interval = "" if low is None or high is None else f", 95% interval over images {low:.3f} to {high:.3f}"
    return f"held-out FVU {_figure(results.get('held_out_fvu'))}{interval}{rests_on}"


def _figure(share: float | None) -> str:
    return f"{board.short(share)} (samples hardly vary, or there are none)" if share is None else board.short(share)


def placement(workers: Workers) -> ResolvedWorkers:
    """One worker on all CPUs of a machine where there is no GPU: threads share a batch better than processes that
    exchange gradients."""
    gpus = cluster.num_gpus()
    if not (gpus or workers.num_workers or workers.gpus_per_worker):
        workers = replace(workers, num_workers=1, gpus_per_worker=0, cpus_per_worker=cluster.most_cpus(ray.nodes()))
    return workers.resolve(num_cpus=cluster.num_cpus(), num_gpus=gpus)


def fit(settings: LoopSettings, workers: ResolvedWorkers, leases: Sequence[Lease]) -> None:
    """Train in Ray's workers until all steps are done, and draw how far they are.

    Raises:
        ValueError: training diverged. LostError: another process works in one of the folders by now.
    """
    trainer = _trainer(settings, workers)
    done = max((checkpoint.step for checkpoint in newest(list(settings.folders.values()))), default=0)
    with board.shown(settings.board, settings.last_step, done), board.ended(settings.board):
        # On this thread it would put a handler of its own over ours.
        interrupt.run_aside(trainer.fit, every_s=board.POLL_S, watch=lambda: [each.check() for each in leases])
    if error := ray.get(settings.board.user_error.remote()):
        raise ValueError(error)


def _trainer(settings: LoopSettings, workers: ResolvedWorkers) -> TorchTrainer:
    gpus, most = workers.gpus_per_worker, settings.mesh.num_workers
    fewest = min(workers.min_workers or most, most)
    return TorchTrainer(
        train_loop,
        train_loop_config={"settings": settings},
        scaling_config=ScalingConfig(
            num_workers=(fewest, most) if fewest < most else most,
            elastic_resize_monitor_interval_s=60 * workers.grow_every_minutes,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": workers.cpus_per_worker, **({"GPU": gpus} if gpus else {})},
        ),
        run_config=RunConfig(
            name=secrets.token_hex(4),  # Ray's own records; checkpoints are `gc_core.train`'s
            storage_path=(next(iter(settings.folders.values())) / "ray").without_scheme,
            storage_filesystem=None if settings.run.location.is_local else s3.file_system(),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


if __name__ == "__main__":
    main()
