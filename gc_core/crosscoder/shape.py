"""What a crosscoder is, apart from its weights."""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["topk", "batchtopk", "jumprelu", "l1"]

BY_FEATURE = frozenset({"W_enc", "b_enc", "W_dec", "log_threshold"})
"""Parameters that have a row for each feature; all else is the same on every shard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrosscoderShape:
    """What a crosscoder is, apart from its weights."""

    group: str
    """Name that `groups.parse` reads."""
    channels: int
    dict_size: int
    reads: tuple[int, ...]
    """Group elements that the encoder sees; (0,) is the untransformed block."""
    activation: Activation
    k: int
    """Active features a sample (topk), or their mean over a batch (batchtopk)."""
