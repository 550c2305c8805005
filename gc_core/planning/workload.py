"""What is to be run, as far as its size depends on it.

Letters: G group elements, C channels.
"""

from dataclasses import dataclass, field

from gc_core import groups
from gc_core.config import AnalyseConfig, Compression, ResolvedTrainConfig, TrainConfig
from gc_core.groups import Group
from gc_core.store import raw_bytes
from gc_core.store.shards import CHUNK_ROWS, default_shard_rows
from gc_core.train.data import DataShape
from gc_core.train.planner import Demand, demand_of
from gc_core.train.recipe import resolve_for

HELD_OUT_SHARE = 0.02
"""Share of the images that are held out, as the manifest splits them."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One run: images through one layer, one crosscoder, one analysis; every image counts as usable."""

    num_images: int
    samples_per_image: int
    group: str
    backbone: str
    layer: str
    channels: int
    """C, of the layer itself."""
    field_px: int
    """Side of what a unit of the layer sees."""
    compression: Compression = "zstd"
    train: TrainConfig = field(default_factory=TrainConfig)
    epochs: float | None = None
    """Passes over the samples; None for the steps that `train` says."""
    analyse: AnalyseConfig = field(default_factory=AnalyseConfig)
    num_workers: int = 1
    """Workers of every stage, each with a GPU or with CPU cores of its own."""
    on_host: bool = True
    """Whether workers compute on CPUs, so that all they hold is in one memory."""

    def __post_init__(self) -> None:
        if self.num_samples < 2:
            found = f"images: found {self.num_samples} sample in all"
            raise ValueError(f"{found}, expected at least 2, one of them held out; plan for more images")

    @property
    def parsed_group(self) -> Group:
        """What `group` names."""
        return groups.parse(self.group)

    @property
    def num_samples(self) -> int:
        return self.num_images * self.samples_per_image

    @property
    def shard_rows(self) -> int:
        """Samples a stored object."""
        return default_shard_rows(self.num_samples)

    @property
    def num_shards(self) -> int:
        return -(-self.num_samples // self.shard_rows)

    @property
    def num_chunks(self) -> int:
        """Parts of shards that are read by themselves."""
        return -(-self.num_samples // CHUNK_ROWS)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample before compression: G C float16, image and centre."""
        return raw_bytes(1, self.parsed_group.order, self.channels)

    @property
    def data(self) -> DataShape:
        """What a training will find."""
        held_out = max(1, round(HELD_OUT_SHARE * self.num_samples))
        return DataShape(
            num_samples=self.num_samples - held_out,
            num_elements=self.parsed_group.order,
            channels=self.channels,
            stored_group=self.parsed_group,
        )

    @property
    def resolved(self) -> ResolvedTrainConfig:
        """The training with nothing left open.

        Raises:
            ValueError: its options contradict one another.
        """
        config = resolve_for(self.train, self.data)
        if self.epochs is None:
            return config
        steps = max(1, round(self.epochs * self.data.num_samples / config.batch))
        return ResolvedTrainConfig(**{**vars(config), "steps": steps})

    @property
    def demand(self) -> Demand:
        """What the training's planner asks for."""
        return demand_of([self.resolved], self.data, on_host=self.on_host)
