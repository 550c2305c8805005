"""The mesh is decided, and refused, before anything starts; no Ray is needed for that."""

from dataclasses import replace

import pytest

from gc_core.config import ResolvedTrainConfig
from gc_core.parallel.mesh import Mesh
from jobs.common import console, meshes
from jobs.common.meshes import decide, fewest_workers, memory_share
from jobs.common.options import ResolvedWorkers, Workers
from support.resolved_configs import data_shape, made

CONFIG = made(dict_size=65_536, group="D_32", k=32, batch=512, buffer_rows=1, blocks_per_step=64, steps=1)
CHANNELS = 480
FOUR = Workers(num_workers=4, gpus_per_worker=1)


def on_cluster(workers: Workers) -> ResolvedWorkers:
    return workers.resolve(num_cpus=8, num_gpus=8)


def decided(
    monkeypatch: pytest.MonkeyPatch, memory_bytes: int | None, workers: Workers, config: ResolvedTrainConfig = CONFIG
) -> tuple[int, str]:
    """The shards chosen, and what was shown."""
    monkeypatch.setattr(meshes, "memory_of_worker", lambda workers: memory_bytes)
    with console.console.capture() as shown:
        mesh = decide([config], on_cluster(workers), data_shape("D_32", channels=CHANNELS))
    return mesh.shards, shown.get()


def line_of(mesh: str, shown: str) -> str:
    return next(line for line in shown.splitlines() if line.startswith(mesh))


def test_every_mesh_is_shown_with_the_chosen_and_the_recommended_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shards, shown = decided(monkeypatch, 20 * 10**9, replace(FOUR, dict_shards=2))
    assert shards == 2
    assert "20.00 GB found for each worker" in shown
    assert "too large" in line_of("4 x 1", shown)
    assert "chosen" in line_of("2 x 2", shown)
    assert "GB" in line_of("1 x 4", shown)
    assert sum("recommended" in line for line in shown.splitlines()) == 1


def test_none_takes_what_is_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    recommended = replace(FOUR, dict_shards=None)
    assert decided(monkeypatch, 80 * 10**9, recommended)[0] == 1
    shards, shown = decided(monkeypatch, 8 * 10**9 + 4 * 10**8, recommended)
    assert shards == 4
    assert "recommended, chosen" in line_of("1 x 4", shown)
    assert decided(monkeypatch, None, recommended)[0] == 1


def test_copies_count_where_workers_have_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 puts the whole dictionary together: splitting it over workers does not lower that."""
    assert decided(monkeypatch, 20 * 10**9, replace(FOUR, dict_shards=4))[0] == 4
    with pytest.raises(ValueError, match=r"export 24\.54 GB\), found 20\.00 GB"):
        decided(monkeypatch, 20 * 10**9, replace(FOUR, gpus_per_worker=0, dict_shards=4))


def test_a_mesh_that_does_not_divide_the_lanes_is_not_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    shards, shown = decided(monkeypatch, None, replace(FOUR, dict_shards=None), replace(CONFIG, lanes=2))
    assert shards == 2
    assert "lanes: found 2, expected a multiple of 4 replicas" in line_of("4 x 1", shown)


@pytest.mark.parametrize(
    ("workers", "config", "memory_gb", "message"),
    [
        (FOUR, CONFIG, 20, r"^memory: mesh 4 x 1 needs .* a worker .*found 20\.00 GB; .*more workers$"),
        (replace(FOUR, dict_shards=None), CONFIG, 1, r"^memory: mesh 1 x 4 needs .*found 1\.00 GB"),
        (replace(FOUR, dict_shards=3), CONFIG, 80, r"^dict_shards: found 3, expected a divisor of the 4 worker"),
        (replace(FOUR, dict_shards=4), replace(CONFIG, dict_size=130), 80, "^dict_size: found 130, .*4 dict_shards;"),
        (replace(FOUR, num_workers=3, dict_shards=None), CONFIG, 80, "^lanes: found 8, expected a multiple of 3"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, config: ResolvedTrainConfig, memory_gb: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        decided(monkeypatch, memory_gb * 10**9, workers, config)
    assert "\n" not in str(refused.value)


def test_a_worker_has_its_share_of_the_smallest_node() -> None:
    small, large = {"CPU": 2, "memory": 6e9, "object_store_memory": 2e9}, {"CPU": 16, "memory": 64e9}
    assert memory_share([small, large], num_workers=4, cpus_per_worker=1) == 4e9
    assert memory_share([small, large], num_workers=1, cpus_per_worker=1) == 8e9
    assert memory_share([small, large], num_workers=8, cpus_per_worker=4) == 16e9, "the small one takes no worker"
    assert memory_share([{"CPU": 0, "memory": 8e9}], num_workers=1, cpus_per_worker=1) is None


@pytest.mark.parametrize(
    ("number", "shards", "taken"),
    [
        (1, 1, 1),
        (2, 1, 2),
        (3, 1, 2),
        (5, 1, 4),
        (6, 1, 4),
        (7, 1, 4),
        (8, 1, 8),
        (9, 1, 8),
        (15, 1, 8),
        (6, 2, 4),
        (6, 6, 6),
    ],
)
def test_workers_that_lanes_cannot_be_shared_out_to_are_left_out_and_it_is_said(
    number: int, shards: int, taken: int
) -> None:
    with console.console.capture() as shown:
        found = meshes.sharing_lanes([CONFIG], on_cluster(Workers(num_workers=number, dict_shards=shards)))
    assert found.num_workers == taken
    assert (f"training takes {taken} of {number} workers" in shown.get()) == (taken < number)


def test_a_split_that_the_workers_do_not_allow_is_known_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"dict_shards: found 4, expected a divisor of the 6 worker\(s\)"):
        meshes.sharing_lanes([CONFIG], on_cluster(Workers(num_workers=6, dict_shards=4)))


FEWER = replace(FOUR, min_workers=1)


@pytest.mark.parametrize(
    ("workers", "shards", "memory_gb", "fewest"),
    [
        (FOUR, 1, 80, 4),
        (FEWER, 1, 80, 1),
        (replace(FOUR, min_workers=3), 1, None, 3),
        (replace(FOUR, min_workers=2), 2, 80, 2),
        (replace(FOUR, min_workers=9), 1, 80, 4),
    ],
)
def test_a_training_starts_with_as_few_workers_as_it_may_go_on_with(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, shards: int, memory_gb: int | None, fewest: int
) -> None:
    monkeypatch.setattr(meshes, "memory_of_worker", lambda workers: memory_gb and memory_gb * 10**9)
    data = data_shape("D_32", channels=CHANNELS)
    assert fewest_workers([CONFIG], on_cluster(workers), Mesh.of(4, shards), data) == fewest


@pytest.mark.parametrize(
    ("workers", "mesh", "memory_gb", "message"),
    [
        (FEWER, Mesh.of(4, 2), 80, r"^min_workers: found 1, and 1 worker.s. will not do \(2 dict_shards need"),
        (FEWER, Mesh(replicas=4), 1, r"^memory: mesh 1 x 1 needs .* found 1\.00 GB"),
        (
            FEWER,
            Mesh(replicas=4, sharded_optimiser=True),
            80,
            r"^min_workers: .* 3 worker.s. will not do \(.*of 3 workers",
        ),
    ],
)
def test_too_few_workers_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, mesh: Mesh, memory_gb: int, message: str
) -> None:
    monkeypatch.setattr(meshes, "memory_of_worker", lambda workers: memory_gb * 10**9)
    config = replace(CONFIG, lanes=3 * CONFIG.lanes, batch=3 * CONFIG.batch)
    with pytest.raises(ValueError, match=message):
        fewest_workers([config], on_cluster(workers), mesh, data_shape("D_32", channels=CHANNELS))
