"""Which centres of which images each shard computes: from a manifest and a config, before anything runs.

Letters: I images.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gc_core import __version__, store
from gc_core.backbones import AnyBackbone, ModuleBackbone
from gc_core.config import HarvestConfig
from gc_core.harvest.activations import Geometry, group_of
from gc_core.harvest.centres import capacity
from gc_core.images import ImageRef
from gc_core.images.decode import resize_settings
from gc_core.io.run_folder import RunFolder
from gc_core.manifest import digest_of, held_out, refs_of, usable
from gc_core.store import shards
from gc_core.store.shards import ShardPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWork:
    """Some centres of one image."""

    image: int
    """Row of the manifest."""
    ref: ImageRef
    key: int
    """Content key, which seeds the choice of centres."""
    total: int
    """Centres that the whole run takes from this image."""
    first: int
    """The first of them that this shard computes."""
    count: int
    """How many this shard computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardWork:
    """All that a worker needs to know to compute one shard."""

    shard: int
    images: tuple[ImageWork, ...]
    held_out_from: int
    """Row of the shard from which on all are of held-out images; the number of its rows if that is not known."""

    @property
    def num_rows(self) -> int:
        return sum(image.count for image in self.images)


def plan_rows(
    config: HarvestConfig, manifest: pa.Table, backbone: AnyBackbone, *, format_version: int = store.FORMAT_VERSION
) -> ShardPlan:
    """The order of all rows, as a store of this version has them.

    Raises:
        ValueError: no image can be used; the reasons are counted.
    """
    capacity_I = _capacities(config, manifest, backbone)
    if not capacity_I.any():
        raise ValueError(f"{config.images}: none of {len(capacity_I)} images can be used ({_reasons(manifest)})")
    key_I = manifest["key"].to_numpy().astype(np.uint64)
    per_image, shard_rows = config.centres_per_image, config.shard_rows
    held_out_I = held_out(manifest) if format_version >= store.HELD_OUT_LAST else None
    return shards.plan(
        capacity_I, key_I, held_out_I, centres_per_image=per_image, shard_rows=shard_rows, seed=config.seed
    )


def shard_work(plan: ShardPlan, manifest: pa.Table, shard: int) -> ShardWork:
    """One shard's part of the plan."""
    parts = plan.images(shard)
    rows = manifest.take([part.position for part in parts])
    columns = rows.select(["image", "key"]).to_pylist()
    totals = _totals(plan, shard, len(parts))
    images = tuple(
        ImageWork(**column, ref=ref, total=total, first=part.first, count=part.count)
        for part, ref, column, total in zip(parts, refs_of(rows), columns, totals, strict=True)
    )
    return ShardWork(shard=shard, images=images, held_out_from=plan.held_out_in(shard))


def create_store(run: RunFolder, config: HarvestConfig, plan: ShardPlan, backbone: AnyBackbone) -> None:
    """Make the empty store, with all that a reader must know about where its numbers come from."""
    store.create(run, _spec(run, config, plan, backbone))


def refuse_other_store(run: RunFolder, config: HarvestConfig, plan: ShardPlan, backbone: AnyBackbone) -> None:
    """Check like `create_store`, without making anything.

    Raises:
        StoreError: a store of another configuration stands there; the differences are listed.
    """
    store.refuse_other(run, _spec(run, config, plan, backbone))


def _spec(run: RunFolder, config: HarvestConfig, plan: ShardPlan, backbone: AnyBackbone) -> store.StoreSpec:
    return store.StoreSpec(
        format_version=store.format_version_of(plan),
        num_rows=plan.num_rows,
        compression=config.compression,
        shard_rows=plan.shard_rows,
        channels=backbone.channels,
        group=group_of(config),
        attrs=_attributes(config, backbone) | _manifest(run),
    )


def _manifest(run: RunFolder) -> dict[str, str]:
    sha256 = digest_of(run.manifest)
    return {} if sha256 is None else {store.MANIFEST: sha256}


def _attributes(config: HarvestConfig, backbone: AnyBackbone) -> dict[str, Any]:
    return {
        "config": config.to_json(),
        "config_hash": config.fingerprint(),
        "code_version": __version__,
        "backbone": backbone.name,
        "layer": backbone.layer,
        "weights_sha256": backbone.weights_sha256,
        "preprocessing": backbone.preprocessing,
        "receptive_field_px": backbone.receptive_field_px,
        "resize": resize_settings(config.resize_px, enlarge=config.enlarge),
        "rotation": {
            "kernel": config.interpolation,
            "antialias": False,
            "disc_mask": config.disc_mask,
            "first_turned_by_steps": 0.5 if config.resample_all else 0.0,
        },
        "sampling": {
            "centres": config.centres,
            "centres_per_image": config.centres_per_image,
            "min_distance_px": config.min_distance_px,
        },
        "seed": config.seed,
        **({"reading": backbone.evaluation} if isinstance(backbone, ModuleBackbone) else {}),
    }


def _capacities(config: HarvestConfig, manifest: pa.Table, backbone: AnyBackbone) -> NDArray[np.int64]:
    """(I,) how many centres each image has room for. U is the number of those that can be used."""
    window_px = Geometry.of(config, backbone).window_px

    usable_I, capacity_I = usable(manifest), np.zeros(len(manifest), np.int64)
    height_U, width_U = (manifest[name].to_numpy()[usable_I].astype(np.int64) for name in ("height", "width"))
    sizes = pa.array(height_U << 32 | width_U).dictionary_encode()  # few sizes, however many images
    room = [
        capacity(config, size >> 32, size & 0xFFFFFFFF, window_px, backbone) for size in sizes.dictionary.to_pylist()
    ]
    capacity_I[usable_I] = np.array(room, np.int64)[sizes.indices.to_numpy()]
    return capacity_I


def _totals(plan: ShardPlan, shard: int, num_images: int) -> list[int]:
    """How many rows each of the shard's images has in the whole run."""
    first = int(np.searchsorted(plan.ends_I, plan.rows(shard).start, side="right"))
    before = plan.ends_I[first - 1] if first else 0
    return np.diff(plan.ends_I[first : first + num_images], prepend=before).tolist()


def _reasons(manifest: pa.Table) -> str:
    counts = manifest.group_by("status").aggregate([("image", "count")]).to_pylist()
    counted = ", ".join(f"{row['image_count']} {row['status']}" for row in counts)
    example = next((error for error in manifest["error"].to_pylist() if error), "")
    return f"{counted}; for example: {example}" if example else counted
