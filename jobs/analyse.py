"""Stage 3: symmetry, families and top examples of every feature, in parallel tasks; and stage 4, the atlas page.

python -m jobs.analyse --run RUN --name topk-1024
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from typing import Annotated, Any

import numpy as np
import ray
import tyro
from numpy.typing import NDArray

from gc_core import analyse
from gc_core.analyse import FeatureSymmetry, Firing
from gc_core.atlas.build import build_atlas, count_pictures
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import GroupCrosscoder
from gc_core.families import Families, group_families
from gc_core.images.moved import Move
from gc_core.metrics import or_none
from gc_core.run_folder import RunFolder
from gc_core.store import Store, open_store
from jobs import cluster, console
from jobs.options import MovedPictures, Waiting, cli

FEATURES_A_TASK = 128


@dataclass(frozen=True, kw_only=True)
class AnalyseJob(MovedPictures):
    """Describe every feature of a trained crosscoder, and draw the atlas."""

    run: str
    """The run folder: a path or URL."""
    name: str | None = None
    """Which crosscoder; None for the only one."""
    config: Annotated[AnalyseConfig, tyro.conf.arg(name="")] = field(default_factory=AnalyseConfig)
    workers: Waiting = field(default_factory=Waiting)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.analyse`."""
    with console.one_line_errors(remedy="Run the same command again."):
        job = cli(AnalyseJob, prog="python -m jobs.analyse", args=args, description=__doc__)
        with cluster.connect():
            run = RunFolder.at(job.run)
            name = job.name or only_crosscoder(run)
            console.summary(
                "analysed", run_analyse(run, name, job.config, job.workers) + run_atlas(run, name, job.moves())
            )


def only_crosscoder(run: RunFolder) -> str:
    """The name of the run's crosscoder.

    Raises:
        ValueError: there is none, or more than one.
    """
    names = run.crosscoder_names()
    if len(names) != 1:
        found = ", ".join(names) or "no finished crosscoder"
        raise ValueError(
            f"{run.url}: {found} found, expected one; "
            + ("name it with --name" if names else "train one with `python -m jobs.train`")
        )
    return names[0]


def run_analyse(
    run: RunFolder, name: str, config: AnalyseConfig, waiting: Waiting | None = None
) -> list[tuple[str, str]]:
    """Watch every shard, describe every feature, find families; rows of the summary."""
    cluster.require_cpu(waiting or Waiting())
    store, model = open_store(run), GroupCrosscoder.load(run.crosscoder(name))
    firing = _watch(run, name, config, store)
    symmetry = _describe(run, name, config, model.shape.num_rows)
    found = _families(run, name, config, np.flatnonzero(firing.fired_F > 0), model.shape.num_rows)
    about = {
        "config": config.to_json(),
        "fvu": firing.unexplained.fraction_unexplained(),
        "fvu_per_block": or_none(firing.unexplained.fraction_unexplained_per_block().tolist()),
        "l0": float(firing.fired_F.sum() / firing.num_rows),
    }
    analyse.write_features(run, name, symmetry, firing, found, model.group, about)
    in_family = found.family_F[found.family_F >= 0]
    return [
        ("features", _count(firing.fired_F > 0, symmetry)),
        ("families", f"{len(np.unique(in_family)):,} of {len(in_family):,} features"),
        ("table", run.feature_table(name)),
        ("arrays", run.feature_arrays(name)),
    ]


def run_atlas(run: RunFolder, name: str, moves: Sequence[Move] = ()) -> list[tuple[str, str]]:
    """Draw the page; its row of the summary, and one of pictures that are not where they were."""
    absent: list[str] = []
    with console.progress("atlas", count_pictures(run, name), "pictures") as meter:
        page = build_atlas(run, name, meter.set, moves=moves, warn=absent.append)
    return [("atlas", page), *(("grey patches", line) for line in absent)]


def _watch(run: RunFolder, name: str, config: AnalyseConfig, store: Store) -> Firing:
    """Shards are merged in their order as they come: the result is the same whichever is done first."""
    with console.progress("encode", store.num_rows, "samples") as meter:

        def submit(shard: int) -> ray.ObjectRef[Any]:
            return _watch_shard.remote(run, name, shard, config.top_examples)

        def arriving() -> Iterator[Firing]:
            seen = 0
            for part in cluster.in_order(submit, range(store.num_shards), in_flight=2 * cluster.num_cpus()):
                seen += part.num_rows
                meter.set(seen)
                yield part

        return analyse.merge_firing(arriving(), store.image, top_examples=config.top_examples)


def _describe(run: RunFolder, name: str, config: AnalyseConfig, dict_size: int) -> FeatureSymmetry:
    parts: list[FeatureSymmetry] = []
    with console.progress("symmetry", dict_size, "features") as meter:

        def submit(features: NDArray[np.int64]) -> ray.ObjectRef[Any]:
            return _describe_features.remote(run, name, features, config)

        for part in cluster.in_order(submit, _ranges(np.arange(dict_size)), in_flight=2 * cluster.num_cpus()):
            parts.append(part)
            meter.set(sum(len(p.verdict_F) for p in parts))
    arrays = ("curve_FG", "self_similarity_FG", "block_norm_FG", "spectrum_FR")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    return replace(parts[0], **joined, verdict_F=[v for part in parts for v in part.verdict_F])


def _families(run: RunFolder, name: str, config: AnalyseConfig, alive: NDArray[np.int64], dict_size: int) -> Families:
    """Families of the living features, numbered over all."""
    rows: list[tuple[Any, Any]] = []
    with console.progress("families", len(alive), "features") as meter:

        def submit(features: NDArray[np.int64]) -> ray.ObjectRef[Any]:
            return _similarity_rows.remote(run, name, features, alive, config)

        for part in cluster.in_order(submit, _ranges(alive), in_flight=2 * cluster.num_cpus()):
            rows.append(part)
            meter.set(sum(len(similarity) for similarity, _ in rows))
    similarity = np.concatenate([part[0] for part in rows]) if rows else np.empty((0, 0), np.float32)
    pose = np.concatenate([part[1] for part in rows]) if rows else np.empty((0, 0), np.int16)
    living = group_families(similarity, pose, least_similarity=config.family_similarity)
    family, turned, representative = np.full(dict_size, -1), np.zeros(dict_size, np.int64), np.arange(dict_size)
    family[alive], turned[alive], representative[alive] = living.family_F, living.pose_F, alive[living.representative_F]
    return Families(family_F=family, pose_F=turned, representative_F=representative)


def _ranges(features: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [features[i : i + FEATURES_A_TASK] for i in range(0, len(features), FEATURES_A_TASK)]


def _count(alive: NDArray[np.bool_], symmetry: FeatureSymmetry) -> str:
    words = [verdict.words for verdict, lives in zip(symmetry.verdict_F, alive, strict=True) if lives]
    counts = sorted(((words.count(word), word) for word in set(words)), reverse=True)
    return f"{len(words):,} alive: " + ", ".join(
        f"{count:,} {'without symmetry' if word == 'none' else word}" for count, word in counts
    )


@lru_cache(maxsize=2)
def _model(run: RunFolder, name: str) -> GroupCrosscoder:
    """Read once by each worker."""
    return GroupCrosscoder.load(run.crosscoder(name))


@lru_cache(maxsize=2)
def _store(run: RunFolder) -> Store:
    """Opened once by each worker. The driver has seen that it is whole, and reading notices what is lost since."""
    return open_store(run, unfinished=True)


@ray.remote(max_retries=3, retry_exceptions=cluster.RETRIED)
def _watch_shard(run: RunFolder, name: str, shard: int, top_examples: int) -> Firing:
    return analyse.watch_shards(_store(run), range(shard, shard + 1), _model(run, name), top_examples=top_examples)


@ray.remote(max_retries=3, retry_exceptions=cluster.RETRIED)
def _describe_features(
    run: RunFolder, name: str, features: NDArray[np.int64], config: AnalyseConfig
) -> FeatureSymmetry:
    return analyse.describe_features(_model(run, name), features, config)


@ray.remote(max_retries=3, retry_exceptions=cluster.RETRIED)
def _similarity_rows(
    run: RunFolder, name: str, features: NDArray[np.int64], others: NDArray[np.int64], config: AnalyseConfig
) -> tuple[Any, Any]:
    return analyse.similarity_rows(_model(run, name), features, others, config)


if __name__ == "__main__":
    import_module("jobs.analyse").main()  # workers find the caches of this module by its name, which is not __main__
