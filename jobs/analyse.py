"""Stage 3: symmetry, families and top examples of every feature, in parallel tasks; and stage 4, the atlas page.

python -m jobs.analyse --run RUN --name topk-1024
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from gc_core import analyse, families
from gc_core.analyse import FeatureSymmetry, Firing, parts
from gc_core.analyse.plan import (
    AnalysisPlan,
    described,
    gb,
    plan_analysis,
    refuse_too_large,
    shown,
    watched,
)
from gc_core.analyse.work import Work
from gc_core.arrays import joined
from gc_core.atlas.build import build_atlas, count_images
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import Crosscoder
from gc_core.families import Cluster, Families, Neighbours
from gc_core.images.catalogue import fixed_set
from gc_core.images.moved import Move
from gc_core.io.lease import check_all
from gc_core.io.run_folder import RunFolder
from gc_core.metrics import or_none
from gc_core.store import Store, open_store
from gc_core.symmetry import Evidence, Tuning, Verdict, merged
from jobs.common import claims, cluster, console, meshes
from jobs.common.options import MovedImages, Workers, cli
from jobs.common.teams import Team

FEATURES_A_TASK = 512
"""Features in families whose poses one task finds; more in one large family."""


@dataclass(frozen=True, kw_only=True)
class AnalyseJob(MovedImages):
    """Describe every feature of a trained crosscoder, and draw the atlas."""

    run: str
    """The run folder: a path or URL."""
    name: str | None = None
    """Which crosscoder; None for the only one."""
    config: Annotated[AnalyseConfig, tyro.conf.arg(name="")] = field(default_factory=AnalyseConfig)
    workers: Workers = field(default_factory=Workers)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.analyse`."""
    with console.one_line_errors(remedy="The same command continues where it stopped."):
        job = cli(AnalyseJob, prog="python -m jobs.analyse", args=args, description=__doc__)
        with cluster.connect():
            run = RunFolder.at(job.run)
            name = job.name or only_crosscoder(run)
            console.summary("analysed", analyse_and_draw(run, name, job.config, job.workers, job.moves()))


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


def analyse_and_draw(
    run: RunFolder, name: str, config: AnalyseConfig, workers: Workers, moves: Sequence[Move] = ()
) -> list[tuple[str, str]]:
    """Describe every feature and draw the page, while no other job works on the same crosscoder; rows of the summary.

    Raises:
        ValueError: there is no such crosscoder, or it does not fit. OSError: another job did not end in time.
    """
    own = [run.crosscoder(name)] if name in run.crosscoder_names() else []  # what is not there gets no folder
    with claims.at_work(own, workers) as leases:
        check = partial(check_all, [each.term for each in leases])
        rows = run_analyse(run, name, config, workers, before_writing=check)
        check()
        return rows + run_atlas(run, name, moves)


def run_analyse(
    run: RunFolder,
    name: str,
    config: AnalyseConfig,
    workers: Workers | None = None,
    *,
    before_writing: Callable[[], None] = lambda: None,
) -> list[tuple[str, str]]:
    """Watch every shard, describe every feature, find families; rows of the summary. `before_writing` may refuse by
    raising, where the crosscoder is another job's by now.

    Raises:
        ValueError: it does not fit into memory or on the disk, or the workers cannot be had.
    """
    workers = workers or Workers()
    cluster.require_task(workers)
    store, model = open_store(run), Crosscoder.load(run.crosscoder(name))
    config = config.resolved(tied=model.shape.tying == "orbit")
    plan = _planned(run, config, store, model, workers)
    team = Team(Work(parts.parts_of(run, name, config, store), config), workers, plan, model.shape)
    firing = _watch(team, store)
    symmetry, alive_F = _describe(team), firing.fired_F > 0
    judged = analyse.judge(_evidence(team, analyse.summed_alignment(symmetry, alive_F)), model.group, config, alive_F)
    alive = np.flatnonzero(alive_F)
    feature_families = _families(team, alive)
    tuning = _show(team, store, model) if config.stimuli else None
    tuned = None if tuning is None else analyse.tuned(tuning, judged.verdict_F, alive_F, model.group, config)
    about = {
        "config": config.to_json(),
        "fvu": firing.unexplained.fraction_unexplained(),
        "fvu_per_block": or_none(firing.unexplained.fraction_unexplained_per_block().tolist()),
        "l0": float(firing.fired_F.sum() / firing.num_rows),
    }
    before_writing()
    analyse.write_features(run, name, symmetry, judged, firing, feature_families, model.group, about, tuned)
    team.work.parts.clear()
    counted = _count(alive_F, judged.verdict_F)
    in_family = feature_families.family_F[feature_families.family_F >= 0]
    rows = [
        ("features", counted),
        ("families", f"{len(np.unique(in_family)):,} of {len(in_family):,} features"),
    ]
    if model.shape.tying == "orbit":
        rows = [("prototypes", counted), ("families", _count_tied(feature_families, len(alive)))]
    rows += [] if tuned is None else [("stimuli", _agreeing(tuned))]
    return [*rows, ("table", run.feature_table(name).url), ("arrays", run.feature_arrays(name).url)]


def run_atlas(run: RunFolder, name: str, moves: Sequence[Move] = ()) -> list[tuple[str, str]]:
    """Draw the page; its row of the summary, and one of images that are not where they were."""
    absent: list[str] = []
    with console.progress("atlas", count_images(run, name), "images") as meter:
        page = build_atlas(run, name, meter.set, moves=moves, warn=absent.append)
    return [("atlas", page.url), *(("grey patches", line) for line in absent)]


def _planned(run: RunFolder, config: AnalyseConfig, store: Store, model: Crosscoder, workers: Workers) -> AnalysisPlan:
    """Told, and refused where it does not fit."""
    plan = plan_analysis(model.shape, config, num_shards=store.num_shards, stored_elements=store.group.order)
    free = shutil.disk_usage(run.location.local_path).free if run.location.is_local else None
    here, task = meshes.memory_here(), meshes.memory_of_task(workers.cpus_per_worker)
    known = f"{gb(here)} found here" if here else "unknown here"
    console.say(
        f"memory   {gb(plan.driver_bytes)} needed where this runs ({known}), {gb(plan.worker_bytes)} a task; "
        f"{gb(plan.disk_bytes)} of parts on the disk until it is done"
    )
    refuse_too_large(plan, driver_bytes=here, worker_bytes=task, disk_bytes=free)
    return plan


def _watch(team: Team, store: Store) -> Firing:
    """Parts are merged in their order as they come: the result is the same whichever is done first."""
    with console.progress("encode", store.num_rows, "samples") as meter:

        def arriving() -> Iterator[Firing]:
            seen = 0
            for arrays in team.parts("encode", watched(store.num_shards), team.plan.encode_bytes):
                part = parts.firing_of(arrays)
                seen += part.num_rows
                meter.set(seen)
                yield part

        return analyse.merge_firing(arriving(), store.image, top_examples=team.work.config.top_examples)


def _describe(team: Team) -> FeatureSymmetry:
    items = described(team.shape.num_rows)
    return joined([FeatureSymmetry(**arrays) for arrays in _of_features(team, "describe", "symmetry", items)])


def _evidence(team: Team, alignment_2: tuple[float, float]) -> Evidence:
    items = [(rows, alignment_2) for rows in described(team.shape.num_rows)]
    return joined([Evidence(**arrays) for arrays in _of_features(team, "chance", "chance", items)])


def _of_features(team: Team, kind: str, label: str, items: Sequence[Any]) -> Iterator[parts.Arrays]:
    """Parts of `described` features each, in their order, as they come."""
    every = described(team.shape.num_rows)
    with console.progress(label, team.shape.num_rows, "features") as meter:
        for rows, arrays in zip(every, team.parts(kind, items, team.plan.describe_bytes), strict=True):
            meter.set(rows.stop)
            yield arrays


def _families(team: Team, alive: NDArray[np.int64]) -> Families:
    """Families of the living features: neighbours block by block, communities of these here, poses by tasks again."""
    config, num_rows = team.work.config, team.shape.num_rows
    pairs = families.mutual(_neighbours(team, alive), len(alive))
    members = families.communities(pairs, len(alive), resolution=config.family_similarity)
    place_F2 = np.full((num_rows, 2), np.nan, np.float32)
    place_F2[alive] = families.placed(pairs, len(alive))
    items = list(zip(members, families.within(members, pairs, len(alive)), strict=True))
    del pairs  # by now those of each family have them
    clusters = list[Cluster]()
    with console.progress("families", sum(map(len, members)), "features") as meter:
        for arrays in team.parts("families", _packed(items), team.plan.compare_bytes, alive):
            clusters += parts.clusters_of(arrays)
            meter.set(sum(len(each.member_M) for each in clusters))
    return families.numbered(clusters, num_rows, place_F2)


def _neighbours(team: Team, alive: NDArray[np.int64]) -> Neighbours:
    """Of all living features; kept once, for they are most of what this process holds."""
    rows, parts_so_far = families.blocks(len(alive)), list[Neighbours]()
    with console.progress("neighbours", len(alive), "features") as meter:
        for block, arrays in zip(rows, team.parts("neighbours", rows, team.plan.compare_bytes, alive), strict=True):
            parts_so_far.append(Neighbours(**arrays))
            meter.set(block.stop)
    return Neighbours.joined(parts_so_far)


def _show(team: Team, store: Store, model: Crosscoder) -> Tuning | None:
    """What features respond to among drawn stimuli; None, and a line that says why, where the network is not at
    hand."""
    if reason := analyse.why_not_shown(store.attrs, model.group):
        console.say(f"stimuli  none shown, so `label` and `tuning_*` are empty: {reason}")
        return None
    items = shown(len(fixed_set()))
    with console.progress("stimuli", items[-1].stop, "stimuli") as meter:

        def arriving() -> Iterator[Tuning]:
            for some, arrays in zip(items, team.parts("stimuli", items, team.plan.show_bytes), strict=True):
                meter.set(some.stop)
                yield Tuning(**arrays)

        return reduce(merged, arriving())


def _agreeing(tuned: analyse.Tuned) -> str:
    """Whether responses to stimuli have the symmetries that decoders have."""
    about = tuned.about["stimuli"]
    if about["same_symmetry"] is None:
        return f"{about['number']} shown at {about['angles']} angles; too few responses to compare symmetries"
    return (
        f"{about['number']} shown at {about['angles']} angles; responses have the decoder's symmetry in "
        f"{about['same_symmetry']:.0%} of {about['features']:,} (dealt out at random "
        f"{about['same_symmetry_dealt']:.0%})"
    )


def _packed(
    items: list[tuple[NDArray[np.int64], Neighbours]],
) -> list[list[tuple[NDArray[np.int64], Neighbours]]]:
    """Small families together, so that a task has so many features, or one family."""
    packed, num_features = list[list[tuple[NDArray[np.int64], Neighbours]]](), 0
    for item in items:
        if not packed or num_features + len(item[0]) > FEATURES_A_TASK:
            packed, num_features = [*packed, []], 0
        packed[-1].append(item)
        num_features += len(item[0])
    return packed


def _count_tied(feature_families: Families, num_alive: int) -> str:
    """Every living prototype is a family, but for those that are one learned twice."""
    again = int((feature_families.family_F >= 0).sum() - feature_families.family_F.max(initial=-1) - 1)
    return f"{num_alive - again:,}, one a prototype" + (f"; {again:,} prototypes are another's twins" if again else "")


def _count(alive_F: NDArray[np.bool_], verdict_F: Sequence[Verdict]) -> str:
    words = [verdict.words for verdict, lives in zip(verdict_F, alive_F, strict=True) if lives]
    counts = sorted(((words.count(word), word) for word in set(words)), reverse=True)
    return f"{len(words):,} alive: " + ", ".join(
        f"{count:,} {'without symmetry' if word == 'none' else word}" for count, word in counts
    )


if __name__ == "__main__":
    main()
