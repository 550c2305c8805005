"""Families found in pieces are those found from all pairs at once; pieces stay as small as asked for.

Letters: F features, G group elements, C channels.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_crosscoder import random_crosscoder

from gc_core import analyse, spanning
from gc_core.analyse import features
from gc_core.config import AnalyseConfig, ResolvedAnalyseConfig
from gc_core.crosscoder import GroupCrosscoder
from gc_core.families import Families, family_similarity, group_families, numbered
from gc_core.spanning import Forest
from gc_core.symmetry import translate

NUM_FEATURES = 60
CONFIG = AnalyseConfig(family_similarity=0.6).resolved(tied=False)


def symmetric(seed: int, count: int = 12) -> np.ndarray:
    """Cosines of random vectors in few dimensions, so that many pairs are similar."""
    rows = np.random.default_rng(seed).standard_normal((count, 3))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows @ rows.T).astype(np.float32)


def components(similarity: np.ndarray, least: float) -> list[list[int]]:
    """The plain way: walk from feature to feature."""
    left, found = set(range(len(similarity))), []
    while left:
        piece, new = set(), {min(left)}
        while new:
            piece |= new
            new = {int(j) for i in new for j in np.flatnonzero(similarity[i] >= least)} - piece
        left -= piece
        found.append(sorted(piece))
    return [piece for piece in found if len(piece) > 1]


@given(st.integers(0, 10**6), st.floats(0.05, 0.95), st.integers(1, 5))
def test_a_forest_from_parts_has_the_components_of_all_pairs_at_every_bound(seed: int, least: float, band: int) -> None:
    similarity = symmetric(seed)
    forest = spanning.EMPTY
    for first in range(0, len(similarity), band):
        more = spanning.pairs_above(similarity[first : first + band, first:], least, first=first, start=first)
        forest = spanning.joined([forest, more], len(similarity))
    assert len(forest.first_E) < len(similarity)
    for bound in (least, (1 + least) / 2):
        kept = forest.similarity_E >= bound
        above = Forest(
            first_E=forest.first_E[kept], second_E=forest.second_E[kept], similarity_E=forest.similarity_E[kept]
        )
        found = spanning.pieces(above, len(similarity), most=len(similarity))
        assert [piece.tolist() for piece in found] == components(similarity, bound)


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_no_piece_is_larger_than_asked_for_and_a_broken_component_is_noticed(seed: int, most: int) -> None:
    similarity = symmetric(seed)
    forest = spanning.joined([spanning.pairs_above(similarity, 0.3, first=0, start=0)], len(similarity))
    found = spanning.pieces(forest, len(similarity), most=most)
    whole = components(similarity, 0.3)
    assert max(map(len, found), default=0) <= most
    assert spanning.is_broken(forest, found) == (max(map(len, whole), default=0) > most)
    assert all(any(set(piece.tolist()) <= set(one) for one in whole) for piece in found)


def planted() -> GroupCrosscoder:
    """Turned copies of twenty features, the more alike the earlier, none exact."""
    model = random_crosscoder(dict_size=NUM_FEATURES, channels=8)
    generator = torch.Generator().manual_seed(3)
    originals = torch.randn(20, *model.W_dec.shape[1:], dtype=torch.float64, generator=generator)
    copies = torch.cat([translate(originals, h, model.group) for h in (0, 2, 4)])
    blur = torch.randn(copies.shape, dtype=torch.float64, generator=generator)
    blur *= torch.linspace(0.1, 1.5, 20, dtype=torch.float64).repeat(3)[:, None, None]
    model.W_dec.data = copies + blur
    return model


def from_all_pairs(model: GroupCrosscoder, alive: np.ndarray, config: ResolvedAnalyseConfig) -> Families:
    similarity, pose = family_similarity(
        model.W_dec.detach()[alive], model.W_dec.detach()[alive], model.group, invariant_share=config.invariant_share
    )
    return group_families(similarity.numpy(), pose.numpy(), least_similarity=config.family_similarity)


@pytest.fixture
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BAND_ROWS", 7)
    monkeypatch.setattr(features, "TILE_COLUMNS", 9)


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize("least", [0.3, 0.5, 0.6, 0.8, 0.95])
def test_families_in_pieces_are_those_of_all_pairs_at_once(least: float) -> None:
    model, alive, config = planted(), np.arange(NUM_FEATURES), replace(CONFIG, family_similarity=least)
    expected = from_all_pairs(model, alive, config)
    forests = [analyse.band_of_pairs(model, alive, rows, config) for rows in analyse.bands(NUM_FEATURES)]
    forest = spanning.joined(forests, NUM_FEATURES)
    found = spanning.pieces(forest, NUM_FEATURES, most=NUM_FEATURES)
    clusters = [each for piece in found for each in analyse.families_within(model, alive[piece], config)]
    for name in ("family_F", "pose_F", "representative_F"):
        np.testing.assert_array_equal(
            getattr(numbered(clusters, NUM_FEATURES), name), getattr(expected, name), err_msg=name
        )
    assert (expected.family_F >= 0).any()


@pytest.mark.usefixtures("small_bands")
def test_bands_make_the_whole_matrix_of_living_features() -> None:
    model, alive = planted(), np.flatnonzero(np.arange(NUM_FEATURES) % 4 > 0)
    whole = analyse.AssembledSimilarities(len(alive), model.group)
    for rows in analyse.bands(len(alive)):
        whole.add(rows, *analyse.band_of_similarities(model, alive, rows, CONFIG))
    found, expected = numbered(whole.clusters(CONFIG), len(alive)), from_all_pairs(model, alive, CONFIG)
    for name in ("family_F", "pose_F", "representative_F"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
