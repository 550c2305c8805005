"""Whatever is computed with a crosscoder on another device is sent there first, and comes back as numbers.

Letters: B samples, G group elements, C channels, F features, N images, h w units.
"""

import numpy as np
import pytest
import torch

from gc_core import analyse, groups
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import GroupCrosscoder
from gc_core.evaluate import compare, measure_held_out
from gc_core.evaluate.downstream import reconstructed_map
from gc_core.families import Dictionary, Source, find_families, sketched
from gc_core.store import open_store
from support.fake_device import ELSEWHERE, FakeDevice
from support.random_crosscoders import random_crosscoder
from support.small_runs import MakeRun

EVERY = np.arange(12)
dense = pytest.mark.parametrize("activation", ["l1", "jumprelu"])
"""Sparse products have kernels by type of device, and tests of their own on a real one (tests/gpu)."""


def elsewhere(model: GroupCrosscoder) -> GroupCrosscoder:
    """The same model with its tensors on the other device; they are replaced one by one, as `to` would."""
    for name, parameter in list(model.named_parameters()):
        delattr(model, name)
        setattr(model, name, parameter.detach().to(ELSEWHERE))
    for name, buffer in list(model.named_buffers()):
        setattr(model, name, buffer.to(ELSEWHERE))
    return model


def model(activation: str = "l1") -> GroupCrosscoder:
    return random_crosscoder(group="C_4", channels=6, activation=activation).float()


def acts() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((300, 4, 6)).astype(np.float32)


def test_tensors_of_two_devices_do_not_meet() -> None:
    with FakeDevice(), pytest.raises(RuntimeError, match="two devices"):
        torch.ones(3).to(ELSEWHERE) + torch.ones(3)
    with FakeDevice(), pytest.raises(TypeError, match="cannot become an array"):
        torch.ones(3).to(ELSEWHERE).numpy()


@dense
def test_watching_features_fire(make_run: MakeRun, activation: str) -> None:
    store = open_store(make_run(acts(), groups.cyclic(4)))
    expected = analyse.watch_shards(store, range(2), model(activation), top_examples=2)
    with FakeDevice():
        found = analyse.watch_shards(store, range(2), elsewhere(model(activation)), top_examples=2)
    np.testing.assert_array_equal(found.fired_F, expected.fired_F)
    np.testing.assert_array_equal(found.top_row_FT, expected.top_row_FT)


@dense
def test_held_out_figures(make_run: MakeRun, activation: str) -> None:
    run = make_run(acts(), groups.cyclic(4), held_out_images=(1, 2, 3))
    expected = measure_held_out(run, model(activation))
    with FakeDevice():
        found = measure_held_out(run, elsewhere(model(activation)))
    assert found == expected


def test_symmetry_and_families() -> None:
    config = AnalyseConfig(family_similarity=0.2).resolved(tied=False)
    expected = analyse.describe_features(model(), EVERY)
    families = find_families(known(model()), least_similarity=0.2)
    with FakeDevice():
        found = analyse.describe_features(elsewhere(model()), EVERY)
        same = find_families(known(elsewhere(model())), least_similarity=0.2)
    np.testing.assert_array_equal(found.self_similarity_FG, expected.self_similarity_FG)
    np.testing.assert_array_equal(found.alignment_F2, expected.alignment_F2)
    pooled = analyse.summed_alignment(expected, np.ones(len(EVERY), bool))
    judged = analyse.evidence_of_features(model(), EVERY, pooled, config)
    with FakeDevice():
        again = analyse.evidence_of_features(elsewhere(model()), EVERY, pooled, config)
    np.testing.assert_array_equal(again.p_FQ, judged.p_FQ)
    np.testing.assert_array_equal(again.low_FQ, judged.low_FQ)
    np.testing.assert_array_equal(same.family_F, families.family_F)
    np.testing.assert_array_equal(same.pose_F, families.pose_F)
    assert families.family_F.max() >= 0


def known(crosscoder: GroupCrosscoder) -> Dictionary:
    decoder_FGC = crosscoder.W_dec.detach()

    def read(some: np.ndarray) -> torch.Tensor:
        return decoder_FGC[torch.from_numpy(some).to(decoder_FGC.device)]

    return sketched(Source(group=crosscoder.group, read=read, features=EVERY, invariant_share=0.9))


@dense
def test_maps_and_other_dictionaries(activation: str) -> None:
    map_NChw = torch.randn(2, 6, 3, 5, generator=torch.Generator().manual_seed(0))
    expected, agreement = reconstructed_map(model(activation), map_NChw), compare(model(), model(), up_to_pose=True)
    with FakeDevice():
        found = reconstructed_map(elsewhere(model(activation)), map_NChw)
        same = compare(elsewhere(model()), model(), up_to_pose=True)
    torch.testing.assert_close(found, expected)
    assert same == agreement
