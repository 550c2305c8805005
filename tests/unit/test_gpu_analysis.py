"""Analysis and evaluation on a pretended card: all tensors meet there, and the numbers are those of the CPU.

Letters: F features, G group elements, C channels.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gc_core import analyse, groups
from gc_core.arrays import as_arrays
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import Crosscoder, CrosscoderShape
from gc_core.evaluate import compare, measure_held_out
from gc_core.families import Source, find_families, sketched
from gc_core.io.run_folder import RunFolder
from gc_core.store import open_store
from support.pretended_card import PretendedCard
from support.random_crosscoders import ACTIVATIONS
from support.small_runs import MakeRun

KINDS = [(tying, activation) for tying in ("none", "orbit") for activation in ACTIVATIONS]
every_kind = pytest.mark.parametrize(("tying", "activation"), KINDS)
ROWS = np.arange(6)


def model(tying: str, activation: str, device: str, group: str = "D_4") -> Crosscoder:
    parsed = groups.parse(group)
    shape = CrosscoderShape(
        group=parsed, channels=6, dict_size=6 * (parsed.order if tying == "orbit" else 1),
        reads=tuple(range(parsed.order)), activation=activation, k=2, tying=tying,
    )  # fmt: skip
    made, generator = Crosscoder.of(shape), torch.Generator().manual_seed(0)
    made.load_state_dict({n: torch.randn(t.shape, generator=generator) for n, t in made.state_dict().items()})
    if made.threshold is not None:
        made.threshold.fill_(2.0)
    return made.to(device)


@pytest.fixture
def run(make_run: MakeRun) -> RunFolder:
    acts_NGC = np.random.default_rng(0).standard_normal((300, 8, 6)).astype(np.float32)
    return make_run(acts_NGC, groups.dihedral(4), held_out_images=(1, 2, 3))


def same(found: Any, expected: Any) -> None:
    for name, array in as_arrays(expected).items():
        np.testing.assert_allclose(as_arrays(found)[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


@every_kind
def test_firing_and_held_out_figures(tying: str, activation: str, run: RunFolder) -> None:
    store = open_store(run)

    def watched(device: str) -> tuple[analyse.Firing, Any]:
        crosscoder = model(tying, activation, device)
        return analyse.watch_shards(store, range(2), crosscoder, top_examples=2), measure_held_out(run, crosscoder)

    expected, figures = watched("cpu")
    with PretendedCard()():
        found, again = watched("cuda")
    for name in ("fired_F", "top_row_FT", "top_value_FT", "top_pose_FT", "pose_count_FG"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert again == figures


@pytest.mark.parametrize("group", ["D_4", "C_6", "trivial"])
@pytest.mark.parametrize("tying", ["none", "orbit"])
def test_symmetry_evidence_and_families(group: str, tying: str) -> None:
    config = replace(AnalyseConfig(family_similarity=0.1).resolved(tied=tying == "orbit"), surrogates=99)

    def described(device: str) -> list[Any]:
        crosscoder = model(tying, "topk", device, group)
        found = analyse.describe_features(crosscoder, ROWS)
        pooled = analyse.summed_alignment(found, np.ones(len(ROWS), bool))
        decoder_FGC = crosscoder.W_dec.detach()

        def read(some: np.ndarray) -> torch.Tensor:
            return decoder_FGC[torch.from_numpy(some).to(decoder_FGC.device)]

        known = sketched(Source(group=crosscoder.group, read=read, features=ROWS, invariant_share=0.9))
        families = find_families(known, least_similarity=config.family_similarity)
        return [found, analyse.evidence_of_features(crosscoder, ROWS, pooled, config), families]

    expected = described("cpu")
    with PretendedCard()():
        again = described("cuda")
    for one, other in zip(again[:2], expected[:2], strict=True):
        same(one, other)
    np.testing.assert_array_equal(again[2].family_F, expected[2].family_F)
    np.testing.assert_array_equal(again[2].pose_F, expected[2].pose_F)


@every_kind
def test_other_seeds_and_untied_copies(tying: str, activation: str) -> None:
    expected = compare(model(tying, activation, "cpu"), model("none", activation, "cpu"), up_to_pose=True)
    with PretendedCard()():
        found = compare(model(tying, activation, "cuda"), model("none", activation, "cuda"), up_to_pose=True)
    assert found == expected
