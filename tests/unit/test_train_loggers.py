"""Loggers get every row in order, and never stop or hold up a training."""

import logging
import sys
import threading
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from gc_core.config import TrainConfig
from gc_core.io.location import Location
from gc_core.train import loggers
from gc_core.train.loggers import Guarded, Subject, open_logger

ROWS = [(10, {"fvu": 0.9, "l0": 24.0}), (20, {"fvu": 0.8, "l0": 23.0})]
RUN = Location.of_url("file:///run")


class Kept:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.rows.append((step, dict(metrics)))

    def close(self) -> None:
        self.closed = True


def subject(folder: Path) -> Subject:
    return Subject(folder=Location.parse(folder), name="topk-64", config={"k": 4, "group": "D4"})


def give(logger: Guarded) -> None:
    for step, metrics in ROWS:
        logger.log(step, metrics)
    logger.close()


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    """What the event files in a folder hold, read by their format: length, check sum, bytes, check sum."""
    found: list[tuple[int, str, float]] = []
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            data = content[at + 12 : at + 12 + length]
            assert masked_crc32c(data) == int.from_bytes(content[at + 12 + length : at + 16 + length], "little")
            event = Event.FromString(data)
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            at += length + 16
    return found


def test_rows_reach_a_logger_in_order_and_it_is_closed() -> None:
    kept = Kept()
    give(Guarded("kept", lambda: kept))
    assert kept.rows == ROWS
    assert kept.closed


@pytest.mark.parametrize("when", ["made", "logging", "closing"])
def test_a_failure_is_one_warning(when: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no route to host")

    kept = Kept()
    monkey: Any = kept
    if when == "logging":
        monkey.log = fail
    if when == "closing":
        monkey.close = fail
    with caplog.at_level(logging.WARNING):
        give(Guarded("theirs", fail if when == "made" else lambda: kept))
    assert [record.getMessage() for record in caplog.records] == [
        "theirs stopped (RuntimeError: no route to host); training goes on, metrics.parquet has all rows"
    ]


def test_a_logger_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "CLOSE_S", 0.05)
    monkeypatch.setattr(loggers, "MOST_WAITING", 1)
    release, kept = threading.Event(), Kept()

    def hang() -> Kept:
        release.wait(20)
        return kept

    guarded = Guarded("slow", hang)
    give(guarded)
    assert not kept.rows
    release.set()
    guarded.close()


def test_tensorboard_has_every_number_where_the_crosscoder_is(tmp_path: Path) -> None:
    give(open_logger("tensorboard", subject(tmp_path / "a b")))
    found = scalars(tmp_path / "a b" / "tensorboard")
    assert found == [(step, name, pytest.approx(value)) for step, metrics in ROWS for name, value in metrics.items()]


def test_weights_and_biases_gets_the_config_and_every_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[Any] = []
    run = types.SimpleNamespace(log=lambda row, step: said.append((step, row)), finish=lambda: said.append("finished"))
    fake: Any = types.ModuleType("wandb")
    fake.init = lambda **options: said.append((options["name"], options["config"])) or run
    fake.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    give(open_logger("wandb", subject(tmp_path)))
    assert said == [("topk-64", {"k": 4, "group": "D4"}), *ROWS, "finished"]


def test_mlflow_gets_the_config_and_every_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[Any] = []
    fake: Any = types.ModuleType("mlflow")
    fake.start_run = lambda run_name: types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"id of {run_name}"))
    fake.log_params = lambda params, run_id: said.append((run_id, params))
    fake.log_metrics = lambda row, step, run_id: said.append((step, row))
    fake.end_run = lambda: said.append("ended")
    fake.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    give(open_logger("mlflow", subject(tmp_path)))
    assert said == [("id of topk-64", {"k": 4, "group": "D4"}), *ROWS, "ended"]


def test_a_logger_that_is_not_installed_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="loggers: wandb needs the package wandb, which is not installed"):
        open_logger("wandb", subject(tmp_path))
    assert loggers.usual() == ()


def test_tensorboard_is_on_where_it_is_installed() -> None:
    assert loggers.usual() == ("tensorboard",)


def test_each_crosscoder_is_followed_by_its_own_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[tuple[str, str], Kept] = {}

    def open_kept(logger: loggers.LoggerName, about: Subject) -> Kept:
        assert about.config["k"] == 4
        assert about.folder == RUN / about.name
        return opened.setdefault((logger, about.name), Kept())

    monkeypatch.setattr(loggers, "open_logger", open_kept)
    names = ("small", "large")
    configs = dict.fromkeys(names, TrainConfig(k=4))
    with loggers.following(["wandb", "mlflow"], {name: RUN / name for name in names}, configs) as log:
        log([{"step": 10, "fvu": 0.5}, {"step": 10, "fvu": 0.25}])
        assert not any(kept.closed for kept in opened.values())
    assert {key: kept.rows for key, kept in opened.items()} == {
        (logger, name): [(10, {"fvu": fvu})]
        for logger in ("wandb", "mlflow")
        for name, fvu in (("small", 0.5), ("large", 0.25))
    }
    assert all(kept.closed for kept in opened.values())


def test_no_loggers_are_followed_in_silence() -> None:
    with loggers.following([], {"one": RUN / "one"}, {"one": TrainConfig()}) as log:
        log([{"step": 10, "fvu": 0.5}])
