"""What a crosscoder is, apart from its weights."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from gc_core.groups import FiniteGroup

Activation = Literal["topk", "batchtopk", "jumprelu", "l1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrosscoderShape:
    """What a crosscoder is, apart from its weights."""

    group: FiniteGroup
    channels: int
    dict_size: int
    reads: tuple[int, ...]
    """Group elements that the encoder sees; (0,) is the untransformed block."""
    activation: Activation
    k: int
    """Active features a sample (topk), or their mean over a batch (batchtopk); of tied ones, active prototypes."""
    tying: Literal["orbit", "none"] = "none"
    """`orbit`: features are the turned copies of prototypes, |G| each, and share their weights."""
    poses: int = 1
    """Most copies of one prototype that are active at once, where poses are tied."""
    invariant: int = 0
    """Number of prototypes, the first ones, whose blocks are all equal: one feature each, which has one pose."""

    def as_record(self) -> dict[str, Any]:
        """Plain values, for JSON and for people; the group by its text."""
        return asdict(self) | {"group": self.group.text}

    @property
    def copies(self) -> int:
        """Features that share a row of the weights: |G| where poses are tied."""
        return self.group.order if self.tying == "orbit" else 1

    @property
    def num_rows(self) -> int:
        """Rows of the weights: prototypes where poses are tied, else features.

        Raises:
            ValueError: the features are not whole orbits.
        """
        rows, rest = divmod(self.dict_size - self.invariant, self.copies)
        if rest or rows < 0:
            also = f" and {self.invariant:,} invariant prototypes" if self.invariant else ""
            expected = f"a multiple of {self.copies} tied poses{also}"
            raise ValueError(f"dict_size: found {self.dict_size:,}, expected {expected}")
        return self.invariant + rows
