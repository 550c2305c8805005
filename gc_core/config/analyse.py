"""What decides the feature table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from gc_core import bounds
from gc_core.config.record import Config

LEAST_SIMILARITY: Final = 0.5
LEAST_SIMILARITY_OF_PROTOTYPES: Final = 0.9


@dataclass(frozen=True, kw_only=True)
class AnalyseConfig(Config):
    """What decides the feature table."""

    LATER: ClassVar[Mapping[str, Any]] = {
        "neighbours": bounds.FEATURES.most,
        "false_discoveries": 1.0,
        "surrogates": 0,
        "seed": 0,
        "stimuli": False,
    }
    BOUNDS: ClassVar[Mapping[str, bounds.Bound]] = {
        "family_similarity": bounds.SHARE,
        "symmetry_threshold": bounds.SHARE,
        "invariant_share": bounds.SHARE,
        "false_discoveries": bounds.SHARE,
        "surrogates": bounds.Bound(0, 100_000),
        "seed": bounds.SEED,
        "neighbours": bounds.Bound(1, bounds.FEATURES.most),
        "top_examples": bounds.Bound(1, 10_000),
    }

    family_similarity: float | None = None
    """Features at least so similar (cosine, maximal over the group) are neighbours, and sets of features join one
    family while their mean similarity, in which others than neighbours count zero, is above this. None for 0.5; of
    prototypes in tied poses, each a family by itself, 0.9: what is so alike was learned twice."""
    symmetry_threshold: float = 0.5
    """A subgroup is a feature's symmetry while the self-similarity of its changing part under every element of it is
    above this."""
    invariant_share: float = 0.9
    """A feature with at least this share of its energy in the trivial representation, so of which less than a tenth
    changes, is called invariant; the symmetry of what changes stands beside it."""
    false_discoveries: float = 0.05
    """Share of the symmetries that are reported as more than chance which may not be, in the mean. With 1 nothing is
    compared with chance: every strong symmetry is reported."""
    surrogates: int = 999
    """Features like each one that are drawn to know what chance gives. The least p-value is 1 / (1 + this)."""
    seed: int = 0
    """Seed of the surrogates, and of the channels that are drawn again for intervals."""
    neighbours: int = 256
    """Most features that are kept as neighbours of one, the most similar ones above `family_similarity`; 4 times the
    poses of D_32. Families of more than about twice as many members may be found in parts."""
    top_examples: int = 12
    """Examples kept for a feature, at most two of one image."""
    stimuli: bool = True
    """Whether drawn stimuli, at many angles, are shown to the network, where its weights are at hand: the best one
    names the feature, and its tuning is compared with the symmetry of its decoder."""

    def resolved(self, *, tied: bool) -> "ResolvedAnalyseConfig":
        """Fill in the defaults; `tied`: for prototypes in tied poses."""
        usual = LEAST_SIMILARITY_OF_PROTOTYPES if tied else LEAST_SIMILARITY
        given = self.family_similarity
        return ResolvedAnalyseConfig(**{**vars(self), "family_similarity": usual if given is None else given})


@dataclass(frozen=True, kw_only=True)
class ResolvedAnalyseConfig(AnalyseConfig):
    """What the feature table is made with; its fields mean what `AnalyseConfig`'s do."""

    family_similarity: float = field()  # takes away the default that would be inherited
