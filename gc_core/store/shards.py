"""Which rows each shard holds: integer arithmetic, decided before anything runs.

Images are put in a seeded order, those that are held out from training behind all others, and their rows laid end to
end; a shard is a fixed number of consecutive rows. So images, not rows, are spread over shards (each is decoded once or
twice), any worker can name the rows of any shard, and reading held-out rows decodes their own chunks.

Letters: I images, N rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK_ROWS = 128
DEFAULT_SHARD_ROWS = 2048
DEFAULT_CENTRES_PER_IMAGE = 10
SMALL_STORE_ROWS = 2200
MANY_SHARDS = 8

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRows:
    """Consecutive centres of one image inside one shard."""

    position: int
    """The image's place in the arrays that the plan was made from."""
    first: int
    """Number, within the image, of the first centre."""
    count: int


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """The order of images and where each one's rows begin."""

    order_I: NDArray[np.int64]
    """Position of the image that comes i-th."""
    ends_I: NDArray[np.int64]
    """Row after the last row of the i-th image."""
    shard_rows: int
    held_out_from: int | None
    """Row from which on all are of held-out images, and before which none is; None where those stand among the
    others."""

    @property
    def num_rows(self) -> int:
        return int(self.ends_I[-1]) if len(self.ends_I) else 0

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.shard_rows)

    def rows(self, shard: int) -> range:
        """The shard's rows; the last shard may be short."""
        first = shard * self.shard_rows
        return range(first, min(first + self.shard_rows, self.num_rows))

    def places(self, shard: int, seed: int) -> NDArray[np.int64]:
        """(n,) where each row of a shard stands in it: shuffled, but training and held-out rows apart."""
        rows = self.rows(shard)
        return shuffled(len(rows), self.held_out_in(shard), seed=seed, shard=shard)

    def held_out_in(self, shard: int) -> int:
        """Row of the shard from which on all are held out; one beyond its last where none is known to be."""
        rows = self.rows(shard)
        return len(rows) if self.held_out_from is None else min(max(0, self.held_out_from - rows.start), len(rows))

    def images(self, shard: int) -> list[ImageRows]:
        """The shard's images in row order."""
        rows = self.rows(shard)
        i = int(np.searchsorted(self.ends_I, rows.start, side="right"))
        parts: list[ImageRows] = []
        row = rows.start
        while row < rows.stop:
            begin = int(self.ends_I[i - 1]) if i else 0
            end = min(int(self.ends_I[i]), rows.stop)
            parts.append(ImageRows(position=int(self.order_I[i]), first=row - begin, count=end - row))
            row, i = end, i + 1
        return parts


def plan(
    capacity_I: NDArray[np.int64],
    key_I: NDArray[np.uint64],
    held_out_I: NDArray[np.bool_] | None,
    *,
    centres_per_image: int | None,
    shard_rows: int | None,
    seed: int,
) -> ShardPlan:
    """Lay out the rows of images that have room for `capacity_I` centres each.

    `key_I` names each image by its content, so that the plan does not depend on how a listing was sorted; `held_out_I`
    says which ones come last, None puts them among the others. None for a number means the documented default.
    """
    centres = centres_per_image or default_centres(capacity_I)
    last_I = np.zeros(len(key_I), np.bool_) if held_out_I is None else held_out_I
    order_I = np.lexsort((np.arange(len(key_I)), mix(key_I, seed), last_I))
    counts_I = np.minimum(capacity_I, centres)[order_I]
    order_I, counts_I = order_I[counts_I > 0], counts_I[counts_I > 0]
    ends_I = np.cumsum(counts_I, dtype=np.int64)
    num_rows = int(ends_I[-1]) if len(ends_I) else 0
    return ShardPlan(
        order_I=order_I,
        ends_I=ends_I,
        shard_rows=shard_rows or default_shard_rows(num_rows),
        held_out_from=None if held_out_I is None else int(counts_I[~held_out_I[order_I]].sum()),
    )


def shuffled(num_rows: int, held_out_from: int, *, seed: int, shard: int) -> NDArray[np.int64]:
    """(n,) places of a shard's rows: a seeded order of those before `held_out_from`, then one of the others."""
    rng, first = np.random.default_rng([seed, shard]), min(held_out_from, num_rows)
    return np.concatenate([rng.permutation(first), first + rng.permutation(num_rows - first)])


def default_centres(capacity_I: NDArray[np.int64]) -> int:
    """10, or the smallest number that gives a small set 2,200 rows (or all that it has)."""
    low, high = DEFAULT_CENTRES_PER_IMAGE, max(DEFAULT_CENTRES_PER_IMAGE, int(capacity_I.max(initial=0)))
    enough = min(SMALL_STORE_ROWS, int(capacity_I.sum()))
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if int(np.minimum(capacity_I, middle).sum()) >= enough else (middle + 1, high)
    return low


def default_shard_rows(num_rows: int) -> int:
    """2,048, or fewer whole chunks so that a small store still has 8 shards to share out."""
    chunks = -(-num_rows // (MANY_SHARDS * CHUNK_ROWS))
    return min(DEFAULT_SHARD_ROWS, max(1, chunks) * CHUNK_ROWS)


def mix(key_I: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A seeded scramble of 64-bit keys (splitmix64, Steele et al. 2014): a bijection for each seed."""
    x = key_I.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & _MASK)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
