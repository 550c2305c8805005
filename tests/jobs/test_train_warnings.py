"""What a training worker warns of reaches the console, once."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import train


class Board:
    """The actor's own class in this process, called as Ray calls it."""

    def __init__(self) -> None:
        self._board: Any = train._Board.__ray_metadata__.modified_class()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._board, name))


def test_warnings_of_workers_are_told_once_and_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A logger that dies for want of a key was known to Ray's own log files alone."""
    board = Board()
    monkeypatch.setattr(train.ray, "get", lambda value: value)
    log = logging.getLogger("gc_core.train.loggers")
    with train._shown(board, 10, 0), train._warnings_told(board):
        for _ in range(3):
            log.warning("%s stopped (%s); training goes on", "wandb", "no key\x1b[31m")
        log.info("nothing that anybody needs to hear")
    log.warning("of another training")
    told = capsys.readouterr().out
    assert told.count("warning  wandb stopped (no key\\x1b[31m); training goes on") == 1
    assert "nobody" not in told
    assert "another" not in told
