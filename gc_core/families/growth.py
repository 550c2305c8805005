"""What a larger dictionary has that a smaller one has not: new features, or other poses of known ones.

Letters: F features, J features of the smaller dictionary, M members of a family, G group elements, C channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.families.similarity import family_similarity, unit
from gc_core.groups import Group, Subgroup
from gc_core.symmetry import changing_part, invariant_energy_share

KNOWN, TURNED, NEW = range(3)


def novelty(
    decoder_FGC: Tensor, smaller_JGC: Tensor, group: Group, *, least_similarity: float, invariant_share: float
) -> NDArray[np.int64]:
    """(F,) what each feature is to the smaller dictionary: KNOWN, it has one like this, turned alike; TURNED, it has a
    copy in another pose; NEW, it has none. Alike are features as those of a family are (`family_similarity`), at least
    so much; of an empty dictionary all are new."""
    if not len(smaller_JGC):
        return np.full(len(decoder_FGC), NEW)
    turned_FJ, _ = family_similarity(decoder_FGC, smaller_JGC, group, invariant_share=invariant_share)
    alike_FJ = _as_they_are(decoder_FGC, smaller_JGC, invariant_share)
    known_F, turned_F = ((each.amax(1) >= least_similarity).cpu().numpy() for each in (alike_FJ, turned_FJ))
    return np.where(known_F, KNOWN, np.where(turned_F, TURNED, NEW))


def covered(pose_M: NDArray[np.int64], stabiliser: Subgroup, group: Group) -> float:
    """Share of the group's elements that are a pose of some member, up to the stabiliser: 1 where every turned copy is
    there, |H| / |G| of a feature alone. `pose_M` holds by how much each is turned."""
    same = np.array(stabiliser.elements)
    return len(np.unique(group.cayley[pose_M[:, None], same])) / group.order


def covered_by_chance(
    counts: Sequence[int], stabilisers: Sequence[Subgroup], group: Group, *, seed: int, times: int = 20
) -> float:
    """Mean over families of so many members with these stabilisers, each in a pose drawn at random: what families cover
    that do not avoid poses they have."""
    rng = np.random.default_rng(seed)
    families = list(zip(counts, stabilisers, strict=True))
    drawn = [
        covered(rng.integers(group.order, size=count), stabiliser, group)
        for _ in range(times)
        for count, stabiliser in families
    ]
    return float(np.mean(drawn)) if drawn else float("nan")


def _as_they_are(decoder_FGC: Tensor, smaller_JGC: Tensor, invariant_share: float) -> Tensor:
    """(F, J) similarity as of a family, but turned by nothing."""
    whole_FJ, changing_FJ = (
        unit(one).flatten(1) @ unit(other).flatten(1).T
        for one, other in (
            (decoder_FGC, smaller_JGC),
            (changing_part(decoder_FGC), changing_part(smaller_JGC)),
        )
    )
    steady_F, steady_J = (invariant_energy_share(each) >= invariant_share for each in (decoder_FGC, smaller_JGC))
    return torch.where(steady_F[:, None] & steady_J, whole_FJ, torch.minimum(whole_FJ, changing_FJ))
