"""What decides the bytes of the activation store."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gc_core import bounds, groups
from gc_core.config.record import Config
from gc_core.groups import Group

OWN_GROUP = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"
"""A function of the user's that gives a group and how it acts."""
Compression = Literal["zstd", "lz4", "none"]


@dataclass(frozen=True, kw_only=True)
class HarvestConfig(Config):
    """What decides the bytes of the activation store."""

    LATER: ClassVar[Mapping[str, Any]] = {
        "image_key": None,
        "preprocessing": "auto",
        "enlarge": False,
        "compression": "zstd",
        "input_px": None,
        "position": "centre",
    }
    BOUNDS: ClassVar[Mapping[str, bounds.Bound]] = {
        "max_images": bounds.IMAGES,
        "max_bad_fraction": bounds.SHARE,
        "resize_px": bounds.PIXELS,
        "input_px": bounds.PIXELS,
        "min_distance_px": bounds.PIXELS,
        "centres_per_image": bounds.Bound(1, 1_000_000),
        "max_stimuli": bounds.STIMULI,
        "shard_rows": bounds.SHARD_ROWS,
        "seed": bounds.SEED,
    }

    images: str = "builtin"
    """Where the images are, as a path or s3:// URL: a folder (searched at any depth), tar or Parquet files, a pattern
    such as train-{000..146}.tar, or a text file of URLs; or `builtin` (photographs inside scikit-image and
    scikit-learn, and drawn stimuli), `photographs` (the first half of that), `stimuli` (the second, of five kinds)
    or `all-stimuli` (of eleven)."""
    image_key: str | None = None
    """Which image of a sample to take where several files have one name up to the first dot, as in WebDataset:
    `jpg` of 7.jpg, 7.seg.png and 7.depth.png; None for all images. Of a Parquet or Arrow table, the column."""
    max_images: int | None = None
    """Use at most this many images, a seeded choice; None for all."""
    max_bad_fraction: float = 0.2
    """Stop where more than this share of the images cannot be read or decoded; 1 to go on whatever comes. Images
    that are only too small do not count."""
    group: str = "D32"
    """Symmetry group: D32 (32 rotations, each also mirrored), C8 (8 rotations), trivial (an autoencoder's data); or
    your own, as package.module:function, which is found from the current folder too (docs/groups.md)."""
    backbone: str = "googlenet"
    """Network whose activations are taken: `googlenet`, `inceptionv1` (the paper's), `efficientnet-lite0`,
    `torchvision:NAME`, `timm:NAME`, `hf:NAME`, `package.module:function` that returns a network, or a file of
    torch.export (.pt2) or TorchScript (.pt)."""
    layer: str | None = None
    """Layer by the network's own name (`python -m jobs.layers` lists them); None for inception3b / mixed3b."""
    weights: str | None = None
    """None for the network's default (googlenet: `bundled`; of a library its published ones, downloaded on first use),
    a name that the network's source knows (googlenet: `torchvision`), a file (safetensors or state dict), or
    `random:SEED` for a control."""
    preprocessing: str = "auto"
    """How pixels are scaled: `auto` as the network's source or its tensors tell; `imagenet` (ImageNet's mean and
    deviation), `transform_input` (to -1..1), `clip`, `unit` (0..1), `bytes` (0..255), or MEAN/STD of pixels in 0..1
    such as 0.5/0.25 or 0.48,0.46,0.41/0.27,0.26,0.28. With /bgr after it for networks that read blue first."""
    input_px: int | None = None
    """Side of the image that the network gets where a unit sees all of it; None for what the network was made for."""
    position: Literal["centre", "mean"] = "centre"
    """What is read where a unit sees the whole image: the unit in the `centre`, or the `mean` over all units."""
    resize_px: int = 256
    """Images are scaled down so that the shorter side has this many pixels; smaller ones are left as they are."""
    enlarge: bool = False
    """Scale images whose shorter side is smaller up to `resize_px` as well, as for CIFAR's 32 pixels: otherwise those
    with no room for a rotated field are left out. What is enlarged is smooth, and features of fine detail see none."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Kernel of the one resampling that rotations by other than quarter turns need."""
    resample_all: bool = False
    """First turn every image by half a step of the group, in the same resampling: then the identity and the quarter
    turns are interpolated like all other elements. A control for what interpolation does to blocks."""
    disc_mask: bool = False
    """Paint what lies outside the disc inside the receptive field in the network's mean colour, so that the corners,
    which change with rotation, tell nothing."""
    centres: Literal["uniform", "grid", "centre", "activation"] = "uniform"
    """Where units are taken: any pixel alike, on an even grid, in the middle of the image, or in proportion to the
    layer's activation norm there."""
    min_distance_px: int = 1
    """Centres in one image are at least this far apart. Images that may not have room for all then give fewer: what
    any choice is sure to find room for."""
    centres_per_image: int | None = None
    """Samples an image; None for 10, or more in a small set, so that about 2,200 samples are made."""
    max_stimuli: int = 600
    """How many stimuli are drawn for `builtin`, `stimuli` and `all-stimuli`; each gives one sample."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of the network; `auto` is float16 on CUDA and float32 on CPUs. Stored is always float16. bfloat16 has
    the range of float32 and changes a block by 1 to 3%."""
    shard_rows: int | None = None
    """Samples a stored object, a multiple of 128; None for 2,048, or fewer so that a small run has at least 8."""
    compression: Compression = "zstd"
    """How chunks of 128 samples are packed: `zstd` (level 1) about halves them; `lz4` (Blosc's, bits shuffled) saves a
    tenth, several times as fast; `none`. Every chunk has a checksum."""
    seed: int = 0
    """Decides which centres are taken and how images are spread over shards."""

    @property
    def parsed_group(self) -> Group:
        """What `group` names, of the plane.

        Raises:
            ValueError: it is another group, of which only its function knows.
        """
        return groups.parse(self.group)

    @property
    def is_own_group(self) -> bool:
        """Whether `group` names a function of the user's."""
        return re.fullmatch(OWN_GROUP, self.group) is not None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.is_own_group:
            self._refuse_resampling()
        elif self.resample_all and (group := self.parsed_group).n == groups.quarter_turns(group.n):
            raise ValueError(f"resample_all: every element of {group.name} is exact, none is resampled; leave it out")
        else:
            _ = self.parsed_group  # refused here if there is none of this name
        if self.shard_rows is not None and self.shard_rows % 128:
            raise ValueError(
                f"shard_rows: found {self.shard_rows}, expected a positive multiple of 128 (a chunk's rows)"
            )

    def _refuse_resampling(self) -> None:
        if self.resample_all or self.interpolation != "bilinear":
            name = "resample_all" if self.resample_all else "interpolation"
            raise ValueError(f"{name}: {self.group} makes its patches itself; leave it out")
