"""Options that say where and how fast, checked when they are made."""

from pathlib import Path

import pytest

from jobs.common.options import Cache


def test_a_cache_is_where_it_is_asked_for_and_as_large(tmp_path: Path) -> None:
    assert Cache().open() is None
    opened = Cache(folder=str(tmp_path / "kept"), gb=0.5).open()
    assert opened is not None
    assert (opened.folder, opened.max_bytes) == (tmp_path / "kept/group-crosscoders-cache", 500_000_000)
    with pytest.raises(ValueError, match=r"cache.gb: found 0, expected more than 0"):
        Cache(folder="x", gb=0)
