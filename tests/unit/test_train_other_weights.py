"""A training that begins with another crosscoder's weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gc_core.config import TrainConfig
from gc_core.crosscoder import Crosscoder, GroupCrosscoder, OrbitCrosscoder
from gc_core.families import best_poses
from gc_core.io.location import Location
from gc_core.train import Trainer
from jobs.common.claims import config_to_train
from support.small_trainings import SMALL, new_trainer, opened, trained

KINDS = {
    "topk": {},
    "batchtopk": {"activation": "batchtopk"},
    "jumprelu": {"activation": "jumprelu"},
    "tied": {"tying": "orbit", "prototypes": 5, "dict_size": None, "encoder_reads": "identity"},
}


def saved(trainer: Trainer, url: str) -> Crosscoder:
    model = trainer.exported()
    assert model
    model.save(url)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_it_begins_with_them_in_the_units_of_training(planted: Any, tmp_path: Path, kind: str) -> None:
    first = trained(planted.run, **KINDS[kind])
    assert abs(first.data.scale - 1) > 0.01
    saved(first, str(tmp_path))
    second = new_trainer(planted.run, **KINDS[kind], init_from=str(tmp_path))
    for name, tensor in first.result.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], tensor, rtol=1e-6, atol=1e-9)
    assert (second.step, second.metrics) == (0, [])
    assert second.config.init_from == f"file://{tmp_path}"
    assert not second.state()["optimiser"]["state"], "the optimiser is new"


def test_an_untied_one_may_begin_with_tied_poses(planted: Any, tmp_path: Path) -> None:
    tied = new_trainer(planted.run, **KINDS["tied"], invariant_prototypes=1)
    saved(tied, str(tmp_path))
    features = tied.model.shape.dict_size
    untied = new_trainer(planted.run, tying="none", dict_size=features, encoder_reads="all", init_from=str(tmp_path))
    expected, found = tied.model.materialised().state_dict(), untied.model.state_dict()
    size = float(found["W_enc"].norm() / expected["W_enc"].norm())
    for name, factor in (("W_enc", size), ("b_enc", size), ("W_dec", 1.0), ("b_dec", 1.0)):
        torch.testing.assert_close(found[name], factor * expected[name], rtol=1e-5, atol=1e-6)
    other = {"tying": "none", "dict_size": features + 1, "encoder_reads": "all", "init_from": str(tmp_path)}
    with pytest.raises(ValueError, match=f"has dict_size {features}, not {features + 1}"):
        new_trainer(planted.run, **other)


@pytest.mark.parametrize("invariant", [0, 2])
def test_tied_poses_may_begin_with_the_families_of_an_untied_one(planted: Any, tmp_path: Path, invariant: int) -> None:
    tied = new_trainer(planted.run, **KINDS["tied"]).model
    assert isinstance(tied, OrbitCrosscoder)
    torch.nn.init.normal_(tied.W_dec, generator=torch.Generator().manual_seed(0))  # no two are of one family
    tied.materialised().save(str(tmp_path))
    sizes = {"prototypes": 7 + invariant, "invariant_prototypes": invariant, "seed": 5}
    begun = new_trainer(planted.run, **(KINDS["tied"] | sizes), init_from=str(tmp_path)).model
    fresh = new_trainer(planted.run, **(KINDS["tied"] | sizes)).model
    similarity_PP, _ = best_poses(begun.W_dec.detach()[invariant : invariant + 5], tied.W_dec.detach(), tied.group)
    assert similarity_PP.max(0).values.min() > 0.99, "every family is a prototype"
    for of_families, name in ((slice(0, invariant), "invariant"), (slice(invariant + 5, None), "left over")):
        torch.testing.assert_close(begun.W_dec[of_families], fresh.W_dec[of_families], msg=name)


def test_families_of_a_dictionary_that_is_too_large_are_not_looked_for(planted: Any, tmp_path: Path) -> None:
    GroupCrosscoder(replace(new_trainer(planted.run).model.shape, dict_size=8193)).save(str(tmp_path))
    with pytest.raises(ValueError, match=r"has 8,193 features, expected at most 8,192 .*; begin with a smaller one"):
        new_trainer(planted.run, **KINDS["tied"], init_from=str(tmp_path))


def test_training_goes_on_from_them_to_a_better_score(planted: Any, tmp_path: Path) -> None:
    first = trained(planted.run)
    saved(first, planted.run.crosscoder("begun"))
    second = trained(planted.run, init_from="begun", learning_rate=3e-3)
    fresh = trained(planted.run, learning_rate=3e-3)
    assert second.metrics[-1]["held_out_fvu"] < first.metrics[-1]["held_out_fvu"]
    assert second.metrics[0]["fvu"] < fresh.metrics[0]["fvu"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"dict_size": 32}, r"has dict_size 20, not 32; expected the same group, kind and size"),
        ({"activation": "l1"}, r"has activation 'topk', not 'l1'"),
        ({"encoder_reads": "identity"}, r"has reads \(0, 1, .*\), not \(0,\)"),
        ({"group": "trivial"}, r"has group "),
    ],
)
def test_another_kind_or_size_is_refused_before_the_name_is_taken(
    planted: Any, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    saved(new_trainer(planted.run), str(tmp_path / "other"))
    asked: TrainConfig = replace(SMALL, **changes, init_from=str(tmp_path / "other"))
    resolved, data = opened(planted.run, **changes, init_from=str(tmp_path / "other"))
    with pytest.raises(ValueError, match=rf"^init_from: file://{tmp_path}/other {line}"):
        config_to_train(Location.parse(tmp_path / "new"), asked, resolved, data)
    assert not (tmp_path / "new").exists()


def test_other_numbers_of_active_features_are_taken(planted: Any, tmp_path: Path) -> None:
    saved(new_trainer(planted.run), str(tmp_path))
    assert new_trainer(planted.run, k=3, init_from=str(tmp_path)).model.shape.k == 3


def test_features_that_overshoot_begin_at_the_size_that_fits_best(planted: Any, tmp_path: Path) -> None:
    tied = trained(planted.run, **KINDS["tied"])
    saved(tied, str(tmp_path))
    sizes = {"tying": "none", "dict_size": tied.model.shape.dict_size, "encoder_reads": "all"}
    begun = new_trainer(planted.run, **sizes, init_from=str(tmp_path))
    acts = begun.data.read(begun.data.train_rows[:256])
    errors = {}
    for factor in (0.8, 1.0, 1.25):
        scaled = GroupCrosscoder(begun.model.shape)
        scaled.load_state_dict(begun.model.state_dict())
        with torch.no_grad():
            scaled.W_enc.mul_(factor)
            scaled.b_enc.mul_(factor)
        errors[factor] = float((scaled.reconstruct(acts)[1] - acts).square().sum())
    assert min(errors, key=errors.__getitem__) == 1.0


def test_families_that_would_not_be_used_are_refused(planted: Any, tmp_path: Path) -> None:
    saved(new_trainer(planted.run), str(tmp_path))
    with pytest.raises(ValueError, match=r"^init: found transpose with families to begin along, expected data"):
        new_trainer(planted.run, **KINDS["tied"], init="transpose", init_from=str(tmp_path))


def test_what_does_not_fit_is_refused_with_its_weights_unread(
    planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(new_trainer(planted.run), str(tmp_path))
    monkeypatch.setattr("gc_core.crosscoder.files.load_file", lambda path: pytest.fail("read"))
    resolved, data = opened(planted.run, init_from=str(tmp_path))
    config_to_train(Location.parse(tmp_path / "new"), SMALL, resolved, data)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"its model\.safetensors is missing"):
        config_to_train(Location.parse(tmp_path / "new"), SMALL, resolved, data)


def test_one_that_is_not_there_is_named(planted: Any) -> None:
    resolved, data = opened(planted.run, init_from="nobody")
    with pytest.raises(ValueError, match=r"/crosscoders/nobody: no finished crosscoder found"):
        config_to_train(planted.run.crosscoder("new"), SMALL, resolved, data)
