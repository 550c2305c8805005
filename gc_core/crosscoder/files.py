"""A finished crosscoder's folder: `model.safetensors`, and the entries of `config.json` that say what it is."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder.shape import CrosscoderShape
from gc_core.crosscoder.stored import StoredDecoder
from gc_core.io import objects
from gc_core.io.artefacts import DamagedError, checked_file, digest, fault_of, hashes_in
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.location import Location
from gc_core.io.typed import record_of

WEIGHTS = "model.safetensors"
REMEDY = "the command that trained it writes it again from its last checkpoint; or restore it from a copy"

T = TypeVar("T")


class NotTrainedError(ValueError):
    """No crosscoder stands there, or none that is finished."""


def read_crosscoder(folder: Location, made: Callable[[CrosscoderShape, Mapping[str, Tensor]], T]) -> T:
    """What `made` makes of the shape and the tensors that lie in a folder.

    The tensors are the file itself, mapped into memory: what is read of them the processes of one machine share, and
    what is changed is changed in this process alone.

    Raises:
        ValueError: nothing is there, or it is not a crosscoder's, or damaged.
    """
    with _one_line_errors(folder):
        config = _config_of(folder)
        shape = _shape_in(config)
        expected = hashes_in(config, folder / "config.json").get(WEIGHTS)
        with checked_file(folder, WEIGHTS, expected, REMEDY) as path:  # a mapping outlasts the name of its file
            tensors = load_file(path)
        return made(shape, tensors)


def open_decoder(folder: Location) -> StoredDecoder:
    """The decoder alone, to be read some rows at a time.

    Raises:
        ValueError: as `read_crosscoder`.
    """
    with _one_line_errors(folder):
        config = _config_of(folder)
        expected = hashes_in(config, folder / "config.json").get(WEIGHTS)
        with checked_file(folder, WEIGHTS, expected, REMEDY) as path:
            return StoredDecoder(path)


def read_shape(folder: Location) -> CrosscoderShape:
    """What a crosscoder in a folder is, its weights unread.

    Raises:
        ValueError: as `read_crosscoder`, but for weights that are damaged.
    """
    with _one_line_errors(folder):
        shape = _shape_in(_config_of(folder))
        objects.size(folder, WEIGHTS)
        return shape


def entries(shape: CrosscoderShape, weights_file: bytes) -> dict[str, Any]:
    """Entries of `config.json` that `read_crosscoder` needs."""
    return {"crosscoder": shape.as_record(), "files": {WEIGHTS: digest(weights_file)}}


def write_crosscoder(folder: Location, weights_file: bytes, about: Mapping[str, Any]) -> None:
    """Write the weights, and `about` into `config.json`, whose other entries stay."""
    objects.write(folder, WEIGHTS, weights_file)
    write_json(folder, "config.json", {**_known(folder), **about})


def fault_of_weights(folder: Location) -> str | None:
    """What is wrong with the stored weights of a finished crosscoder, without loading them; None if nothing is."""
    try:
        expected = hashes_in(read_json(folder, "config.json"), folder / "config.json").get(WEIGHTS)
        if expected is None:  # stored before there were hashes
            objects.size(folder, WEIGHTS)
            return None
    except FileNotFoundError as error:
        return str(error)
    return fault_of(folder, WEIGHTS, expected)


def _config_of(folder: Location) -> dict[str, Any]:
    try:
        return read_json(folder, "config.json")
    except FileNotFoundError:
        raise NotTrainedError(
            f"{folder}: no finished crosscoder found; train one with `python -m jobs.train`"
        ) from None


def _shape_in(config: Mapping[str, Any]) -> CrosscoderShape:
    named = config["crosscoder"]
    return record_of(
        CrosscoderShape, named | {"group": groups.from_text(named["group"]).as_record()}, where="crosscoder"
    )


@contextmanager
def _one_line_errors(folder: Location) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{folder}: its {WEIGHTS} is missing; {REMEDY}") from None
    except (DamagedError, NotTrainedError):
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{folder}: not a crosscoder that this version reads ({reason}); train it again") from error


def _known(folder: Location) -> dict[str, Any]:
    try:
        return read_json(folder, "config.json")
    except FileNotFoundError:
        return {}
