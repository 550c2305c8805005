"""What workers warn of reaches the console, once."""

import importlib
import logging
import pkgutil
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.remote_function import RemoteFunction

import jobs
from jobs.common import board as boards
from jobs.common import cluster, warned


@pytest.fixture(autouse=True)
def _new_job() -> Iterator[None]:
    warned.forget()
    yield
    warned.forget()


class Board:
    """The actor's own class in this process, called as Ray calls it."""

    def __init__(self) -> None:
        self._board: Any = boards.Board.__ray_metadata__.modified_class()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._board, name))


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(boards.ray, "get", lambda value: value)
    return Board()


def test_warnings_of_training_workers_are_told_once_and_escaped(
    board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    """A logger that dies for want of a key was known to Ray's own log files alone."""
    log = logging.getLogger("gc_core.train.loggers")
    with boards.shown(board, 10, 0), warned.listening(board.warn.remote):
        for _ in range(3):
            log.warning("%s stopped (%s); training goes on", "wandb", "no key\x1b[31m")
        log.info("nothing that anybody needs to hear")
    log.warning("of another training")
    told = capsys.readouterr().out
    assert told.count("warning  wandb stopped (no key\\x1b[31m); training goes on") == 1
    assert "nobody" not in told
    assert "another" not in told


def test_warnings_of_other_loggers_and_of_python_are_told_too_but_not_rays_own() -> None:
    told: list[str] = []
    with warnings.catch_warnings(record=True, action="always") as shown, warned.listening(told.append):
        for _ in range(2):
            logging.getLogger("urllib3").warning("retrying")
            warnings.warn("an odd\nnumber", RuntimeWarning, stacklevel=1)
            logging.getLogger("ray.data").warning("of Ray itself")
    assert len(shown) == 2, "they go where they went before, too"
    assert [line.partition(" (RuntimeWarning, test_warned.py:")[0] for line in told] == ["retrying", "an odd number"]


def test_a_flood_is_cut_off_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3 * warned.MOST):
        warned.say(f"image {number}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "warning  more followed, which are not shown"
    assert len(lines) == warned.MOST + 1


@ray.remote
@warned.telling
def _task(number: int) -> int:
    logging.getLogger("botocore").warning("an old key")
    warnings.warn("a division by zero", RuntimeWarning, stacklevel=1)
    return number


@ray.remote
class _Actor:
    def __init__(self) -> None:
        warned.listen()
        logging.getLogger("gc_core").warning("weights of another version")

    def work(self, number: int) -> Any:
        return warned.beside(number)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_tasks_and_actors_of_ray_tell_with_their_results(capsys: pytest.CaptureFixture[str]) -> None:
    """Only those of trainings did."""
    assert list(cluster.in_order(_task.remote, range(4), in_flight=4)) == [0, 1, 2, 3]
    actors: list[Any] = [_Actor.remote(), _Actor.remote()]
    dealt = cluster.deal(actors, range(4), lambda actor, number: actor.work.remote(number), poll=lambda: None)
    assert sorted(dealt) == [0, 1, 2, 3]
    told = capsys.readouterr().out
    for line in ("an old key", "a division by zero (RuntimeWarning, test_warned.py:", "weights of another version"):
        assert told.count(f"warning  {line}") == 1, told


def tasks() -> dict[str, Any]:
    modules = [importlib.import_module(found.name) for found in pkgutil.walk_packages(jobs.__path__, "jobs.")]
    return {
        f"{module.__name__}.{name}": value._function
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, RemoteFunction)
    }


SILENT = {"jobs.common.meshes.gpu_bytes_task"}
"""It looks at one number."""


def test_every_task_of_a_job_tells() -> None:
    found = tasks()
    assert len(found) > 10
    plain = {name for name, function in found.items() if "listen" not in function.__code__.co_names}
    assert plain == SILENT
