"""What every test may rely on: its own home folder, and a Ray that stays on this machine and ends with the session."""

import os
import tempfile
from collections.abc import Iterator

import pytest

# Ray writes a token below HOME, and reads these when it is imported. Workers inherit them.
_HOME = tempfile.TemporaryDirectory(prefix="group-crosscoders-home-")
os.environ.update(
    HOME=_HOME.name,
    RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    OMP_NUM_THREADS="1",
)
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray for all tests that need it: starting it takes longer than most of them."""
    from jobs import cluster

    with cluster.connect():
        yield
