"""Stage 2: fit a group crosscoder to a harvested run (Ray Train).

    python -m jobs.train --run RUN --dict-size 4096
    python -m jobs.train --run RUN --group trivial              the plain autoencoder (SAE) to compare with
    python -m jobs.train --run RUN --dict-size 1024,4096        two sizes side by side, from one pass over the data
    python -m jobs.train --run RUN --name N --steps 3000        a finished one goes on, to 3,000 steps in all
    python -m jobs.train --run RUN --name M --init-from N       a new one begins with the weights of another

Continues from the last checkpoint where an earlier, interrupted run of the same command stopped, on as many workers as
it is given now.
"""

import contextlib
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any

import ray
import ray.exceptions
import ray.train
import ray.train.torch
import torch
import tyro
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from gc_core import train as training
from gc_core.checkpoint import METRICS, Keep, write_metrics
from gc_core.config import ResolvedTrainConfig, TrainConfig
from gc_core.io import objects, s3
from gc_core.io.lease import Lease, check_all
from gc_core.io.objects import UnavailableError
from gc_core.io.run_folder import RunFolder, read_json, read_trained, write_json
from gc_core.train.loggers import LoggerName, check_installed, following, usual
from gc_core.train.recovery import newest
from jobs import claims, cluster, console, interrupt, lists, meshes, warned
from jobs.options import Cache, Workers, cli

MAX_FAILURES = 3
POLL_S = 0.5
SECONDS_TO_ANSWER = 5


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Fit a group crosscoder to a harvested run."""

    run: str
    """The run folder that `jobs.harvest` made: a path or URL."""
    name: str | None = None
    """Name of the crosscoder inside the run; None for one made of the method and the size, such as topk-1024.
    With several crosscoders, what differs is added."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    workers: Workers = field(default_factory=Workers)
    keep: Keep = field(default_factory=Keep)
    """Which checkpoints stay; one is written every `checkpoint_every` steps."""
    loggers: tuple[LoggerName, ...] = field(default_factory=usual)
    """Where metrics go besides metrics.parquet; TensorBoard, where tensorboardX is installed."""
    cache: Cache = field(default_factory=Cache)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.train`."""
    with console.one_line_errors(remedy="The same command continues from the last checkpoint."):
        lines = lists.expand(sys.argv[1:] if args is None else args)
        jobs = [cli(TrainJob, prog="python -m jobs.train", args=line, description=__doc__) for line in lines]
        with cluster.connect():
            first, configs = jobs[0], [job.config for job in jobs]
            run = RunFolder.at(first.run)
            trained = run_train(
                run, first.name, configs, first.workers, keep=first.keep, loggers=first.loggers, cache=first.cache
            )
            for name, rows in trained.items():
                console.summary(f"trained {name}", rows)


def run_train(
    run: RunFolder,
    name: str | None,
    configs: Sequence[TrainConfig],
    workers: Workers,
    *,
    keep: Keep | None = None,
    loggers: Sequence[LoggerName] | None = None,
    cache: Cache | None = None,
) -> dict[str, list[tuple[str, str]]]:
    """Train what was not trained before, side by side; rows of the summary by each crosscoder's name.

    Raises:
        ValueError: an option does not fit the store, a name is taken, a logger is not installed, or training diverged.
    """
    cluster.refuse_impossible(placement(workers))
    loggers = usual() if loggers is None else loggers
    check_installed(loggers)
    data = training.open_data(run, configs[0])
    resolved = [training.resolve(config, data) for config in configs]
    names = lists.names_of(resolved, data.store.group.name, name)

    def named() -> dict[str, ResolvedTrainConfig]:
        every = zip(names, configs, resolved, strict=True)
        return {each: claims.config_to_train(run.crosscoder(each), asked, found, data) for each, asked, found in every}

    to_do = [each for each, config in named().items() if not claims.is_finished(run.crosscoder(each), config)]
    with claims.at_work([run.crosscoder(each) for each in to_do], workers) as leases:
        wanted = named()  # another job may have done it, while this one waited
        unfinished = {each: wanted[each] for each in to_do if not claims.claim(run.crosscoder(each), wanted[each])}
        if unfinished:
            watched = {"keep": keep or Keep(), "loggers": tuple(loggers), "cache": cache or Cache()}
            _fit(run, unfinished, _placed(list(unfinished.values()), workers, data), watched, leases)
    return {each: _summary(run.crosscoder(each), config, data) for each, config in wanted.items()}


def _placed(configs: Sequence[ResolvedTrainConfig], workers: Workers, data: training.TrainingData) -> Workers:
    """The workers with their mesh decided, once they can start."""
    cluster.require(placement(workers), 1)  # the mesh looks at the memory of a GPU
    placed = meshes.decide(configs, placement(workers), data.shape)
    cluster.require(placed, placed.num_workers or 1)
    return placed


def _summary(folder: str, config: ResolvedTrainConfig, data: training.TrainingData) -> list[tuple[str, str]]:
    _, results = read_trained(folder)
    features = f"{config.dict_size:,} features over {config.group}, {config.activation}"
    if config.tying == "orbit":
        invariant = f" ({config.invariant_prototypes:,} invariant)" if config.invariant_prototypes else ""
        features = f"{config.prototypes:,} prototypes{invariant}, {features}"
    turned = ", turned at random" if config.augment else ""
    return [
        ("crosscoder", f"{features}, {len(data.train_rows):,} samples to train on{turned}"),
        ("unexplained", f"{held_out_note(results)}; in training {_figure(results.get('fvu'))}"),
        ("sparsity", f"L0 {results['l0']:.1f}, dead {results['dead_share']:.1%}"),
        ("weights", objects.join(folder, "model.safetensors")),
        ("metrics", objects.join(folder, "metrics.parquet")),
    ]


def held_out_note(results: Mapping[str, float | None]) -> str:
    """The held-out score, what it rests on, and how far it may be off."""
    samples, pictures = results.get("held_out_samples"), results.get("held_out_images")
    rests_on = f" ({samples:,} samples of {pictures:,} pictures)" if samples is not None else ""
    low, high = results.get("held_out_fvu_low"), results.get("held_out_fvu_high")
    interval = "" if low is None or high is None else f", 95% interval over pictures {low:.3f} to {high:.3f}"
    return f"held-out FVU {_figure(results.get('held_out_fvu'))}{interval}{rests_on}"


def _figure(share: float | None) -> str:
    return f"{_short(share)} (samples hardly vary, or there are none)" if share is None else _short(share)


def placement(workers: Workers) -> Workers:
    """One worker on all CPUs of a machine where there is no GPU: threads share a batch better than processes that
    exchange gradients."""
    gpus = cluster.num_gpus()
    if gpus or workers.num_workers or workers.gpus_per_worker:
        return workers.resolve(num_cpus=cluster.num_cpus(), num_gpus=gpus)
    return replace(workers, num_workers=1, gpus_per_worker=0, cpus_per_worker=cluster.most_cpus(ray.nodes()))


def _fit(
    run: RunFolder,
    configs: dict[str, ResolvedTrainConfig],
    workers: Workers,
    watched: Mapping[str, Any],
    leases: Sequence[Lease],
) -> None:
    board: Any = _Board.remote()
    folders = [run.crosscoder(name) for name in configs]
    trainer = TorchTrainer(
        _train_loop,
        train_loop_config={
            "run": run.url,
            "configs": {name: config.to_json() for name, config in configs.items()},
            "board": board,
            "threads": max(1, int(workers.cpus_per_worker)),
            "dict_shards": workers.dict_shards,
            "sharded_optimiser": workers.sharded_optimiser,
            "terms": [each.term for each in leases],
            **watched,
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
            name=secrets.token_hex(4),  # Ray's own records; checkpoints are `gc_core.train`'s
            storage_path=objects.without_scheme(objects.join(folders[0], "ray")),
            storage_filesystem=None if objects.is_local(run.url) else s3.file_system(),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    done = max((checkpoint.step for checkpoint in newest(folders)), default=0)
    with _shown(board, next(iter(configs.values())).steps, done), _ended(board):
        # On this thread it would put a handler of its own over ours.
        interrupt.run_aside(trainer.fit, every_s=POLL_S, watch=lambda: [each.check() for each in leases])
    if error := ray.get(board.user_error.remote()):
        raise ValueError(error)


@contextlib.contextmanager
def _ended(board: Any) -> Iterator[None]:
    """A training that is left before its end gives back the CPUs and GPUs of a Ray that goes on: its workers are
    killed, and those that Ray starts in their place find on the board that there is nothing to do. After a signal this
    process ends, and they end with it: parts of Ray may have got it too, and answer no more."""
    try:
        yield
    except BaseException:
        if interrupt.came():
            raise
        with contextlib.suppress(ray.exceptions.RayError):  # Ray may have ended first
            board.fail.remote("interrupted")
            for worker in ray.get(board.workers.remote(), timeout=SECONDS_TO_ANSWER):
                ray.kill(worker)
        raise


@contextlib.contextmanager
def _shown(board: Any, num_steps: int, done: int) -> Iterator[None]:
    """Progress from the workers' board, until the block ends."""
    stop = threading.Event()
    with console.progress("train", num_steps, "steps", done=done) as meter:

        def follow() -> None:
            with contextlib.suppress(ray.exceptions.RayError):  # who waits for the training is told of it
                while not stop.wait(POLL_S):
                    show()

        def show() -> None:
            for line in ray.get(board.new_warnings.remote()):
                warned.say(line)
            if metrics := ray.get(board.read.remote()):
                meter.set(next(iter(metrics.values()))["step"], progress_note(metrics))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        show()


def progress_note(metrics: dict[str, dict[str, float]]) -> str:
    """The newest figures of each crosscoder, in one line; by name, where there are several."""
    figures = {
        name: f"FVU {_short(row.get('fvu'))}  L0 {row['l0']:.1f}  dead {row['dead_share']:.1%}"
        for name, row in metrics.items()
    }
    if len(figures) == 1:
        return next(iter(figures.values()))
    return " | ".join(f"{name}: {text}" for name, text in figures.items())


def _short(share: float | None) -> str:
    return "undefined" if share is None else f"{share:.3f}"


@ray.remote(num_cpus=0)
class _Board:
    """The newest metrics by crosscoder, warnings, and an error that no repetition mends, for whoever watches."""

    def __init__(self) -> None:
        self._metrics: dict[str, dict[str, float]] = {}
        self._user_error: str | None = None
        self._warnings: dict[str, bool] = {}
        self._workers: list[Any] = []

    def join(self, worker: Any) -> None:
        """A worker has started."""
        self._workers.append(worker)

    def workers(self) -> list[Any]:
        return self._workers

    def write(self, metrics: dict[str, dict[str, float]]) -> None:
        self._metrics = metrics

    def read(self) -> dict[str, dict[str, float]]:
        return self._metrics

    def fail(self, error: str) -> None:
        self._user_error = self._user_error or error

    def user_error(self) -> str | None:
        return self._user_error

    def warn(self, line: str) -> None:
        """Each line once, however many workers say it."""
        self._warnings.setdefault(line, False)

    def new_warnings(self) -> list[str]:
        new = [line for line, told in self._warnings.items() if not told]
        self._warnings |= dict.fromkeys(new, True)
        return new


def _train_loop(settings: dict[str, Any]) -> None:
    """What every training worker runs, until it ends or the user's data or options are at fault.

    Ray repeats whatever raises. So such an error goes to the board: a lonely worker then simply ends; one of several
    must raise, to free those that wait for it, and all end when they are started again.
    """
    board = settings["board"]
    ray.get(board.join.remote(ray.get_runtime_context().current_actor))
    if ray.get(board.user_error.remote()):
        return
    try:
        _train(settings)
    except UnavailableError:
        raise  # another try may succeed
    except (ValueError, FloatingPointError, OSError) as error:
        ray.get(board.fail.remote(str(error)))
        if ray.train.get_context().get_world_size() > 1:
            raise


def _train(settings: dict[str, Any]) -> None:
    """`gc_core.train.train`, with its metrics shown on the first worker."""
    run, context, device = RunFolder(settings["run"]), ray.train.get_context(), ray.train.torch.get_device()
    configs = {name: ResolvedTrainConfig.from_json(values) for name, values in settings["configs"].items()}
    if device.type == "cpu":
        torch.set_num_threads(settings["threads"])
        training.keep_freed_memory()
    place = training.place_in_mesh(
        rank=context.get_world_rank(),
        num_workers=context.get_world_size(),
        dict_shards=settings["dict_shards"],
        sharded_optimiser=settings["sharded_optimiser"],
        device=str(device),
    )
    folders = {name: run.crosscoder(name) for name in configs}
    data = training.open_data(run, next(iter(configs.values())), cache=settings["cache"].open())
    loggers = settings["loggers"] if place.rank == 0 else ()
    before_writing = partial(check_all, settings["terms"])
    with warned.listening(settings["board"].warn.remote), following(loggers, folders, configs) as log:

        def report(metrics: list[dict[str, float]]) -> None:
            if place.rank == 0:
                settings["board"].write.remote(dict(zip(configs, metrics, strict=True)))
            log(metrics)

        trainers = training.train(
            list(configs.values()),
            data,
            place,
            report=report,
            folders=list(folders.values()),
            keep=settings["keep"],
            before_writing=before_writing,
        )
    for name, trainer in zip(configs, trainers, strict=True):
        _export(run.crosscoder(name), trainer, before_writing)


def _export(folder: str, trainer: training.Trainer, before_writing: Callable[[], None]) -> None:
    """The finished model in the run folder; `results` in config.json are written last and mean that all is there.

    Every worker must call it; the first one writes.
    """
    model = trainer.exported()  # the parts of all workers
    if trainer.place.rank > 0 or model is None:
        return
    before_writing()
    hashes = {METRICS: write_metrics(folder, trainer.metrics)}
    model.save(folder)
    results = {"fvu": None, "held_out_fvu": None, **trainer.metrics[-1]}  # what is undefined is null
    about = {"train": trainer.config.to_json(), "results": results, "finished_unix_s": int(time.time())}
    config = read_json(folder, "config.json")
    write_json(folder, "config.json", {**config, **about, "files": {**config["files"], **hashes}})


if __name__ == "__main__":
    main()
