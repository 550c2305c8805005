"""What every test may rely on: its own home folder, and a Ray that stays on this machine and ends with the session."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from infra.object_store import ObjectServer

pytest.register_assert_rewrite("support")  # their assertions tell as much as those of a test file

# A busy machine is no reason to fail, and a failure should come again.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

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
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]  # nobody's bucket is touched by a test
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


@pytest.fixture(scope="session")
def ray_cluster(object_server: "ObjectServer") -> Iterator[None]:
    """One Ray for all tests that need it: starting it takes longer than most of them."""
    from jobs.common import cluster

    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patched:
            for name, value in object_server.environment.items():
                patched.setenv(name, value)  # workers inherit what is set when Ray starts
            stack.enter_context(cluster.connect())
        yield


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ObjectServer]":
    """One S3 server on this machine for all tests marked s3."""
    from infra.object_store import serve

    folder: Path = tmp_path_factory.mktemp("object-store")
    with serve(folder) as server:
        yield server


@pytest.fixture
def s3_url(object_server: "ObjectServer", monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """An empty prefix of the server's bucket for this test alone, with the variables set that lead there."""
    for name, value in object_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://runs/{abs(hash(request.node.nodeid)):x}"
