"""A checkpoint's weights, taken by themselves: those that would have been kept, had training ended there."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gc_core import train as training
from gc_core.crosscoder import GroupCrosscoder
from gc_core.io.json_objects import write_json
from gc_core.io.run_folder import RunFolder
from gc_core.train import Trainer, Worker
from gc_core.train.intermediate import crosscoder_at
from gc_core.train.recovery import Checkpointing
from jobs.export import ExportJob, run_export
from support.small_trainings import EVERY, opened

KINDS = {
    "averaged": {"average_decay": 0.9},
    "batchtopk": {"activation": "batchtopk"},
    "jumprelu": {"activation": "jumprelu", "dtype": "bfloat16"},
    "tied": {"tying": "orbit", "prototypes": 5, "dict_size": None, "encoder_reads": "identity"},
}


def kept(run: RunFolder, name: str, **changes: Any) -> Trainer:
    """Trained to the end as a job does it, with checkpoints where a run keeps them."""
    config, data = opened(run, steps=30, checkpoint_every=10, **changes)
    folder = run.crosscoder(name)
    (trainer,) = training.train(
        [config], data, Worker(), report=lambda metrics: None, checkpointing=Checkpointing(folders=[folder], keep=EVERY)
    )
    write_json(folder, "config.json", {"train": config.to_json(), "results": trainer.metrics[-1]})
    model = trainer.exported()
    assert model
    model.save(folder)
    return trainer


def assert_same(mine: GroupCrosscoder, other: GroupCrosscoder) -> None:
    assert mine.shape == other.shape
    for name, tensor in mine.state_dict().items():
        assert tensor.equal(other.state_dict()[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_checkpoint_is_the_finished_crosscoder_bit_for_bit(planted: Any, kind: str) -> None:
    kept(planted.run, f"last-{kind}", **KINDS[kind])
    finished, trained = crosscoder_at(planted.run, f"last-{kind}", None)
    last, about = crosscoder_at(planted.run, f"last-{kind}", 30)
    assert_same(last, finished)
    assert (about["train"], about["results"]) == (trained["train"], trained["results"])
    middle, about = crosscoder_at(planted.run, f"last-{kind}", 20)
    assert not middle.W_dec.equal(finished.W_dec)
    assert about["results"]["step"] == 20


def test_a_checkpoint_explains_held_out_samples_as_its_metrics_say(planted: Any) -> None:
    """So it takes raw activations: the store's scale, which is not one here, is in its weights."""
    trainer = kept(planted.run, "scaled")
    assert abs(trainer.data.scale - 1) > 0.01
    model, about = crosscoder_at(planted.run, "scaled", 10)
    raw_NGC = trainer.data.read(trainer.data.held_out_rows) / trainer.data.scale
    error = (model.reconstruct(raw_NGC)[1] - raw_NGC).square().sum()
    fvu = error / (raw_NGC - raw_NGC.mean(0)).square().sum()
    torch.testing.assert_close(float(fvu), about["results"]["held_out_fvu"], rtol=1e-4, atol=0)


def test_a_step_without_a_checkpoint_is_refused_with_those_that_there_are(planted: Any) -> None:
    kept(planted.run, "steps")
    with pytest.raises(ValueError, match=r"no checkpoint of step 25 found, expected one of 10, 20, 30; "):
        crosscoder_at(planted.run, "steps", 25)
    with pytest.raises(ValueError, match=r"no checkpoint of step 25 found, nor of any other; "):
        crosscoder_at(planted.run, "nobody", 25)


def test_a_checkpoint_is_exported_with_its_step_and_its_own_figures(planted: Any, tmp_path: Path) -> None:
    trainer = kept(planted.run, "exported")
    out = {step: str(tmp_path / str(step)) for step in (None, 20, 30)}
    for step, folder in out.items():
        run_export(ExportJob(run=planted.run.url, name="exported", format="hub", out=folder, checkpoint=step))
    assert_same(GroupCrosscoder.load(out[30]), GroupCrosscoder.load(out[None]))
    (figures,) = [row for row in trainer.metrics if row["step"] == 20]
    card = (tmp_path / "20" / "README.md").read_text()
    assert "# exported-step-20" in card
    assert f"| variance unexplained, held-out images | {figures['held_out_fvu']:.3f}" in card
