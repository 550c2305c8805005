"""Whatever fails on the way, the finished store is byte for byte the undisturbed one, or is not said to be finished."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from gc_core import store
from gc_core.io import s3
from gc_core.io.run_folder import RunFolder
from gc_core.store import REQUESTS_A_SHARD, StoreError
from infra.object_store import ObjectServer
from support.faulty_s3 import FaultyProxy, faulty, some_of
from support.small_runs import contents
from support.small_store import NUM_ROWS, NUM_SHARDS, assert_intact, create, numbers, shard_of, write, write_forever

KILLS = 50


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, bytes]:
    run = RunFolder.at(str(tmp_path / "undisturbed"))
    create(run)
    write(run, 0, 1, 2)
    store.finish(run)
    return contents(run)


@pytest.mark.slow
def test_fifty_kills_at_random_moments_leave_the_undisturbed_store(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    """Each writer is killed while it writes shards in a loop; after each, no reader takes half a store for a whole."""
    run, rng, unfinished = RunFolder.at(str(tmp_path / "run")), random.Random(0), 0
    processes = get_context("forkserver")
    processes.set_forkserver_preload(["support.small_store"])  # a fork is quick, and safe before obstore was used
    create(run)
    for _ in range(KILLS):
        writer = processes.Process(target=write_forever, args=(run.url,))
        writer.start()
        time.sleep(rng.uniform(0.05, 0.5))
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        done = store.finished_commits(run)
        for shard in done:
            store.open_store(run, unfinished=True).verify(shard)
        if len(done) < NUM_SHARDS:
            unfinished += 1
            with pytest.raises(StoreError, match=r"shard \d of 3 (was never finished|is damaged)"):
                store.open_store(run)
    assert unfinished > KILLS // 5
    write(run, *range(NUM_SHARDS))
    store.finish(run)
    assert {name: found for name, found in contents(run).items() if name in undisturbed} == undisturbed
    assert_intact(run)


@contextlib.contextmanager
def through(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process reaches the server by the proxy, and is patient for a short while only."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    monkeypatch.setattr(s3, "SILENCE_TIMEOUT_S", 1)
    s3.forget_clients()
    yield
    s3.forget_clients()


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_fails_one_request_in_twenty_gets_and_gives_the_undisturbed_bytes(
    s3_url: str,
    object_server: ObjectServer,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: dict[str, bytes],
    seed: int,
) -> None:
    run = RunFolder.at(s3_url)
    with faulty(object_server.endpoint, some_of(0.05, seed)) as proxy, through(proxy, monkeypatch):
        for _ in range(4):
            create(run)
            for shard in range(NUM_SHARDS):
                store.write_shard(run, shard, shard_of(numbers(), shard), attempt="only one")
            store.finish(run)
            assert_intact(run)
            for shard in range(NUM_SHARDS):
                store.discard_commit(run, shard)
        write(run, *range(NUM_SHARDS))
        found = contents(run)
    assert len(proxy.faults) >= 5
    assert found == undisturbed


@pytest.mark.s3
@pytest.mark.parametrize("fault", ["500", "503", "reset before", "reset after", "timeout"])
def test_a_commit_whose_answer_is_lost_counts_once(
    s3_url: str, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    run, hit = RunFolder.at(s3_url), []

    def first_record(line: str) -> str | None:
        if line.startswith("PUT") and line.endswith(".json") and "/commits/" in line and not hit:
            hit.append(line)
            return fault
        return None

    create(run)
    with faulty(object_server.endpoint, first_record) as proxy, through(proxy, monkeypatch):
        commit = store.write_shard(run, 0, shard_of(numbers(), 0), attempt="of the lost answer")
        assert proxy.faults == [fault]
        assert store.finished_commits(run) == {0: commit}


@pytest.mark.s3
@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("expired", "refused with (ExpiredToken: the credentials have expired; renew them|400 Bad Request: keys may)"),
        (
            "skewed",
            "refused with (RequestTimeTooSkewed: this machine's clock is wrong; set it|403 Forbidden: keys may)",
        ),
    ],
)
def test_credentials_that_expire_on_the_way_end_a_shard_at_once_in_one_line_and_lose_nothing(
    s3_url: str,
    object_server: ObjectServer,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: dict[str, bytes],
    fault: str,
    line: str,
) -> None:
    run = RunFolder.at(s3_url)
    create(run)
    write(run, 0)
    lapsed: list[bool] = []
    with faulty(object_server.endpoint, lambda _: fault if lapsed else None) as proxy, through(proxy, monkeypatch):
        write(run, 1)
        lapsed.append(True)
        with pytest.raises(PermissionError, match=line) as told:
            write(run, 2)
        assert "\n" not in str(told.value)
        assert len(proxy.faults) == 1, "no retry mends it"
        lapsed.clear()
        assert sorted(store.finished_commits(run)) == [0, 1]
        write(run, 2)
        store.finish(run)
        assert contents(run) == undisturbed


@pytest.mark.s3
def test_a_shard_takes_as_many_requests_as_a_dry_run_foretells(
    s3_url: str, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder.at(s3_url)
    create(run)
    with faulty(object_server.endpoint, lambda _: None) as proxy, through(proxy, monkeypatch):
        write(run, 0, 1)
        proxy.requests.clear()
        write(run, 2)
    assert len(proxy.requests) == REQUESTS_A_SHARD, "\n".join(proxy.requests)


def mounted(folder: Path, size: str) -> bool:
    """Whether a small disk could be mounted there: it takes root."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    return done.returncode == 0


def test_a_full_disk_is_one_clear_line_and_no_finished_shard(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if os.geteuid() or not mounted(disk, "1m"):
        pytest.skip("only root may mount a small disk to fill")
    try:
        run = RunFolder.at(str(disk / "run"))
        create(run)
        (disk / "filler").write_bytes(bytes(32 << 10))
        with contextlib.suppress(OSError), (disk / "filler").open("ab") as filler:
            while True:
                filler.write(bytes(1024))
                filler.flush()
        with pytest.raises(OSError, match=r"no space left on the disk; free some, then run the same command again$"):
            write(run, 0)
        assert store.finished_commits(run) == {}
        (disk / "filler").unlink()
        write(run, 0, 1, 2)
        store.finish(run)
        assert_intact(run)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_clocks_do_not_matter(tmp_path: Path) -> None:
    """Objects and records of the future and of the past count alike: nothing is decided by time."""
    run = RunFolder.at(str(tmp_path / "run"))
    create(run)
    write(run, 0, 1, 2)
    for number, path in enumerate(path for path in (tmp_path / "run").rglob("*") if path.is_file()):
        os.utime(path, (4e9, 4e9) if number % 2 else (0, 0))
    before = store.finished_commits(run)
    write(run, 0, 1, 2)
    store.finish(run)
    assert store.finished_commits(run) == before
    assert_intact(run)


def test_rows_by_slice_and_as_tensors(tmp_path: Path) -> None:
    run = RunFolder.at(str(tmp_path / "run"))
    create(run)
    write(run, 0, 1, 2)
    store.finish(run)
    opened = store.open(str(tmp_path / "run"))
    assert len(opened) == NUM_ROWS
    for rows in (slice(None), slice(-5, None), slice(250, 260), slice(300, 100), slice(590, 10_000)):
        np.testing.assert_array_equal(opened[rows], numbers().activations[rows])
        np.testing.assert_array_equal(opened.tensor(rows).numpy(), numbers().activations[rows])
    with pytest.raises(ValueError, match="a step of 2 found, expected consecutive rows"):
        opened[::2]
