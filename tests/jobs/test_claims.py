"""One job at a time works on a crosscoder; others wait aloud, and go on with what they find."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gc_core import groups
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.io import lease, objects
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.lease import Term
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from jobs import analyse
from jobs.analyse import analyse_and_draw
from jobs.common import claims, interrupt
from jobs.common.options import Workers
from support.resolved_configs import made

CONFIG = made(dict_size=8, k=2, steps=30, batch=32)
SHAPE = CrosscoderShape(group=groups.parse("C2"), channels=4, dict_size=8, reads=(0,), activation="topk", k=2)


def never(holder: str, waited_s: float) -> None:
    raise AssertionError(holder)


@pytest.fixture
def half_a_minute_a_look(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody sleeps; half a minute passes with each look at another's lease, in which that one gives a sign of life."""
    now_s = [0.0]

    def sleep(seconds: float) -> None:
        now_s[0] += 30

    monkeypatch.setattr(lease.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(lease.time, "sleep", sleep)
    return now_s


def test_another_job_is_waited_for_aloud_and_not_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], half_a_minute_a_look: list[float]
) -> None:
    folder = RunFolder.at(str(tmp_path)).crosscoder("topk-8")
    with (
        lease.held(folder, never),
        pytest.raises(OSError, match=r"topk-8: process \d+ on .* is working on it and did not finish within 0\.75 mi"),
        claims.at_work([folder], Workers(wait_minutes=0.75)),
    ):
        raise AssertionError("two at once")
    told = capsys.readouterr().out.splitlines()
    assert [line[:20] for line in told] == ["waiting  for process"] * 2
    assert told[1].endswith(f"at work on {folder} (0.5 of at most 0.75 minutes)")


def test_a_signal_ends_the_wait(tmp_path: Path, half_a_minute_a_look: list[float]) -> None:
    folder = Location.parse(tmp_path)
    with lease.held(folder, never):
        interrupt.note(2)
        try:
            with pytest.raises(KeyboardInterrupt), claims.at_work([folder], Workers()):
                pass
        finally:
            interrupt.forget()


def test_jobs_of_several_crosscoders_never_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Location] = []
    held = lease.held

    def noting(folder: Location, wait: Callable[[str, float], None]):
        taken.append(folder)
        return held(folder, wait)

    monkeypatch.setattr(lease, "held", noting)
    folders = [Location.parse(tmp_path / name) for name in ("b", "a", "c")]
    with claims.at_work(folders, Workers()) as leases:
        assert [each.term for each in leases] == [Term(folder, 1) for folder in sorted(folders)]
    assert taken == sorted(folders)
    assert all(read_json(Location.parse(f"{folder}/lease"), "00000001.json")["ended"] for folder in folders)


def test_what_is_finished_is_known_without_a_lease(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert not claims.is_finished(Location.parse(folder), CONFIG)
    assert claims.claim(Location.parse(folder), CONFIG) is None
    assert not claims.is_finished(Location.parse(folder), CONFIG)
    GroupCrosscoder.of(SHAPE).save(folder)
    write_json(
        Location.parse(folder),
        "config.json",
        {**read_json(Location.parse(folder), "config.json"), "results": {"fvu": 0.5}},
    )
    assert claims.is_finished(Location.parse(folder), CONFIG)
    assert not claims.is_finished(Location.parse(folder), replace(CONFIG, steps=60))
    objects.write(Location.parse(folder), "model.safetensors", b"other")
    assert not claims.is_finished(Location.parse(folder), CONFIG)


def test_an_analysis_of_what_is_not_there_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyse.cluster, "require_task", lambda workers: None)
    with pytest.raises(ValueError, match="activations"):
        analyse_and_draw(RunFolder.at(str(tmp_path)), "topk-8", AnalyseConfig(), Workers())
    assert list(tmp_path.iterdir()) == []
