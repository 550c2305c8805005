"""Which class an image is of, as far as its name tells: the folder that it lies in, or the kind of a drawn stimulus.

Letters: I images.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from gc_core.images import ImageRef

LEAST_IMAGES = 2
"""Of one image no class can be told apart from the image itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Classes of some images."""

    label_I: NDArray[np.int64]
    """Place in `names`; -1 where it is not known."""
    names: list[str]


def classes_of(refs: Sequence[ImageRef]) -> Classes | None:
    """Classes of at least two images, by name; None with fewer than two of them."""
    known = [class_name(ref) for ref in refs]
    names = sorted(name for name, count in Counter(known).items() if name is not None and count >= LEAST_IMAGES)
    if len(names) < 2:
        return None
    place = {name: number for number, name in enumerate(names)}
    return Classes(label_I=np.array([place.get(name or "", -1) for name in known], np.int64), names=names)


def class_name(ref: ImageRef) -> str | None:
    """The kind of a stimulus, the folder of a file or of a member of an archive; None where there is none."""
    scheme = ref.url.partition(":")[0]
    if scheme in ("stimuli", "all-stimuli"):
        return ref.member.rpartition("-")[0]
    if scheme == "builtin":
        return None
    folders = (ref.member or ref.url.partition("://")[2]).split("/")[:-1]
    return unquote(folders[-1]) or None if folders else None
