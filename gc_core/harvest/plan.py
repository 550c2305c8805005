"""Which centres of which pictures each shard computes: from a manifest and a config, before anything runs."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from gc_core import __version__, groups, shards, store
from gc_core.backbones import Backbone
from gc_core.config import HarvestConfig
from gc_core.harvest.activations import field_window_px
from gc_core.harvest.centres import pixel_capacity, unit_capacity
from gc_core.images import ImageRef
from gc_core.manifest import refs_of
from gc_core.run_folder import RunFolder
from gc_core.shards import ShardPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWork:
    """Some centres of one picture."""

    image: int
    """Row of the manifest."""
    ref: ImageRef
    key: int
    """Content key, which seeds the choice of centres."""
    height: int
    """Pixels, as the manifest found them."""
    width: int
    total: int
    """Centres that the whole run takes from this picture."""
    first: int
    """The first of them that this shard computes."""
    count: int
    """How many this shard computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardWork:
    """All that a worker needs to know to compute one shard."""

    shard: int
    images: tuple[ImageWork, ...]

    @property
    def num_rows(self) -> int:
        return sum(image.count for image in self.images)


def plan_rows(config: HarvestConfig, manifest: pa.Table, backbone: Backbone) -> ShardPlan:
    """The order of all rows.

    Raises:
        ValueError: no picture can be used; the reasons are counted.
    """
    usable = manifest["status"].to_numpy(zero_copy_only=False) == "ok"
    if not usable.any():
        raise ValueError(f"{config.images}: none of {len(usable)} pictures can be used ({_reasons(manifest)})")
    window_px = field_window_px(groups.parse(config.group), backbone, config.interpolation)
    sizes = zip(manifest["height"].to_pylist(), manifest["width"].to_pylist(), strict=True)
    room = lru_cache(maxsize=None)(lambda height, width: _capacity(config, height, width, window_px, backbone))
    capacity = np.array([room(*size) if ok else 0 for size, ok in zip(sizes, usable, strict=True)], np.int64)
    key = manifest["key"].to_numpy().astype(np.uint64)
    return shards.plan(capacity, key, centres_per_image=config.centres_per_image, shard_rows=config.shard_rows, seed=config.seed)


def shard_work(plan: ShardPlan, manifest: pa.Table, shard: int) -> ShardWork:
    """One shard's part of the plan."""
    parts = plan.images(shard)
    rows = manifest.take([part.position for part in parts])
    columns = rows.select(["image", "key", "height", "width"]).to_pylist()
    totals = _totals(plan)
    images = tuple(
        ImageWork(**column, ref=ref, total=totals[part.position], first=part.first, count=part.count)
        for part, ref, column in zip(parts, refs_of(rows), columns, strict=True)
    )
    return ShardWork(shard=shard, images=images)


def create_store(run: RunFolder, config: HarvestConfig, plan: ShardPlan, backbone: Backbone) -> None:
    """Make the empty store, with all that a reader must know about where its numbers come from."""
    attrs = {
        "config": config.to_json(),
        "config_hash": config.fingerprint(),
        "code_version": __version__,
        "backbone": backbone.name,
        "layer": backbone.layer,
        "weights_sha256": backbone.weights_sha256,
        "receptive_field_px": backbone.receptive_field_px,
        "resize": {"shorter_side_px": config.resize_px, "kernel": "lanczos", "enlarge": False},
        "rotation": {"kernel": config.interpolation, "antialias": False, "disc_mask": False},
        "sampling": {"centres": config.centres, "centres_per_image": config.centres_per_image},
        "seed": config.seed,
    }
    group = groups.parse(config.group)
    store.create(run, num_rows=plan.num_rows, shard_rows=plan.shard_rows, channels=backbone.channels, group=group, attrs=attrs)


def _capacity(config: HarvestConfig, height: int, width: int, window_px: int, backbone: Backbone) -> int:
    if config.centres == "activation":
        return unit_capacity(height, width, window_px, backbone)
    return pixel_capacity(height, width, window_px)


def _totals(plan: ShardPlan) -> dict[int, int]:
    counts = np.diff(plan.ends_I, prepend=0)
    return dict(zip(plan.order_I.tolist(), counts.tolist(), strict=True))


def _reasons(manifest: pa.Table) -> str:
    counts = manifest.group_by("status").aggregate([("image", "count")]).to_pylist()
    first = next((error for error in manifest["error"].to_pylist() if error), "")
    return ", ".join(f"{row['image_count']} {row['status']}" for row in counts) + (f"; for example: {first}" if first else "")
