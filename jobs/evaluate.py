"""How good crosscoders are: on held-out images, against another seed, and for the rest of the network.

    python -m jobs.evaluate --run RUN                                       every crosscoder of the run
    python -m jobs.evaluate --run RUN --name a b --against c                the same features as c?
    python -m jobs.evaluate --run RUN --classifier torchvision              loss recovered in the rest of GoogLeNet
    python -m jobs.evaluate --run RUN --figure fvu.png                      FVU against L0, drawn
    python -m jobs.evaluate --run RUN --name a --checkpoint 200             a as it was after 200 steps

What is measured is kept in RUN/crosscoders/NAME/evaluation.json, of a checkpoint in evaluation-step-00000200.json.
"""

from dataclasses import dataclass, field
from typing import Any

import ray
import torch

from gc_core import backbones, bounds, evaluate
from gc_core.backbones import Backbone
from gc_core.backbones.rest import load_rest
from gc_core.crosscoder import Crosscoder
from gc_core.evaluate import Downstream, Evaluation, HeldOut, Images, Probing, Stability
from gc_core.evaluate.figure import Point, draw, file_format, refuse_other_file
from gc_core.ingest import is_ingested
from gc_core.io.location import local_path
from gc_core.io.run_folder import RunFolder
from gc_core.store import open_store
from gc_core.train.intermediate import crosscoder_at
from jobs.common import cluster, console, warned
from jobs.common.options import MovedImages, Workers, cli


@dataclass(frozen=True, kw_only=True)
class EvaluateJob(MovedImages):
    """Measure crosscoders of a run."""

    run: str
    """The run folder: a path or URL."""
    name: tuple[str, ...] = ()
    """Which crosscoders; none for every finished one."""
    checkpoint: int | None = None
    """The step whose checkpoints are measured, also of trainings that are not finished; None for the finished
    crosscoders. `against` always means a finished one, which may be the same crosscoder."""
    against: str | None = None
    """Match the features of each one to one with those of this crosscoder of the run, such as another seed."""
    up_to_pose: bool = False
    """Count a feature and its turned or mirrored copy as the same when matching (slower)."""
    classifier: str | None = None
    """Weights of a whole torchvision GoogLeNet whose first layers were harvested: a file, or `torchvision` to download
    them. Reconstructions then replace the layer in it."""
    images: str | None = None
    """Images for the classifier, named as in `jobs.harvest`; None for those that the run holds out."""
    labels: str | None = None
    """Their true classes, a text file with lines `NAME CLASS`; None compares with the network's own output."""
    max_images: int = 1000
    """Most images for the classifier."""
    workers: Workers = field(default_factory=Workers)
    figure: str | None = None
    """Draw FVU against L0 of all the crosscoders named into this .png, .svg or .pdf file."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.figure is not None:
            file_format(self.figure)
            refuse_other_file(local_path(self.figure))
        if self.classifier is None and (self.images or self.labels):
            raise ValueError("images, labels: given without --classifier, which alone uses images; name a classifier")
        bounds.IMAGES.refuse("max_images", self.max_images)
        if self.checkpoint is not None:
            bounds.STEPS.refuse("checkpoint", self.checkpoint)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.evaluate`."""
    with console.one_line_errors(remedy="Run the same command again."):
        job = cli(EvaluateJob, prog="python -m jobs.evaluate", args=args, description=__doc__)
        with cluster.connect():
            evaluations = run_evaluate(job)
        show(job, evaluations)


def run_evaluate(job: EvaluateJob) -> dict[str, Evaluation]:
    """Measure every crosscoder in a task of its own, keep what was found, and draw; by name."""
    cluster.require_task(job.workers)
    run = RunFolder.at(job.run)
    names = job.name or tuple(run.crosscoder_names())
    if not names:
        raise ValueError(f"{run.url}: no finished crosscoder found; train one with `python -m jobs.train`")
    for name in [*(names if job.checkpoint is None else ()), *filter(None, [job.against])]:
        _refuse_unknown(run, name)
    evaluations = _measure(run, names, job)
    if job.figure is not None:
        _draw(run, job, job.figure, evaluations)
    return evaluations


def show(job: EvaluateJob, evaluations: dict[str, Evaluation]) -> None:
    """The table in the terminal, and where everything is."""
    rows = [[name, *_numbers(measured)] for name, measured in evaluations.items()]
    headings = ["crosscoder", "FVU", "95% over images", "untransformed block", "L0", "dead", "dense"]
    headings += ["same features"] if job.against else []
    headings += ["loss recovered", "in the interior", "same answer"] if job.classifier else []
    console.table("evaluated on held-out samples", headings, rows)
    headings = ["crosscoder", "Hoyer sparsity", "over blocks", "cosine with the nearest", "classes told apart"]
    console.table(
        "their features", headings, [[name, *_of_features(each.held_out)] for name, each in evaluations.items()]
    )
    first = next(iter(evaluations.values())).held_out
    kept = RunFolder.at(job.run).location / "crosscoders"
    console.summary(
        "where",
        [
            ("samples", f"{first.num_rows:,} of {first.num_images:,} held-out images"),
            ("numbers", f"{kept}/NAME/{evaluate.file_name(job.checkpoint)}"),
            *([("figure", job.figure)] if job.figure else []),
        ],
    )


def _measure(run: RunFolder, names: tuple[str, ...], job: EvaluateJob) -> dict[str, Evaluation]:
    """Evaluations by name; each is written as soon as it is there."""
    images, mean = _images(run, job)
    evaluations: dict[str, Evaluation] = {}
    options = _options(job)
    with console.progress("evaluate", len(names), "crosscoders") as meter:

        def submit(name: str) -> ray.ObjectRef[Any]:
            return _evaluate.options(**options).remote(run, name, job, images, mean)

        for name, measured in zip(names, cluster.in_order(submit, names, in_flight=cluster.num_cpus()), strict=True):
            evaluations[name] = measured
            evaluate.write_evaluation(run, name, measured, job.checkpoint)
            meter.set(len(evaluations))
    return evaluations


def _refuse_unknown(run: RunFolder, name: str) -> None:
    known = run.crosscoder_names()
    if name not in known:
        raise ValueError(f"{run.url}: no finished crosscoder {name!r} found, expected one of {', '.join(known)}")


def _numbers(measured: Evaluation) -> list[str]:
    held_out: HeldOut = measured.held_out
    row = [_figure(held_out.fvu), _interval(held_out), _figure(held_out.fvu_identity), f"{held_out.l0:.1f}"]
    row += [f"{held_out.dead_share:.1%}", f"{held_out.dense_share:.1%}"]
    for stability in measured.stability.values():
        row.append(_agreement(stability))
    if measured.downstream is not None:
        interior = measured.downstream.interior
        recovered = measured.downstream.recovered, interior.recovered if interior else None
        row += ["-" if share is None else f"{share:.3f}" for share in recovered]
        row.append(f"{measured.downstream.same_top1_reconstructed:.1%}")
    return row


def _figure(share: float | None) -> str:
    return "undefined" if share is None else f"{share:.3f}"


def _interval(held_out: HeldOut) -> str:
    return "-" if held_out.fvu_interval is None else "{:.3f} to {:.3f}".format(*held_out.fvu_interval)


def _of_features(held_out: HeldOut) -> list[str]:
    figures = held_out.hoyer, held_out.block_hoyer, held_out.max_decoder_cosine
    return [*("-" if each is None else f"{each:.3f}" for each in figures), _told_apart(held_out.probing)]


def _told_apart(probing: Probing | None) -> str:
    return "-" if probing is None else f"{probing.mean_auc:.2f} (chance {probing.chance_mean_auc:.2f})"


def _agreement(stability: Stability) -> str:
    best = stability.up_to_pose or stability.as_is
    return f"{best.mean:.2f} (chance {best.chance_mean:.2f}), {best.share_above_70:.0%} above 0.7"


def _draw(run: RunFolder, job: EvaluateJob, file: str, evaluations: dict[str, Evaluation]) -> None:
    points = [
        Point.of(crosscoder_at(run, name, job.checkpoint)[0].shape, measured.held_out)
        for name, measured in evaluations.items()
    ]
    path = local_path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(draw(points, title="Variance unexplained against sparsity", form=file_format(file)))


def _images(run: RunFolder, job: EvaluateJob) -> tuple[Images | None, torch.Tensor | None]:
    """Images for the classifier, if there is one, and the layer's mean over them."""
    if job.classifier is None:
        return None, None
    images = evaluate.choose_images(
        run, location=job.images, labels=job.labels, at_most=job.max_images, moves=job.moves()
    )
    return images, cluster.result(_mean.options(**_options(job)).remote(run, job, images))


def network_of(run: RunFolder, classifier: str, device: str = "cpu") -> tuple[Backbone, torch.nn.Module]:
    """The trunk that the run harvested, and what follows it, on a device."""
    store = open_store(run).attrs
    if is_ingested(store):
        raise ValueError(f"{run.url}: its activations were ingested, so the network is unknown; leave out --classifier")
    config = store["config"]
    if store["backbone"] not in backbones.NAMES:
        raise ValueError(
            f"{run.url}: what follows {store['layer']} of {store['backbone']} is not known; leave out --classifier, or"
            " give a network of your own to gc_core.evaluate.measure_downstream"
        )
    trunk = backbones.load(
        store["backbone"],
        layer=store["layer"],
        weights=config["weights"],
        preprocessing=config.get("preprocessing", "auto"),
    )
    assert isinstance(trunk, Backbone), "the named networks"
    rest = load_rest(classifier, trunk)
    return trunk.to(device), rest.to(device)


def _options(job: EvaluateJob) -> dict[str, float]:
    """Ray options of a task: CPUs, and a GPU where the cluster has one."""
    workers = job.workers.resolve(num_cpus=cluster.num_cpus(), num_gpus=cluster.num_gpus())
    return cluster.task_options(workers, 0)


@ray.remote(max_retries=3, retry_exceptions=[OSError])
@warned.telling
def _mean(run: RunFolder, job: EvaluateJob, images: Images) -> torch.Tensor:
    assert job.classifier is not None, "only a classifier looks at images"
    cluster.use_threads(job.workers)
    trunk, _ = network_of(run, job.classifier, cluster.device())
    return evaluate.mean_activation(trunk, images.batches())


@ray.remote(max_retries=3, retry_exceptions=[OSError])
@warned.telling
def _evaluate(
    run: RunFolder, name: str, job: EvaluateJob, images: Images | None, mean: torch.Tensor | None
) -> Evaluation:
    cluster.use_threads(job.workers)
    device = cluster.device()
    model = crosscoder_at(run, name, job.checkpoint)[0].to(device)
    held_out = evaluate.measure_held_out(run, model)  # first, for it refuses what does not fit the run
    downstream: Downstream | None = None
    if job.classifier is not None and images is not None and mean is not None:
        trunk, rest = network_of(run, job.classifier, device)
        downstream = evaluate.measure_downstream(model, trunk, rest, images.batches(), mean)
    stability: dict[str, Stability] = {}
    if job.against is not None:
        other = Crosscoder.load(run.crosscoder(job.against))
        stability[job.against] = evaluate.compare(model, other, up_to_pose=job.up_to_pose)
    return Evaluation(held_out=held_out, stability=stability, downstream=downstream)


if __name__ == "__main__":
    main()
