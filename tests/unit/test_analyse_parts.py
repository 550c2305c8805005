"""Parts of an analysis come back as they were written; what is damaged, or of something else, does not.

Letters: F features, G group elements, C channels.
"""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from gc_core import analyse, groups, harvest
from gc_core.analyse import FeatureSymmetry, parts, shown
from gc_core.analyse.parts import Parts, parts_of
from gc_core.analyse.work import Work
from gc_core.arrays import as_arrays
from gc_core.config import AnalyseConfig, HarvestConfig
from gc_core.crosscoder import GroupCrosscoder
from gc_core.families import Neighbours, Source, family_of, mutual, nearest, sketched, within
from gc_core.families.neighbours import NO_NEIGHBOURS
from gc_core.io.run_folder import RunFolder
from gc_core.store import open_store
from gc_core.symmetry import Evidence, Tuning
from support.random_crosscoders import random_crosscoder
from support.small_runs import MakeRun

CONFIG = AnalyseConfig(top_examples=2).resolved(tied=False)
EVERY = np.arange(12)


@pytest.fixture
def run(make_run: MakeRun) -> RunFolder:
    found = make_run(np.random.default_rng(0).standard_normal((300, 4, 6)).astype(np.float32), groups.cyclic(4))
    model(0).save(found.crosscoder("one"))
    return found


def model(seed: int) -> GroupCrosscoder:
    found = random_crosscoder(group="C_4", channels=6).float()
    found.W_dec.data = torch.randn(found.W_dec.shape, generator=torch.Generator().manual_seed(seed))
    return found


def kept(run: RunFolder, config: AnalyseConfig = CONFIG) -> Parts:
    return parts_of(run, "one", config, open_store(run))


def assert_equal(found: Any, expected: Any) -> None:
    for field in fields(expected):
        mine, theirs = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "unexplained":
            mine, theirs = ([total.numpy() for total in sums.tensors()] for sums in (mine, theirs))
        np.testing.assert_equal(mine, theirs, err_msg=field.name)


def test_what_each_task_leaves_is_what_its_function_gives(run: RunFolder) -> None:
    loose = replace(CONFIG, family_similarity=0.1)
    work, store = Work(kept(run, loose), loose), open_store(run)
    crosscoder = GroupCrosscoder.load(run.crosscoder("one"))

    def left(kind: str, item: Any) -> parts.Arrays:
        found = work.parts.read(work.do(kind, 3, item, EVERY, "cpu"))
        assert found is not None
        assert list(work.parts.known(kind)) == [3]
        return found

    seen = analyse.watch_shards(store, range(2), crosscoder, top_examples=2)
    assert_equal(parts.firing_of(left("encode", range(2))), seen)
    described = analyse.describe_features(crosscoder, EVERY[2:9])
    assert_equal(FeatureSymmetry(**left("describe", range(2, 9))), described)
    pooled = analyse.summed_alignment(described, EVERY[2:9] > 3)
    evidence = analyse.evidence_of_features(crosscoder, EVERY[2:9], pooled, CONFIG)
    assert_equal(Evidence(**left("chance", (range(2, 9), pooled))), evidence)
    source = Source(
        group=crosscoder.group,
        read=lambda some: crosscoder.W_dec.detach()[some],
        features=EVERY,
        invariant_share=loose.invariant_share,
    )
    near = nearest(range(4, 8), sketched(source), least_similarity=loose.family_similarity, most=loose.neighbours)
    assert len(near.first_E) > 0
    assert_equal(Neighbours(**left("neighbours", range(4, 8))), near)
    pairs = mutual(nearest(range(12), sketched(source), least_similarity=0, most=12), 12)
    members = [(EVERY[:3], within([EVERY[:3]], pairs, 12)[0]), (EVERY[5:], within([EVERY[5:]], pairs, 12)[0])]
    clusters = [family_of(*each, source) for each in members]
    for mine, theirs in zip(parts.clusters_of(left("families", members)), clusters, strict=True):
        assert_equal(mine, theirs)
    assert parts.clusters_of(parts.of_clusters([])) == []
    assert_equal(Neighbours(**as_arrays(NO_NEIGHBOURS)), NO_NEIGHBOURS)


def test_a_task_that_shows_stimuli_leaves_what_they_tell(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = harvest.load_backbone(HarvestConfig(layer="conv1", dtype="float32"), "cpu")
    monkeypatch.setattr(shown, "network_of_store", lambda attrs, device: backbone)
    run = make_run(np.zeros((10, 4, backbone.channels), np.float32), groups.cyclic(4))
    crosscoder = random_crosscoder(group="C_4", channels=backbone.channels).float()
    crosscoder.save(run.crosscoder("one"))
    work = Work(kept(run), CONFIG)
    found = work.parts.read(work.do("stimuli", 1, range(3, 5), None, "cpu"))
    assert found is not None
    expected = shown.show(range(3, 5), crosscoder, backbone)
    assert_equal(Tuning(**found), expected)
    assert (expected.stimulus_F >= 3).any()


def test_a_damaged_part_is_not_read_and_is_gone(run: RunFolder) -> None:
    found = kept(run)
    name = found.write("encode", 0, {"a": np.arange(5)})
    (path,) = run.location.local_path.rglob(name)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert found.read(name) is None
    assert found.known("encode") == {}
    assert found.read(name) is None


def test_parts_of_other_options_weights_or_samples_are_not_known(run: RunFolder, make_run: MakeRun) -> None:
    kept(run).write("encode", 0, {"a": np.arange(5)})
    assert list(kept(run).known("encode")) == [0]
    assert kept(run).known("describe") == {}
    assert kept(run, replace(CONFIG, family_similarity=0.51)).known("encode") == {}
    other = make_run(np.ones((300, 4, 6), np.float32), groups.cyclic(4), "other")
    model(0).save(other.crosscoder("one"))
    assert kept(other).key != kept(run).key
    model(1).save(run.crosscoder("one"))
    assert kept(run).known("encode") == {}


def test_clearing_leaves_what_others_put_there(run: RunFolder) -> None:
    for config in (CONFIG, replace(CONFIG, family_similarity=0.51)):
        kept(run, config).write("encode", 0, {"a": np.arange(5)})
    (folder,) = run.location.local_path.rglob("one.parts")
    (folder / "thesis.tex").write_text("mine")
    kept(run).clear()
    assert [path.name for path in folder.rglob("*")] == ["thesis.tex"]
    (folder / "thesis.tex").unlink()
    kept(run).clear()
    assert not folder.exists()
