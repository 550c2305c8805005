"""Points lie on their manifolds, the group turns them as said, and the scores are 1 where they must be, else 0.

Letters: B samples, A active factors, I factors, U units, R rows, G group elements, C channels.
"""

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gc_core.config import TrainConfig
from infra.bench import manifolds as bench
from infra.bench import manifolds_kinds as kinds
from infra.bench import manifolds_world as world_of
from infra.bench.block_sparse import BlockSparse, fitted, placed, pursue, train_blocks
from infra.bench.manifolds_scores import PartSums, matched_r2, nearest_factor, together
from infra.bench.streamed import train

SMALL = bench.ManifoldBench(
    group="C4", factors=14, channels=48, active=2, noise=0.0, prototypes=16, features=32, k=2, sae_ks=(2,), steps=3,
    batch=32, held_out=256,
)  # fmt: skip


def of_seed(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def raw_points(truth: world_of.Truth, shape: str, blocks: int, count: int = 500) -> Tensor:
    """(B, G, 3) before they are centred and scaled."""
    factor_B1 = torch.full((count, 1), truth.shape_I.index(shape))
    first_B1, second_B1 = torch.rand(2, count, 1, generator=torch.Generator().manual_seed(0))
    point_BGD = world_of.coordinates(truth, factor_B1, first_B1, second_B1, blocks)[:, :, 0]
    return point_BGD * truth.size[shape] + truth.mean[shape]


def test_points_satisfy_the_equations_of_their_manifolds() -> None:
    truth = world_of.plant(SMALL, 0)
    points = {shape: raw_points(truth, shape, 4).double() for shape in truth.shape_I}
    radius = {shape: points[shape][..., :2].norm(dim=-1) for shape in points}
    assert 0.5 <= points["line"][..., 0].min() <= points["line"][..., 0].max() <= 1.5
    assert not points["line"][..., 1:].any()
    torch.testing.assert_close(radius["circle"], torch.ones_like(radius["circle"]), atol=1e-5, rtol=0)
    assert radius["disk"].max() <= 1.0001
    assert radius["disk"].min() < 0.3
    torch.testing.assert_close(points["sphere"].norm(dim=-1), torch.ones_like(radius["sphere"]), atol=1e-5, rtol=0)
    tube = (radius["torus"] - 1) ** 2 + points["torus"][..., 2] ** 2
    torch.testing.assert_close(tube, torch.full_like(tube, 0.25), atol=1e-4, rtol=0)
    edge = (radius["moebius"] - 1) ** 2 + points["moebius"][..., 2] ** 2
    assert 0.2 < edge.max() <= 0.2501
    torch.testing.assert_close(radius["helix"], torch.ones_like(radius["helix"]), atol=1e-4, rtol=0)
    assert (points["swiss roll"][..., :2].norm(dim=-1).max() / points["swiss roll"][..., :2].norm(dim=-1).min()) > 2


def test_centred_shapes_have_mean_zero_and_all_have_size_one() -> None:
    truth = world_of.plant(SMALL, 0)
    for shape in truth.shape_I:
        standard = (raw_points(truth, shape, 1, 20_000)[:, 0] - truth.mean[shape]) / truth.size[shape]
        assert standard.square().sum(1).mean() == pytest.approx(1, abs=0.02), shape
        if shape != "line":
            assert standard.mean(0).norm() < 0.03, shape


def test_the_group_turns_by_equal_angles_and_a_whole_turn_changes_nothing() -> None:
    truth = world_of.plant(SMALL, 0)
    for shape in truth.shape_I:
        point_BGD = raw_points(truth, shape, 5)
        torch.testing.assert_close(point_BGD[:, 4], point_BGD[:, 0], atol=1e-4, rtol=0)
        moved = (point_BGD[:, 1] - point_BGD[:, 0]).norm(dim=1).max()
        assert (moved > 0.5) == (shape in world_of.TURNED), shape
    for shape in ("circle", "disk", "sphere", "torus"):
        point_BGD = raw_points(truth, shape, 2)
        quarter_BD = torch.stack([-point_BGD[:, 0, 1], point_BGD[:, 0, 0], point_BGD[:, 0, 2]], 1)
        torch.testing.assert_close(point_BGD[:, 1], quarter_BD, atol=1e-4, rtol=0)


def test_one_turn_of_a_moebius_strip_would_exchange_its_edges() -> None:
    """The control: why its points go twice round."""
    strip = world_of.SURFACES["moebius"]
    first, second = torch.rand(2, 100, generator=torch.Generator().manual_seed(0))
    stand, once, twice = (torch.stack(strip(first + turns, second)) for turns in (0, 0.5, 1))
    torch.testing.assert_close(twice, stand, atol=1e-4, rtol=0)
    assert (once - stand).abs().max() > 0.3
    torch.testing.assert_close(once, torch.stack(strip(first, 1 - second)), atol=1e-4, rtol=0)


def test_block_zero_is_the_sum_of_its_parts_and_does_not_depend_on_how_many_blocks_are_made() -> None:
    truth = world_of.plant(SMALL, 0)
    (batch,) = world_of.batches(truth, SMALL, 50, 1, 1, 0)
    torch.testing.assert_close(batch.acts_BGC[:, 0], batch.part_BAC.sum(1), atol=1e-5, rtol=1e-4)
    noisy = replace(SMALL, noise=0.2)
    (whole,) = world_of.batches(truth, noisy, 4000, 1, 1, 0)
    (alone,) = world_of.batches(truth, noisy, 4000, 1, 1, 0, blocks=1)
    assert alone.acts_BGC.shape == (4000, 1, 48)
    torch.testing.assert_close(alone.acts_BGC[:, 0], whole.acts_BGC[:, 0])
    left_BC = whole.acts_BGC[:, 0] - whole.part_BAC.sum(1)
    assert left_BC.square().sum() / whole.acts_BGC[:, 0].square().sum() == pytest.approx(0.2, abs=0.02)
    assert all(len(set(row)) == SMALL.active for row in whole.factor_BA.tolist())


def plain_r2(factor_BA: Tensor, part_BAC: Tensor, unit_BUC: Tensor, num_factors: int) -> np.ndarray:
    """The definition: one variance over another, all samples at once."""
    part_BIC = torch.zeros(len(factor_BA), num_factors, part_BAC.shape[2], dtype=torch.float64)
    for sample, factors in enumerate(factor_BA.tolist()):
        for place, factor in enumerate(factors):
            part_BIC[sample, factor] = part_BAC[sample, place]
    r2 = np.zeros((num_factors, unit_BUC.shape[1]))
    for factor in range(num_factors):
        for unit in range(unit_BUC.shape[1]):
            missed = (part_BIC[:, factor] - unit_BUC[:, unit]).numpy()
            r2[factor, unit] = 1 - missed.var(0).sum() / part_BIC[:, factor].numpy().var(0).sum()
    return r2


def test_r2_over_batches_is_the_definition_over_all_samples() -> None:
    factor_BA = torch.rand(90, 5, generator=torch.Generator().manual_seed(0)).topk(2, dim=1).indices
    part_BAC, unit_BUC = of_seed(1, 90, 2, 7) + 0.5, of_seed(2, 90, 4, 7) - 0.2
    unit_BUC[torch.arange(90), factor_BA[:, 0] % 4] += part_BAC[:, 0]
    sums = PartSums(5, 4, 7)
    for rows in (slice(0, 30), slice(30, 90)):
        sums.add(factor_BA[rows], part_BAC[rows], unit_BUC[rows])
    np.testing.assert_allclose(sums.r2(), plain_r2(factor_BA, part_BAC, unit_BUC, 5), atol=1e-5)


def test_every_factor_has_a_unit_of_its_own_and_the_best_such_choice_is_made() -> None:
    r2_IU = np.random.default_rng(0).uniform(-0.5, 1, (4, 5))
    best = max(np.maximum(r2_IU[range(4), list(choice)], 0).sum() for choice in permutations(range(5), 4))
    assert matched_r2(r2_IU).sum() == pytest.approx(best)
    assert matched_r2(np.full((3, 1), 0.9)).tolist().count(0.9) == 1
    assert not matched_r2(np.full((3, 3), -2.0)).any()


def found(dictionary: kinds.Dictionary, world: bench.ManifoldBench = SMALL) -> bench.Row:
    return bench.score(dictionary, world, world_of.plant(world, 0), 0)


def test_what_is_given_is_told_whole_and_the_controls_are_told_nothing() -> None:
    truth = world_of.plant(SMALL, 0)
    for active_too in (True, False):
        known = kinds.known(truth, active_too=active_too, k=2)
        row = found(known)
        assert row.r2 > 0.99, active_too
        assert row.fvu < 0.01
        assert row.shuffled_r2 < 0.1
        assert set(row.shapes) == {"line", *world_of.SURFACES}
    everything = replace(known, label_R=np.zeros(14, np.int64))
    assert found(everything).r2 < 0.1, "one unit of everything"
    silent = replace(known, parts=lambda batch: 0 * kinds.known(truth, active_too=True, k=2).parts(batch))
    row = found(silent)
    assert (row.r2, row.living) == (0, 0)
    assert 1 < row.fvu < 1.1


def test_rows_are_put_together_by_the_factor_that_holds_most_of_them() -> None:
    truth = world_of.plant(SMALL, 0)
    halves_RGC = truth.used_frame_IDC.repeat_interleave(2, 0) + 0.02 * of_seed(0, 28, 3, 48)
    assert nearest_factor(halves_RGC, truth.used_frame_IDC).tolist() == [factor for factor in range(14) for _ in "ab"]
    row_BRC = of_seed(1, 6, 4, 5)
    unit_BUC = together(row_BRC, np.array([1, 0, 1, 1]))
    torch.testing.assert_close(unit_BUC[:, 1], row_BRC[:, [0, 2, 3]].sum(1))
    torch.testing.assert_close(unit_BUC[:, 0], row_BRC[:, 1])


def test_parts_of_ours_add_up_to_the_reconstruction_of_block_zero() -> None:
    truth = world_of.plant(SMALL, 0)
    (batch,) = world_of.batches(truth, SMALL, 40, 1, 1, 0)
    common: dict[str, Any] = {"k": 3, "steps": 2, "batch": 8, "group": "C4", "augment": False}
    for sizes in ({"tying": "orbit", "prototypes": 6}, {"tying": "none", "dict_size": 20, "encoder_reads": "all"}):
        model = train("ours", TrainConfig(**common, **sizes), batch.acts_BGC, [batch.acts_BGC[:8]] * 2)
        mine = kinds.of_ours(model)
        recon_BGC = model.reconstruct(batch.acts_BGC)[1]
        torch.testing.assert_close(mine.parts(batch).sum(1) + mine.bias_C, recon_BGC[:, 0], atol=1e-5, rtol=1e-4)


def test_least_squares_on_known_subspaces_is_numpys() -> None:
    frame_PDC = torch.linalg.qr(of_seed(0, 5, 30, 3)).Q.transpose(1, 2)
    acts_BC, chosen_BK = of_seed(1, 8, 30), torch.tensor([[0, 3]] * 8)
    part_BPC = placed(chosen_BK, fitted(acts_BC, frame_PDC[chosen_BK]), 5)
    rows = frame_PDC[[0, 3]].reshape(6, 30).numpy()
    expected = np.linalg.lstsq(rows.T, acts_BC.T.numpy(), rcond=None)[0].T @ rows
    np.testing.assert_allclose(part_BPC.sum(1).numpy(), expected, atol=1e-4)
    assert not part_BPC[:, [1, 2, 4]].any()
    exact_BC = (of_seed(2, 8, 1, 3) @ frame_PDC[4] + of_seed(3, 8, 1, 3) @ frame_PDC[1])[:, 0]
    torch.testing.assert_close(pursue(exact_BC, frame_PDC, 2).sum(1), exact_BC, atol=1e-3, rtol=1e-3)


def test_the_block_sparse_featurizer_keeps_k_blocks_and_learns_what_it_is_given_time_for() -> None:
    truth = world_of.plant(SMALL, 0)
    stream = [each.acts_BGC[:, 0] for each in world_of.batches(truth, SMALL, 128, 400, 1, 0, blocks=1)]
    model = BlockSparse(16, 3, 2, stream[0], torch.Generator().manual_seed(0))
    before = (model(stream[0]) - stream[0]).square().sum().item()
    assert ((model.encode(stream[0]).square().sum(2) > 0).sum(1) == 2).all()
    train_blocks(model, stream, 400, 1e-2)
    assert (model(stream[0]) - stream[0]).square().sum().item() < 0.5 * before
    torch.testing.assert_close(model.W_dec.norm(dim=2), torch.ones(16, 3))
    z_BPD = model.encode(stream[0])
    torch.testing.assert_close(model.parts(z_BPD).sum(1) + model.b_dec, model(stream[0]), atol=1e-4, rtol=1e-4)


def test_every_kind_is_measured_and_written(tmp_path: Path) -> None:
    file = tmp_path / "manifolds.json"
    names = "group", "factors", "channels", "active", "prototypes", "features", "k", "steps", "batch"
    words = [word for name in names for word in (f"--{name}", str(getattr(SMALL, name)))]
    bench.main([*words, "--sae-ks", "2", "3", "--held-out", "128", "--json", str(file)])
    rows = json.loads(file.read_text())
    told = [(row["kind"], row["k"]) for row in rows]
    once = [(kind, 2) for kind in bench.KINDS if kind not in ("sae", "saelens")]
    assert told == [*once[:4], ("sae", 2), ("sae", 3), *once[4:]]
    oracle, pursuit, untrained, *_ = rows
    assert oracle["r2"] > pursuit["r2"] - 0.02
    assert pursuit["r2"] > untrained["r2"] + 0.3


def test_a_group_with_mirrors_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a cyclic one"):
        world_of.World(group="D4")
    with pytest.raises(ValueError, match="kinds: found 'saes'"):
        bench.ManifoldBench(kinds=("saes",))
