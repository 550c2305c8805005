"""Which rows of the source each shard takes, and the records of a run that has no images.

Blocks of consecutive rows are put in a seeded order and laid end to end, so that a shard mixes samples from all over
the source while each read stays in one place.

Letters: N rows, I images, K blocks.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gc_core import __version__, manifest, store
from gc_core.ingest.config import IngestConfig
from gc_core.ingest.source import Source, image_ids
from gc_core.io.run_folder import RunFolder
from gc_core.store import FORMAT_VERSION, HELD_OUT_LAST, INGESTED, shards
from gc_core.store.shards import ShardPlan

BLOCK_ROWS = 128


@dataclass(frozen=True, kw_only=True)
class IngestPlan:
    """Where every row comes from, and which image it is of."""

    source: Source
    shards: ShardPlan
    """Its images are blocks of rows of the source: first their training rows, then, as images of their own, their
    held-out ones."""
    held_out_N: NDArray[np.bool_]
    """Whether each row of the source is held out, where such rows stand last; else none is."""
    image_N: NDArray[np.int64]
    """Row of the manifest, in the order of the source."""
    ids_I: NDArray[Any] | None
    """The images' own ids; None where every sample is an image of its own."""

    @property
    def num_rows(self) -> int:
        return self.shards.num_rows

    @property
    def num_shards(self) -> int:
        return self.shards.num_shards

    def rows_of(self, shard: int) -> list[NDArray[np.int64]]:
        """The rows of the source, ascending, that a shard takes of each block."""
        num_blocks, taken = _num_blocks(self.source), []
        for part in self.shards.images(shard):
            held_out, block = divmod(part.position, num_blocks)
            mine_N = self.held_out_N[block * BLOCK_ROWS : (block + 1) * BLOCK_ROWS] == bool(held_out)
            taken.append(block * BLOCK_ROWS + np.flatnonzero(mine_N)[part.first : part.first + part.count])
        return taken


def plan_ingest(config: IngestConfig, source: Source, *, format_version: int = FORMAT_VERSION) -> IngestPlan:
    """Spread the source's rows over shards, as a store of this version has them.

    Raises:
        IngestError: the image ids do not fit the samples.
    """
    ids_N = image_ids(config, source)
    if ids_N is None:
        ids_I, image_N = None, np.arange(source.num_rows)
    else:
        ids_I, image_N = np.unique(ids_N, return_inverse=True)
    held_out_N = np.zeros(source.num_rows, np.bool_)
    if format_version >= HELD_OUT_LAST:
        key_I = _keys(ids_I, source.num_rows)
        held_out_N = manifest.held_out_of(key_I, np.ones(len(key_I), np.bool_))[image_N]
    return IngestPlan(
        source=source,
        shards=_laid_out(config, source, held_out_N if format_version >= HELD_OUT_LAST else None),
        held_out_N=held_out_N,
        image_N=image_N.astype(np.int64),
        ids_I=ids_I,
    )


def manifest_table(config: IngestConfig, plan: IngestPlan) -> pa.Table:
    """One row an image: where its samples come from, its id, and whether it is held out."""
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
    """What tells a manifest of these activations from others."""
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
    store.create(run, _spec(run, config, plan))


def refuse_other_store(run: RunFolder, config: IngestConfig, plan: IngestPlan) -> None:
    """Check like `create_store`, without making anything.

    Raises:
        StoreError: a store of another configuration stands there; the differences are listed.
    """
    store.refuse_other(run, _spec(run, config, plan))


def is_ingested(attrs: Mapping[str, Any]) -> bool:
    """Whether a store with these attributes was made from files of activations."""
    return INGESTED in attrs


def _laid_out(config: IngestConfig, source: Source, held_out_N: NDArray[np.bool_] | None) -> ShardPlan:
    """Blocks in a seeded order: whole ones, or their training rows and after all of them their held-out rows."""
    begins = np.arange(0, source.num_rows, BLOCK_ROWS)
    size_K = np.minimum(BLOCK_ROWS, source.num_rows - begins)
    key_K = np.arange(len(begins), dtype=np.uint64)
    options = {"centres_per_image": BLOCK_ROWS, "shard_rows": config.shard_rows, "seed": config.seed}
    if held_out_N is None:
        return shards.plan(size_K, key_K, None, **options)
    held_out_K = np.add.reduceat(held_out_N, begins, dtype=np.int64)
    sizes, last = np.append(size_K - held_out_K, held_out_K), np.repeat([False, True], len(begins))
    return shards.plan(sizes, np.tile(key_K, 2), last, **options)


def _num_blocks(source: Source) -> int:
    return -(-source.num_rows // BLOCK_ROWS)


def _spec(run: RunFolder, config: IngestConfig, plan: IngestPlan) -> store.StoreSpec:
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
    return store.StoreSpec(
        format_version=store.format_version_of(plan.shards),
        num_rows=plan.num_rows,
        compression=config.compression,
        shard_rows=plan.shards.shard_rows,
        channels=plan.source.channels,
        group=config.parsed_group,
        attrs=attrs | ({} if manifest_sha256 is None else {store.MANIFEST: manifest_sha256}),
    )


def _facts(source: Source) -> list[dict[str, Any]]:
    """Facts about the source's pieces, as JSON gives them back."""
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
