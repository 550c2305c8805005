"""Putting a shard's objects where they belong, exactly once, whoever else tries at the same time.

Letters: N rows, F numbers in a row.
"""

from collections.abc import Mapping
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from gc_core.io import objects
from gc_core.io.run_folder import RunFolder
from gc_core.store.layout import Written, object_name
from gc_core.store.reader import Store
from gc_core.store.shard_codec import Form, decode

TRIES = 3
ROUNDING = 1 / 16
"""Largest relative difference of a row between what two devices compute in 8-bit arithmetic."""
CLOSE_SHARE = 0.9
"""Share of rows within it; rows of tiny numbers may differ by more, those of other weights nearly all do."""


def create_once(
    store: Store, shard: int, name: str, array: NDArray[np.generic], content: bytes, threads: Executor
) -> Written:
    """Create the object of one array, which is `content`; if there is a sound one of the same rows, keep that.

    Raises:
        UnavailableError: another attempt keeps replacing it.
    """
    folder, key = store.run.activations, object_name(name, shard)
    for _ in range(TRIES):
        if (tag := objects.create(folder, key, content)) is not None:
            return Written(array=array, num_bytes=len(content), tag=tag)
        try:
            stored, tag = objects.read_tagged(folder, key)
        except FileNotFoundError:
            continue  # another attempt found it damaged
        sound = array if stored == content else _sound(store.form(name), stored, array, threads)
        if sound is not None:
            return Written(array=sound, num_bytes=len(stored), tag=tag)
        objects.delete(folder, key)
    raise objects.UnavailableError(
        f"{folder / key}: another attempt at shard {shard} keeps replacing it; run again later"
    )


def check_still_there(run: RunFolder, shard: int, written: Mapping[str, Written]) -> None:
    """Just before the record: that nobody replaced the objects since they were placed.

    Raises:
        UnavailableError: somebody did.
    """
    for name, its in written.items():
        key = object_name(name, shard)
        try:
            same = objects.stat(run.activations, key) == (its.num_bytes, its.tag)
        except FileNotFoundError:
            same = False
        if not same:
            found = "was replaced before its shard was finished; another attempt is running"
            raise objects.UnavailableError(f"{run.activations / key}: {found}")


def _sound(form: Form, stored: bytes, like: NDArray[np.generic], threads: Executor) -> NDArray[np.generic] | None:
    """What a stored object holds, if it is `like` but for rounding; None if it is damaged, or something else."""
    try:
        decoded = decode(form, stored, len(like), threads)
    except ValueError:
        return None
    if not np.isfinite(decoded).all():
        return None
    if decoded.dtype.kind != "f":
        return decoded if np.array_equal(decoded, like) else None
    wide_NF, expected_NF = (values.reshape(len(values), -1).astype(np.float32) for values in (decoded, like))
    close_N = np.linalg.norm(wide_NF - expected_NF, axis=1) <= ROUNDING * np.linalg.norm(expected_NF, axis=1)
    return decoded if close_N.mean() >= CLOSE_SHARE else None
