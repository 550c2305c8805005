"""Of tied poses the analysis says in which pose each prototype fires, and the page turns patches back into it.

Letters: N rows, G group elements, C channels, P prototypes.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_crosscoder_orbit import C, P, tied

from gc_core import groups, symmetry
from gc_core.analyse import load_features, merge_firing, watch_shards, write_features
from gc_core.analyse.features import describe_features, evidence_of_features, judge
from gc_core.atlas.patches import cut_patch
from gc_core.config import AnalyseConfig
from gc_core.families import numbered
from gc_core.io.run_folder import RunFolder
from gc_core.store import open_store
from gc_core.transforms import Resampling, act, window_px

MakeRun = Callable[..., RunFolder]
GROUP, TOP = groups.dihedral(4), 3
CONFIG = AnalyseConfig(top_examples=TOP).resolved(tied=True)


def stored(make_run: MakeRun) -> tuple[RunFolder, torch.Tensor]:
    acts_NGC = np.random.default_rng(0).standard_normal((600, GROUP.order, C)).astype(np.float16).astype(np.float32)
    return make_run(acts_NGC, GROUP), torch.from_numpy(acts_NGC)


@pytest.mark.parametrize("poses", [1, 3])
def test_every_firing_is_counted_in_its_pose(make_run: MakeRun, poses: int) -> None:
    model = tied("D4", poses=poses).float()
    run, acts_NGC = stored(make_run)
    store = open_store(run)
    found = merge_firing(
        [watch_shards(store, range(store.num_shards), model, top_examples=TOP)], store.image, top_examples=TOP
    )
    single = replace(model.shape, poses=1)  # its first pose is the one that counts
    model.shape = single
    z_NPG = model.encode(acts_NGC).detach().view(len(acts_NGC), P, GROUP.order).numpy()
    np.testing.assert_array_equal(found.pose_count_FG, (z_NPG > 0).sum(0))
    for prototype in range(P):
        for row, pose in zip(found.top_row_FT[prototype], found.top_pose_FT[prototype], strict=True):
            assert row < 0 or z_NPG[row, prototype].argmax() == pose


def test_what_was_seen_of_poses_is_stored(make_run: MakeRun) -> None:
    model = tied("D4").float()
    run, _ = stored(make_run)
    store = open_store(run)
    firing = merge_firing(
        [watch_shards(store, range(store.num_shards), model, top_examples=TOP)], store.image, top_examples=TOP
    )
    described = describe_features(model, np.arange(P))
    judged = judge(evidence_of_features(model, np.arange(P), (0.0, 0.0), CONFIG), GROUP, CONFIG)
    write_features(run, "tied", described, judged, firing, numbered([], P), GROUP, {})
    table = load_features(run, "tied")
    assert [row["family_gaps"] for row in table.rows] == [None] * P, "a prototype is in every pose"
    arrays = table.arrays
    explained = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
    named = {*table.rows[0], *arrays, *table.attrs, "irreps"}
    assert {name for name in named if f"`{name}`" not in explained} == set()
    np.testing.assert_array_equal(arrays["pose_counts"], firing.pose_count_FG)
    np.testing.assert_array_equal(arrays["top_poses"], firing.top_pose_FT)
    np.testing.assert_array_equal(arrays["block_steps"], described.block_step_FG)


def test_a_block_step_is_the_distance_to_the_next_rotation() -> None:
    decoder_FGC = torch.randn(3, GROUP.order, C, generator=torch.Generator().manual_seed(0))
    found = symmetry.block_steps(decoder_FGC, GROUP)
    for g in range(GROUP.order):
        expected = (decoder_FGC[:, GROUP.cayley[g, 1]] - decoder_FGC[:, g]).norm(dim=1)
        torch.testing.assert_close(found[:, g], expected)


@pytest.mark.parametrize("name", ["D4", "C8"])
def test_a_patch_turned_back_is_the_patch_of_the_image_before_it_was_turned(name: str) -> None:
    group, side = groups.parse(name), 9
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 8, 8))).float()
    window = torch.nn.functional.interpolate(coarse, size=(61, 61), mode="bicubic").clamp(0, 255)  # smooth
    larger = window_px(33, group, Resampling())
    margin = (61 - larger) // 2
    images = act(window[:, :, margin : 61 - margin, margin : 61 - margin], group, 33)[0]  # (G, C, S, S)
    plain = cut_patch(window[0].byte().numpy(), np.array([30, 30]), side, group, 0)
    for h in range(group.order):
        turned = images[h].round().clamp(0, 255).byte().numpy()
        back = cut_patch(turned, np.array([16, 16]), side, group, int(group.inverse[h]))
        assert np.abs(back.astype(int) - plain.astype(int)).mean() < 4
    away = cut_patch(images[1].round().clamp(0, 255).byte().numpy(), np.array([16, 16]), side, group, 0)
    assert np.abs(away.astype(int) - plain.astype(int)).mean() > 8, "the control: without turning they differ"


def test_a_patch_at_the_border_is_whole_however_it_is_turned() -> None:
    group, pixels = groups.dihedral(32), np.random.default_rng(0).integers(0, 255, (3, 20, 20), dtype=np.uint8)
    for element in (0, 1, 33):
        assert cut_patch(pixels, np.array([4, 4]), 9, group, element).shape == (9, 9, 3)
    assert (cut_patch(None, np.array([4, 4]), 9, group, 1) == 128).all()
