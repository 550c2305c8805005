"""One process at a time works in a folder; who is dead is replaced, by one other; who was replaced writes no more."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gc_core.io import lease, objects
from gc_core.io.json_objects import read_json
from gc_core.io.lease import FOLDER, Lease, LostError, Rhythm, Term, check_all, held
from gc_core.io.location import Location

QUICK = Rhythm(beat_s=0.02, dead_s=600, look_s=0.005)
DEAD_SOON = Rhythm(beat_s=0.02, dead_s=0.3, look_s=0.005)
"""Only where nobody is alive whom a busy machine could make look dead."""
RACERS = 8


@pytest.fixture(params=["disk", pytest.param("bucket", marks=pytest.mark.s3)])
def url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return str(tmp_path / "topk-64") if request.param == "disk" else request.getfixturevalue("s3_url")


def patiently(holder: str, waited_s: float) -> None:
    assert waited_s < 120, holder


def never(holder: str, waited_s: float) -> None:
    raise AssertionError(f"waited for {holder}")


def at_once(work: Callable[[int], Any], count: int = RACERS) -> list[Any]:
    start = threading.Barrier(count)

    def run(racer: int) -> Any:
        start.wait()
        return work(racer)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


class Frozen(Lease):
    """Its process stands still: no sign of life, and no word of its end."""

    def _live(self) -> None:
        return

    def give_up(self) -> None:
        return


def frozen(url: str, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """Taken by a process of another machine that stands still from then on."""
    with monkeypatch.context() as patched:
        patched.setattr(lease, "Lease", Frozen)
        patched.setattr(lease.socket, "gethostname", lambda: "elsewhere")
        with held(Location.parse(url), never) as found:
            return found


def check_for_a_minute(found: Lease) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found.check()
        time.sleep(0.01)


def test_of_many_one_at_a_time_is_at_work_and_all_get_their_turn(url: str) -> None:
    inside, most, turns = [0], [0], []

    def work(racer: int) -> None:
        with held(Location.parse(url), patiently, rhythm=QUICK) as mine:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.03)
            mine.term.check()
            turns.append(racer)
            inside[0] -= 1

    at_once(work)
    assert most == [1]
    assert sorted(turns) == list(range(RACERS))


def test_numbers_grow_and_one_record_stays(url: str) -> None:
    for number in range(1, 4):
        with held(Location.parse(url), never) as mine:
            assert mine.term == Term(Location.parse(url), number)
            assert list(objects.sizes(Location.parse(url) / FOLDER)) == [f"{number:08}.json"]
    assert read_json(Location.parse(url) / FOLDER, "00000003.json")["ended"] is True


def test_a_holder_gives_signs_of_life(url: str) -> None:
    with held(Location.parse(url), never, rhythm=QUICK) as mine:
        deadline = time.monotonic() + 60
        while read_json(Location.parse(url) / FOLDER, "00000001.json")["beats"] < 3:
            assert time.monotonic() < deadline
        mine.check()
        mine.term.check()


@pytest.mark.parametrize("looks_between_signs", [1, 5, 6])
def test_who_waits_goes_by_its_own_clock_and_by_what_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks_between_signs: int
) -> None:
    """Its clock goes on by a quarter of the time that means death with each look: five looks apart is alive."""
    url, now_s, heard = str(tmp_path), [0.0], []
    holder = frozen(url, monkeypatch)

    def wait(told: str, waited_s: float) -> None:
        heard.append(told)
        if len(heard) == 40:
            raise TimeoutError
        if len(heard) % looks_between_signs == 0:
            objects.write(Location.parse(url) / FOLDER, "00000001.json", b'{"beats": %d}' % len(heard))
        now_s[0] += 15

    monkeypatch.setattr(lease.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(lease.time, "sleep", lambda seconds: None)
    if looks_between_signs <= 5:
        with pytest.raises(TimeoutError), held(Location.parse(url), wait, rhythm=Rhythm(dead_s=60)):
            pass
        holder.term.check()
        return
    with held(Location.parse(url), wait, rhythm=Rhythm(dead_s=60)) as mine:
        assert mine.term.number == 2
    assert len(heard) == 5
    assert heard[0].startswith("process ")
    assert " on elsewhere, since 20" in heard[0]


def test_of_those_who_find_one_dead_one_takes_its_place_and_the_dead_one_learns_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = frozen(url, monkeypatch)
    dead.term.check()
    with ExitStack() as stack:

        def work(racer: int) -> Lease | None:
            try:
                return stack.enter_context(held(Location.parse(url), until_another_comes, rhythm=DEAD_SOON))
            except TimeoutError:
                return None

        def until_another_comes(holder: str, waited_s: float) -> None:
            if "on elsewhere" not in holder:
                raise TimeoutError(holder)

        (winner,) = [found for found in at_once(work) if found]
        assert winner.term.number == dead.term.number + 1
        winner.term.check()
        with pytest.raises(LostError, match=r"process \d+ on .* has taken over this command's work, since it"):
            dead.term.check()
        with pytest.raises(LostError):
            check_all([winner.term, dead.term])


def test_a_holder_that_was_taken_for_dead_is_told_and_gives_nothing_up(url: str) -> None:
    with held(Location.parse(url), never, rhythm=QUICK) as mine:
        name = f"{mine.term.number + 1:08}.json"
        assert objects.write_once(Location.parse(url) / FOLDER, name, b'{"host": "other", "process": 7}')
        with pytest.raises(LostError, match="process 7 on other has taken over"):
            check_for_a_minute(mine)
    assert objects.read(Location.parse(url) / FOLDER, name) == b'{"host": "other", "process": 7}'


def test_who_is_slow_and_creates_a_number_of_the_past_does_not_get_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saw that the first was given up; since then the second came and went, and its record was cleared."""
    for _ in range(3):
        with held(Location.parse(url), never):
            pass
    assert lease.create(Location.parse(url), 2, QUICK) is None
    assert list(objects.sizes(Location.parse(url) / FOLDER)) == ["00000003.json"]


def test_an_answer_that_was_lost_is_no_lost_lease(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = objects.write_once

    def unheard(*args: Any) -> bool:
        written(*args)
        return False

    monkeypatch.setattr(lease.objects, "write_once", unheard)
    with held(Location.parse(url), never) as mine:
        assert mine.term.number == 1


@pytest.mark.parametrize("pid", [2**22 + 1, 1], ids=["nobody's", "of another by now"])
def test_a_process_of_this_machine_that_has_ended_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int
) -> None:
    """As after kill -9, or a loss of memory."""
    with monkeypatch.context() as patched:
        patched.setattr(lease.os, "getpid", lambda: pid)
        patched.setattr(lease, "began", lambda _: "17")
        frozen(str(tmp_path), monkeypatch)
    with held(Location.parse(tmp_path), never) as mine:
        assert mine.term.number == 2


@pytest.mark.parametrize("machine", [None, "another start of this machine"])
def test_one_that_may_be_elsewhere_is_waited_for(
    url: str, monkeypatch: pytest.MonkeyPatch, machine: str | None
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(lease, "this_machine", lambda: machine)
        patched.setattr(lease.os, "getpid", lambda: 2**22 + 1)
        frozen(url, monkeypatch)
    with pytest.raises(AssertionError, match="waited for process 4194305 on"), held(Location.parse(url), never):
        pass
    heard: list[str] = []
    with held(Location.parse(url), lambda holder, waited_s: heard.append(holder), rhythm=DEAD_SOON) as mine:
        assert mine.term.number == 2
    assert heard


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"process": "7"}', b'{"since_unix_s": 1e300}', b'{"ended": 1}', b"\xff" * 99]
)
def test_a_damaged_record_is_taken_for_a_dead_one_in_the_end(tmp_path: Path, content: bytes) -> None:
    url = str(tmp_path)
    objects.write(Location.parse(url) / FOLDER, "00000007.json", content)
    with held(Location.parse(url), patiently, rhythm=DEAD_SOON) as mine:
        assert mine.term.number == 8


def test_storage_that_does_not_answer_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats = threading.Event()

    def silent(*_: Any) -> None:
        beats.set()
        raise objects.UnavailableError("no answer")

    with held(Location.parse(tmp_path), never, rhythm=QUICK) as mine:
        with monkeypatch.context() as patched:
            patched.setattr(lease.objects, "write", silent)
            assert beats.wait(60)
        before = read_json(Location.parse(tmp_path) / FOLDER, "00000001.json")["beats"]
        deadline = time.monotonic() + 60
        while read_json(Location.parse(tmp_path) / FOLDER, "00000001.json")["beats"] <= before:
            assert time.monotonic() < deadline
        mine.check()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_it_is_given_up_at_any_orderly_end(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), held(Location.parse(tmp_path), never):
        raise error
    with held(Location.parse(tmp_path), never) as mine:
        assert mine.term.number == 2
