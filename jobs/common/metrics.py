"""Counts for Ray's metrics, which Prometheus collects from every node: what workers of a harvest do, and go through.

Ray puts `ray_` before each name. `infra/grafana-harvest.json` draws them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from ray.util.metrics import Counter

SAMPLES = "gc_harvest_samples_total"
BYTES = "gc_harvest_stored_bytes_total"
SHARDS = "gc_harvest_shards_total"
SECONDS = "gc_harvest_shard_seconds_total"
FAILURES = "gc_harvest_failed_tries_total"
BAD_IMAGES = "gc_harvest_images_not_used_total"

TOLD = {
    SAMPLES: "Samples computed, those of a shard that is tried again counted again.",
    BYTES: "Bytes of committed shards, as they are stored.",
    SHARDS: "Shards committed.",
    SECONDS: "Seconds from taking a shard to its commit, over all shards; two are in hand at a time.",
    FAILURES: "Tries of a shard that ended in an error; Ray repeats those whose storage did not answer.",
    BAD_IMAGES: "Images of the runs that this job found too small or damaged.",
}
"""What each counts."""


def count(name: str, amount: float) -> None:
    """Add to a count; nothing for nothing, which Ray refuses to add."""
    if amount:
        _counter(name).inc(amount)


@contextmanager
def counting_failures() -> Iterator[None]:
    """Count what the block raises, and pass it on."""
    try:
        yield
    except Exception:
        count(FAILURES, 1)
        raise


@cache
def _counter(name: str) -> Counter:
    return Counter(name, description=TOLD[name])
