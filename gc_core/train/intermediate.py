"""A crosscoder as one of its checkpoints has it: the weights that would have been kept, had training ended there."""

from collections.abc import Mapping
from typing import Any

from gc_core.config import ResolvedTrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.io.json_objects import read_json
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.store import open_store
from gc_core.train.building import shape_of
from gc_core.train.checkpoint import checkpoints, load
from gc_core.train.data import scale_of
from gc_core.train.recovery import CHECKPOINTS


def crosscoder_at(run: RunFolder, name: str, step: int | None) -> tuple[Crosscoder, dict[str, Any]]:
    """The crosscoder as its checkpoint of a step has it, its training finished or not; None for the finished one.

    It takes raw activations: the store's scale is folded into its weights. Beside it stands what `config.json` says of
    it: its options in `train`, and in `results` those of the last step that was logged by then.

    Raises:
        ValueError: there is no such crosscoder or checkpoint, or it is damaged.
    """
    folder = run.crosscoder(name)
    if step is None:
        return Crosscoder.load(folder), read_json(folder, "config.json")
    by_step = {each.step: each for each in checkpoints(folder / CHECKPOINTS)}
    if step not in by_step:
        known = f"expected one of {', '.join(map(str, by_step))}" if by_step else "nor of any other"
        raise ValueError(f"{folder}: no checkpoint of step {step} found, {known}; jobs.train --keep.last keeps more")
    state = load(by_step[step])
    try:
        return _folded(state, _config_of(state, folder), run)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{by_step[step].folder}: not a checkpoint that this version reads ({reason})") from error


def _folded(state: Mapping[str, Any], config: ResolvedTrainConfig, run: RunFolder) -> tuple[Crosscoder, dict[str, Any]]:
    tensors = state["average"] or state["model"]  # as `Trainer.result` chooses
    model = Crosscoder.of_tensors(shape_of(config, tensors["W_dec"].shape[2]), tensors)
    model.fold_scale(scale_of(open_store(run)))
    results = dict(state["metrics"][-1]) if state["metrics"] else {}
    return model, {"train": config.to_json(), "results": results}


def _config_of(state: Mapping[str, Any], folder: Location) -> ResolvedTrainConfig:
    """Earlier versions' checkpoints do not say what options they are of; the file beside them does."""
    return ResolvedTrainConfig.from_json(
        state["config"] if "config" in state else read_json(folder, "config.json")["train"]
    )
