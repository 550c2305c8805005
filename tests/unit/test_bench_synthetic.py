"""Known features that fire together are drawn as described, scored as SynthSAEBench does, and missed by controls.

Letters: B samples, F true features, L latents, C channels.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from infra.bench import synthetic as bench
from infra.bench import synthetic_world as world_of
from infra.bench.peer import Autoencoder, PeerOptions, train_peer
from infra.bench.saelens_peer import plain_weights
from infra.bench.synthetic_scores import Counts, Scores
from infra.bench.synthetic_world import Truth, World

SMALL = World(true_features=60, channels=24, roots=4, branching=3, depth=2, rank=5, orthogonal_steps=2)


def drawn(truth: Truth, count: int = 20_000) -> Tensor:
    return next(world_of.batches(truth, count, 1, 0, 0)).fired_BF


def of_seed(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_children_fire_with_their_parents_alone_and_never_with_a_sibling() -> None:
    truth = world_of.plant(SMALL, 0)
    fires_BF = drawn(truth) > 0
    parent_F = truth.parent_F.tolist()
    children = [child for child, parent in enumerate(parent_F) if parent >= 0]
    assert len(children) == 4 * 3 + 12 * 3
    for child in children:
        assert not (fires_BF[:, child] & ~fires_BF[:, parent_F[child]]).any()
    for one, other in pairwise(children):
        if parent_F[one] == parent_F[other]:
            assert not (fires_BF[:, one] & fires_BF[:, other]).any()


def test_the_control_without_trees_breaks_both_rules() -> None:
    fires_BF = drawn(world_of.plant(World(true_features=60, channels=24, roots=0), 0)) > 0
    parent_F = world_of.plant(SMALL, 0).parent_F
    assert (fires_BF[:, 4] & ~fires_BF[:, parent_F[4]]).any()
    assert (fires_BF[:, 4] & fires_BF[:, 5]).any()


def test_features_fire_as_often_as_the_law_says_where_no_tree_rules() -> None:
    truth = world_of.plant(SMALL, 0)
    free_F = (truth.parent_F < 0).numpy()
    rate_F = (drawn(truth, 100_000) > 0).double().mean(0).numpy()
    law_F = np.arange(1, 61) ** -0.5
    wanted_F = 5e-4 + (0.4 - 5e-4) * (law_F - law_F[-1]) / (law_F[0] - law_F[-1])
    assert np.abs(rate_F - wanted_F)[free_F].max() < 0.01
    generation_F = truth.generation_F.numpy()
    assert 0.5 < rate_F[generation_F > 0].sum() / wanted_F[generation_F > 0].sum() < 1.1
    assert truth.mean_F[[0, -1]].tolist() == [5.0, 4.0]


def test_correlation_is_that_of_the_factor_and_none_without() -> None:
    """Two features with the same row of the factor fire together more often than chance."""
    truth = world_of.plant(World(true_features=60, channels=24, roots=0, correlation=0.15), 0)
    twins = truth.to("cpu")
    twins.factor_FR[1] = twins.factor_FR[0]
    fires_BF = (drawn(twins) > 0).double()
    alone = (drawn(world_of.plant(World(true_features=60, channels=24, roots=0, correlation=0.0), 0)) > 0).double()
    assert np.corrcoef(fires_BF[:, 0], fires_BF[:, 1])[0, 1] > 0.2
    assert abs(np.corrcoef(alone[:, 0], alone[:, 1])[0, 1]) < 0.05


def test_directions_are_pushed_apart_and_stay_of_length_one() -> None:
    before_FC = torch.nn.functional.normalize(of_seed(0, 60, 24), dim=1)
    after_FC = world_of.pushed_apart(before_FC, 100)
    torch.testing.assert_close(after_FC.norm(dim=1), torch.ones(60))
    assert (after_FC @ after_FC.T).square().sum() < (before_FC @ before_FC.T).square().sum() - 1


def plain_scores(
    decoder_LC: Tensor, direction_FC: Tensor, code_BL: Tensor, recon: Tensor, batch: world_of.Batch
) -> Scores:
    """The definitions, latent by latent."""
    acts, fired = batch.acts_BC, batch.fired_BF
    cosine = np.array(
        [[abs(float(torch.cosine_similarity(mine, true, dim=0))) for true in direction_FC] for mine in decoder_LC]
    )
    f1, precision, recall = [], [], []
    for latent, feature in enumerate(cosine.argmax(1)):
        active, fires = (code_BL[:, latent] > 0).numpy(), (fired[:, feature] > 0).numpy()
        hits = (active & fires).sum()
        precision.append(hits / active.sum() if active.any() else 0)
        recall.append(hits / fires.sum() if fires.any() else 0)
        both = precision[-1] + recall[-1]
        f1.append(2 * precision[-1] * recall[-1] / both if both else 0)
    matched = cosine[linear_sum_assignment(-cosine)]
    residual, total = ((recon - acts) ** 2).sum(), ((acts - acts.mean(0)) ** 2).sum()
    active_BL = (code_BL > 0).double()
    return Scores(
        f1=np.mean(f1), precision=np.mean(precision), recall=np.mean(recall), mcc=matched.mean(),
        uniqueness=len(set(cosine.argmax(1))) / len(cosine), r2=float(1 - residual / total),
        l0=float(active_BL.sum(1).mean()), dead_share=float((active_BL.sum(0) == 0).double().mean()),
        true_l0=float((fired > 0).double().sum(1).mean()),
    )  # fmt: skip


def test_scores_over_batches_are_the_definitions_over_all_samples() -> None:
    truth = world_of.plant(SMALL, 0)
    batch = next(world_of.batches(truth, 400, 1, 0, 0))
    decoder_LC = truth.direction_FC[:20] + 0.3 * of_seed(1, 20, 24)
    code_BL = (of_seed(2, 400, 20) - 0.5 + batch.fired_BF[:, :20]).relu()
    code_BL[:, 7] = 0
    recon_BC = code_BL @ decoder_LC / 5
    counts = Counts(decoder_LC, truth.direction_FC)
    for rows in (slice(0, 150), slice(150, 400)):
        counts.add(code_BL[rows], recon_BC[rows], batch.acts_BC[rows], batch.fired_BF[rows])
    found = counts.scores()
    expected = plain_scores(decoder_LC, truth.direction_FC, code_BL, recon_BC, batch)
    for name in Scores.__dataclass_fields__:
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-5), name
    assert found.dead_share == 1 / 20


def test_what_is_given_is_perfect_and_the_controls_fail() -> None:
    options = bench.SyntheticBench(
        true_features=60, channels=40, roots=4, branching=3, depth=2, latents=20, k=4, samples=64, batch=64,
        held_out=6400,
    )  # fmt: skip
    data = bench.Data(options, 0)
    truth = data.truth

    def scores(decoder_LC: Tensor, code: bench.Coder) -> Scores:
        counts = Counts(decoder_LC, truth.direction_FC)
        for batch in data.held_out():
            counts.add(*code(batch), batch.acts_BC, batch.fired_BF)
        return counts.scores()

    oracle, given = bench.oracle(truth, 20), truth.direction_FC[:20]
    found = scores(given, oracle)
    assert (found.f1, found.uniqueness) == (1, 1)
    assert found.mcc == pytest.approx(1)
    assert 0.5 < found.r2 < 1
    inert = bench.untrained(options, 0)
    lost = scores(inert.W_dec, lambda batch: (inert.encode(batch.acts_BC), inert.decode(inert.encode(batch.acts_BC))))
    assert lost.mcc < 0.6
    assert lost.f1 < 0.5
    elsewhere = scores(given, lambda batch: oracle(next(bench.shuffled([batch]))))
    assert elsewhere.f1 < 0.3


def test_ours_learns_what_a_control_does_not_and_everything_is_written(tmp_path: Path) -> None:
    file = tmp_path / "synthetic.json"
    sizes = {"true-features": 40, "channels": 32, "roots": 0, "latents": 20, "k": 4, "batch": 128, "held-out": 2560}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    bench.main([*words, "--samples", "40000", "--rates", "5e-3", "--json", str(file)])
    found = json.loads(file.read_text())
    told = [(row["kind"], row["learning_rate"]) for row in found]
    assert told == [("oracle", None), ("untrained", None), ("ours", None), ("shuffled", None), ("ours", 5e-3)]
    rows = {row["kind"]: row for row in found}
    assert rows["ours"]["mcc"] > rows["untrained"]["mcc"] + 0.2
    assert rows["ours"]["f1"] > max(rows["untrained"]["f1"], rows["shuffled"]["f1"]) + 0.1
    assert rows["shuffled"]["mcc"] == found[2]["mcc"]
    assert rows["ours"]["true_l0"] == rows["oracle"]["true_l0"]


def test_training_samples_are_the_same_each_time_kept_or_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    options = bench.SyntheticBench(true_features=60, channels=24, latents=20, samples=300, batch=100, held_out=100)
    kept = torch.stack([*bench.Data(options, 0).training()])
    monkeypatch.setattr(bench, "KEPT_BYTES", 0)
    data = bench.Data(options, 0)
    assert torch.equal(kept, torch.stack([*data.training()]))
    assert torch.equal(kept, torch.stack([*data.training()]))
    assert not torch.equal(kept[0], next(data.held_out()).acts_BC)
    assert not torch.equal(kept[0], kept[1])


class PretendedAutoencoder:
    """SAELens' top-k autoencoder, from its documentation: codes are ranked and returned times the decoder norm, the
    decoder's bias is taken off before, and codes are divided by the norm again."""

    def __init__(self) -> None:
        self.W_enc, self.b_enc, self.b_dec = of_seed(0, 6, 10), of_seed(1, 10), of_seed(2, 6)
        self.W_dec = of_seed(3, 10, 6)
        self.cfg = type("Config", (), {"rescale_acts_by_decoder_norm": True, "apply_b_dec_to_input": True})

    def __call__(self, acts_BC: Tensor) -> Tensor:
        norm_L = self.W_dec.norm(dim=1)
        value, place = (((acts_BC - self.b_dec) @ self.W_enc + self.b_enc) * norm_L).topk(3, dim=1)
        code_BL = torch.zeros(len(acts_BC), 10).scatter(1, place, value.relu())
        return (code_BL / norm_L) @ self.W_dec + self.b_dec


def test_the_peers_weights_are_folded_so_that_plain_top_k_does_the_same() -> None:
    theirs, acts_BC = PretendedAutoencoder(), of_seed(4, 50, 6)
    mine = Autoencoder(**plain_weights(theirs), k=3)
    torch.testing.assert_close(mine.decode(mine.encode(acts_BC)), theirs(acts_BC))
    assert (mine.encode(acts_BC) > 0).sum(1).max() == 3


OPTIONS = PeerOptions(channels=6, latents=10, k=3, batch=4, steps=2, learning_rate=1e-3)


def test_a_peer_that_cannot_run_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be started"):
        train_peer(tmp_path / "nowhere", OPTIONS, [of_seed(0, 4, 6)])
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho no such module >&2\nexit 3\n")
    script.chmod(0o700)
    with pytest.raises(ValueError, match="code 3 and said 'no such module'"):
        train_peer(script, OPTIONS, [of_seed(0, 400, 6)] * 50)


def test_a_peer_gets_the_very_samples_in_their_order(tmp_path: Path) -> None:
    """A Python that writes what comes through the pipe instead of weights."""
    script = tmp_path / "python"
    script.write_text(
        f"#!{sys.executable}\nimport sys, numpy\nfrom safetensors.numpy import save_file\n"
        "x = numpy.frombuffer(sys.stdin.buffer.read(), numpy.float32).reshape(8, 6)\n"
        "save_file({name: x for name in ('W_enc', 'b_enc', 'W_dec', 'b_dec')}, sys.argv[3])\n"
    )
    script.chmod(0o700)
    batches = [of_seed(0, 4, 6), of_seed(1, 4, 6)]
    assert torch.equal(train_peer(script, OPTIONS, iter(batches)).W_enc, torch.cat(batches))


def test_saelens_itself_learns_on_these_samples() -> None:
    pytest.importorskip("sae_lens", reason="sae_lens is not installed: pip install sae-lens")
    sparse_BC = torch.nn.functional.one_hot(torch.arange(400) % 6, 6).float() * 3
    options = PeerOptions(channels=6, latents=10, k=1, batch=100, steps=400, learning_rate=1e-2)
    mine = train_peer(Path(sys.executable), options, [sparse_BC[torch.randperm(400)[:100]] for _ in range(400)])
    assert (mine.decode(mine.encode(sparse_BC)) - sparse_BC).norm() < 0.3 * sparse_BC.norm()
