"""Which rows of the source each shard takes, and the records of a run that has no pictures.

Blocks of consecutive rows are put in a seeded order and laid end to end, so that a shard mixes samples from all over
the source while each read stays in one place.

Letters: N rows, I images.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gc_core import __version__, groups, manifest, shards, store
from gc_core.ingest.config import IngestConfig
from gc_core.ingest.source import Source, image_ids
from gc_core.run_folder import RunFolder
from gc_core.shards import ShardPlan
from gc_core.store import INGESTED

BLOCK_ROWS = 128


@dataclass(frozen=True, kw_only=True)
class IngestPlan:
    """Where every row comes from, and which picture it is of."""

    source: Source
    shards: ShardPlan
    """Its images are blocks of rows of the source."""
    image_N: NDArray[np.int64]
    """Row of the manifest, in the order of the source."""
    ids_I: NDArray[Any] | None
    """The pictures' own ids; None where every sample is a picture of its own."""

    @property
    def num_rows(self) -> int:
        return self.shards.num_rows

    @property
    def num_shards(self) -> int:
        return self.shards.num_shards

    def rows_of(self, shard: int) -> list[range]:
        """The rows of the source, in pieces, that a shard takes."""
        parts = self.shards.images(shard)
        firsts = [part.position * BLOCK_ROWS + part.first for part in parts]
        return [range(first, first + part.count) for first, part in zip(firsts, parts, strict=True)]


def plan_ingest(config: IngestConfig, source: Source) -> IngestPlan:
    """Spread the source's rows over shards.

    Raises:
        IngestError: the image ids do not fit the samples.
    """
    num_rows = source.num_rows
    sizes = np.full(-(-num_rows // BLOCK_ROWS), BLOCK_ROWS, np.int64)
    sizes[-1] = num_rows - BLOCK_ROWS * (len(sizes) - 1)
    laid_out = shards.plan(
        sizes,
        np.arange(len(sizes), dtype=np.uint64),
        centres_per_image=BLOCK_ROWS,
        shard_rows=config.shard_rows,
        seed=config.seed,
    )
    ids_N = image_ids(config, source)
    if ids_N is None:
        return IngestPlan(source=source, shards=laid_out, image_N=np.arange(num_rows), ids_I=None)
    ids_I, image_N = np.unique(ids_N, return_inverse=True)
    return IngestPlan(source=source, shards=laid_out, image_N=image_N.astype(np.int64), ids_I=ids_I)


def manifest_table(config: IngestConfig, plan: IngestPlan) -> pa.Table:
    """One row a picture: where its samples come from, its id, and whether it is held out."""
    num_images = plan.num_rows if plan.ids_I is None else len(plan.ids_I)
    urls, members, offsets = _rows_apart(plan) if plan.ids_I is None else _by_id(config, plan.ids_I)
    zeros = pa.array(np.zeros(num_images, np.int32))
    columns = {
        "url": urls,
        "member": members,
        "offset": offsets,
        "size": pa.array(np.full(num_images, -1)),
        "status": pa.array(["ok"] * num_images),
        "error": pa.array([""] * num_images),
        "height": zeros,
        "width": zeros,
        "key": pa.array(_keys(plan.ids_I, num_images)),
    }
    records = pa.table({name: columns[name] for name in manifest.RECORDS.names}, schema=manifest.RECORDS)
    return manifest.complete(records, manifest_source(config, plan))


def manifest_source(config: IngestConfig, plan: IngestPlan) -> dict[str, Any]:
    """By which a manifest is known to be of these activations."""
    return {
        INGESTED: _facts(plan.source),
        "image": config.image,
        "image_array": config.image_array,
        "images": hashlib.sha256(plan.image_N.tobytes()).hexdigest(),
    }


def write_manifest(run: RunFolder, config: IngestConfig, plan: IngestPlan) -> None:
    """Write the manifest, once.

    Raises:
        ValueError: a manifest of other activations stands there.
    """
    source = manifest_source(config, plan)
    if manifest.load_if_of(run.manifest, source) is None:
        manifest.write(run.manifest, manifest_table(config, plan))
        manifest.load_if_of(run.manifest, source)  # another run may have been first


def create_store(run: RunFolder, config: IngestConfig, plan: IngestPlan) -> None:
    """Make the empty store, after the manifest, with all that a reader must know about where its numbers come from."""
    store.create(run, **_layout(run, config, plan))


def refuse_other_store(run: RunFolder, config: IngestConfig, plan: IngestPlan) -> None:
    """As `create_store`, without making anything.

    Raises:
        StoreError: a store of another configuration stands there; the differences are listed.
    """
    store.refuse_other(run, **_layout(run, config, plan))


def is_ingested(attrs: dict[str, Any]) -> bool:
    """Whether a store with these attributes was made from files of activations."""
    return INGESTED in attrs


def _layout(run: RunFolder, config: IngestConfig, plan: IngestPlan) -> dict[str, Any]:
    attrs = {
        "config": config.to_json(),
        "config_hash": config.fingerprint(),
        "code_version": __version__,
        "backbone": config.network,
        "layer": config.layer,
        INGESTED: _facts(plan.source),
        "images": manifest_source(config, plan)["images"],
        "seed": config.seed,
    }
    manifest_sha256 = manifest.digest_of(run.manifest)
    return {
        "num_rows": plan.num_rows,
        "shard_rows": plan.shards.shard_rows,
        "channels": plan.source.channels,
        "group": groups.parse(config.group),
        "attrs": attrs | ({} if manifest_sha256 is None else {store.MANIFEST: manifest_sha256}),
    }


def _facts(source: Source) -> list[dict[str, Any]]:
    """As JSON gives them back."""
    return json.loads(json.dumps([asdict(piece) for piece in source.pieces]))


def _rows_apart(plan: IngestPlan) -> tuple[pa.Array, pa.Array, pa.Array]:
    pieces = plan.source.pieces
    urls = pa.DictionaryArray.from_arrays(
        np.repeat(np.arange(len(pieces), dtype=np.int32), [piece.shape[0] for piece in pieces]),
        [piece.url for piece in pieces],
    )
    row_N = np.concatenate([np.arange(piece.shape[0]) for piece in pieces])
    return urls.cast(pa.string()), pa.array(np.char.add("row ", row_N.astype(str))), pa.array(row_N)


def _by_id(config: IngestConfig, ids_I: NDArray[Any]) -> tuple[pa.Array, pa.Array, pa.Array]:
    url = pa.repeat(config.image or config.activations, len(ids_I))
    return url, pa.array([str(one) for one in ids_I.tolist()], pa.string()), pa.array(np.zeros(len(ids_I), np.int64))


def _keys(ids_I: NDArray[Any] | None, num_images: int) -> NDArray[np.int64]:
    """63 bits that decide what is held out: of one id, the same in every run."""
    numbers = np.arange(num_images) if ids_I is None else ids_I
    if numbers.dtype.kind in "iu":
        return (shards.mix(numbers.astype(np.uint64), 0) >> np.uint64(1)).astype(np.int64)
    digests = (hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in numbers.tolist())
    return np.array([int.from_bytes(digest, "big") >> 1 for digest in digests], np.int64)
