"""What decides the bytes of a store that is made from somebody's own activations."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from gc_core import bounds, groups
from gc_core.config import Compression, Config
from gc_core.groups import Group
from gc_core.io.location import Location


class IngestError(ValueError):
    """Activations that cannot be read, or are not what the options say."""


@dataclass(frozen=True, kw_only=True)
class IngestConfig(Config):
    """Which activations, and what they are.

    A row is one sample: G blocks of C numbers, in the order of the group's elements. Of D_n, block k in [0, n) belongs
    to r^k (the image turned anticlockwise, as seen, by k/n of a turn), block n + k to r^k m (mirrored left-right
    first, then turned); C_n is the first half.
    """

    LATER: ClassVar[Mapping[str, Any]] = {"compression": "zstd"}
    BOUNDS: ClassVar[Mapping[str, bounds.Bound]] = {
        "scale": bounds.Bound(-bounds.FLOAT32, bounds.FLOAT32),
        "shard_rows": bounds.SHARD_ROWS,
        "seed": bounds.SEED,
    }

    activations: str
    """Where they are, as a path or s3:// URL: a file (.npy, .npz, .safetensors, .pt, .pth), a Zarr array or group (v2
    or v3), or a folder or pattern of such files, taken in natural order (part2 before part10). Floats of shape
    (N, G, C): N samples, G group elements in the order below, C channels. Block k of D_n, k below n, is of the image
    turned anticlockwise by k/n of a turn; block n + k is mirrored left-right first, then turned by k/n."""
    group: str
    """The symmetry group that was applied: D8 (8 rotations, each also mirrored: G = 16), C8 (8 rotations), trivial."""
    array: str | None = None
    """Name of the array, where a file holds several."""
    image: str | None = None
    """A file of N whole numbers or names, one a sample: which image it is of, so that held-out samples come from
    images that training never meets; without it every sample counts as an image of its own."""
    image_array: str | None = None
    """Name of that array; without --image it stands beside the activations, in the same files."""
    flattened: bool = False
    """Each sample is one row of G C numbers, block after block."""
    scale: float = 1.0
    """Multiply every number by this: stored are float16, which end at 65,504 and lose digits below 0.00006."""
    absent_chunks: bool = False
    """Accept Zarr arrays some of whose chunks are not there; they read as the fill value, usually zeros."""
    network: str = "unknown network"
    """What the activations are of, for the atlas."""
    layer: str = "unknown layer"
    """The layer, for the atlas."""
    shard_rows: int | None = None
    """Samples a stored object, a multiple of 128; None for 2,048, or fewer so that a small run has at least 8."""
    compression: Compression = "zstd"
    """How chunks of 128 samples are packed: `zstd` (level 1) about halves them; `lz4` (Blosc's, bits shuffled) saves a
    tenth, several times as fast; `none`. Every chunk has a checksum."""
    seed: int = 0
    """Decides how samples are spread over shards."""

    @property
    def parsed_group(self) -> Group:
        """What `group` names."""
        return groups.parse(self.group)

    def absolute(self) -> Self:
        """Write places as absolute URLs, which mean the same wherever they are read again."""
        image = self.image and str(Location.parse(self.image))
        return replace(self, activations=str(Location.parse(self.activations)), image=image)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.parsed_group  # refused here if there is none of this name
        if not (math.isfinite(self.scale) and self.scale):
            raise ValueError(f"scale: found {self.scale}, expected a number other than 0")
        if self.shard_rows is not None and self.shard_rows % 128:
            raise ValueError(f"shard_rows: found {self.shard_rows}, expected a positive multiple of 128")
