"""What decides a crosscoder, with nothing left open: what a run folder's `config.json` and its checkpoints say."""

from dataclasses import dataclass, field
from typing import Literal

from gc_core import groups
from gc_core.config.train import TrainConfig
from gc_core.groups import FiniteGroup


@dataclass(frozen=True, kw_only=True)
class ResolvedTrainConfig(TrainConfig):
    """What `gc_core.train.resolve` makes of a config and the data; its fields mean what `TrainConfig`'s do.

    Two may be None and say so with it: `prototypes`, where poses are not tied, and `init_from`, for fresh weights.
    """

    # `field()` takes away the default that would be inherited.
    group: str = field()
    tying: Literal["orbit", "none"] = field()
    dict_size: int = field()
    l1_coefficient: float = field()
    jumprelu_coefficient: float = field()
    tanh_scale: float = field()
    bandwidth: float = field()
    aux_k: int = field()
    dead_after_samples: int = field()
    steps: int = field()
    blocks_per_step: int = field()
    learning_rate: float = field()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tying == "orbit" and self.prototypes is None:
            raise ValueError("prototypes: found None with tying orbit, expected their number")

    @property
    def parsed_group(self) -> FiniteGroup:
        """What `group` names."""
        return groups.from_text(self.group)

    @property
    def num_rows(self) -> int:
        """Rows of the weights: prototypes where poses are tied, else features."""
        return self.dict_size if self.prototypes is None else self.prototypes
