"""The laws of a store on a local disk, in memory and in a bucket."""

from pathlib import Path

import pytest

from support.store_laws import StoreLaws


class TestOnADisk(StoreLaws):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "my run")


@pytest.mark.usefixtures("memory_bucket")
class TestInMemory(StoreLaws):
    @pytest.fixture
    def url(self) -> str:
        return "s3://memory/my%20run"


@pytest.mark.s3
class TestInABucket(StoreLaws):
    @pytest.fixture
    def url(self, s3_url: str) -> str:
        return f"{s3_url}/my%20run"
