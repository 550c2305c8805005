"""What a run is of is decided once: of racing commands, the second goes on with the same or is refused."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from gc_core import groups, manifest, store
from gc_core.images import ImageRef
from gc_core.io import objects
from gc_core.io.json_objects import read_json, write_json, write_json_once
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.manifest import ImageRecord
from gc_core.store import StoreError
from support.small_trainings import opened, trained

RACERS = 8


def raced(racers: list[Callable[[], Any]]) -> list[Any]:
    """What each gives, or the error that it ends with; all start at the same time."""
    gate = threading.Barrier(len(racers))

    def run(racer: Callable[[], Any]) -> Any:
        gate.wait()
        try:
            return racer()
        except (ValueError, OSError) as error:
            return error

    with ThreadPoolExecutor(len(racers)) as threads:
        return list(threads.map(run, racers))


def table_of(who: int) -> Any:
    refs = [ImageRef(url=f"/images/{who}/{i}.png") for i in range(5)]
    records = [ImageRecord(ref=ref, status="ok", key=1000 * who + i) for i, ref in enumerate(refs)]
    return manifest.build(records, {"images": f"/images/{who}"})


def manifest_races(location: str) -> None:
    run = RunFolder.at(location)

    def racer(who: int) -> Any:
        manifest.write(run.manifest, table_of(who))
        return manifest.load_if_of(run.manifest, {"images": f"/images/{who}"})

    found = raced([lambda who=i % 2: racer(who) for i in range(RACERS)])
    refused = [each for each in found if isinstance(each, ValueError)]
    assert len(refused) == RACERS // 2
    assert all("lists other images" in str(each) for each in refused)
    assert len({str(each["url"].to_pylist()) for each in found if not isinstance(each, ValueError)}) == 1


def store_races(location: str) -> None:
    run = RunFolder.at(location)

    def racer(who: int) -> Any:
        attrs = {"config": {"images": who}, "config_hash": str(who), store.MANIFEST: f"{who}" * 64}
        group = groups.cyclic(4)
        store.create(run, store.StoreSpec(num_rows=300 + who, shard_rows=128, channels=6, group=group, attrs=attrs))
        return store.open_store(run, unfinished=True).num_rows

    found = raced([lambda who=i % 2: racer(who) for i in range(RACERS)])
    assert sum(isinstance(each, StoreError) for each in found) == RACERS // 2
    won = {each for each in found if not isinstance(each, StoreError)}
    assert len(won) == 1
    opened_store = store.open_store(run, unfinished=True)
    assert opened_store.num_rows == opened_store.attrs["num_rows"] == won.pop()


@pytest.mark.parametrize("race", [manifest_races, store_races])
def test_of_harvests_of_different_images_one_goes_on_and_the_others_are_refused(
    tmp_path: Path, race: Callable[[str], None]
) -> None:
    for number in range(5):
        race(str(tmp_path / str(number)))


@pytest.mark.s3
@pytest.mark.parametrize("race", [manifest_races, store_races])
def test_the_same_holds_in_a_bucket(s3_url: str, race: Callable[[str], None]) -> None:
    race(s3_url)


def test_a_store_knows_its_manifest(tmp_path: Path) -> None:
    """As when one of the two was copied from another run."""
    run = RunFolder.at(str(tmp_path))
    manifest.write(run.manifest, table_of(0))
    right = manifest.digest_of(run.manifest)
    assert len(manifest.load_table(run.manifest, sha256=right)) == 5
    objects.delete(run.location, "manifest.parquet")
    manifest.write(run.manifest, table_of(1))
    with pytest.raises(ValueError, match=r"manifest\.parquet: SHA-256 .* found, .* was recorded; it is damaged, or of"):
        manifest.load_table(run.manifest, sha256=right)


def test_of_racing_configs_of_one_name_one_is_written(tmp_path: Path) -> None:
    found = raced(
        [lambda who=i: write_json_once(Location.parse(tmp_path), "config.json", {"k": who}) for i in range(RACERS)]
    )
    assert sum(found) == 1
    assert read_json(Location.parse(tmp_path), "config.json")["k"] == found.index(True)


def test_checkpoints_are_not_believed_under_other_options(planted: Any, tmp_path: Path) -> None:
    """As when config.json was lost, and the name taken anew."""
    trained(planted.run, keep=tmp_path, steps=4, checkpoint_every=2)
    trained(planted.run, keep=tmp_path, steps=4, checkpoint_every=2)  # the control: the same goes on
    with pytest.raises(ValueError, match=r"was trained with other options \(k: 3, not 2\); choose another --name, or"):
        trained(planted.run, keep=tmp_path, steps=4, checkpoint_every=2, k=3)


def test_checkpoints_of_before_are_believed_beside_a_config_of_before_only(planted: Any, tmp_path: Path) -> None:
    folder, (config, _) = str(tmp_path / "0"), opened(planted.run, steps=4, checkpoint_every=2)
    trained(planted.run, keep=tmp_path, steps=4, checkpoint_every=2)
    (part,) = (tmp_path / "0/checkpoints").rglob(f"step-*{4:04}-*/*.pt")
    state = torch.load(part, weights_only=True)
    del state["config"]
    torch.save(state, part)
    write_json(Location.parse(folder), "config.json", {"train": config.to_json()})
    trained(planted.run, keep=tmp_path, steps=4, checkpoint_every=2)
    write_json(Location.parse(folder), "config.json", {"train": config.to_json(), "format_version": 2})
    with pytest.raises(ValueError, match=r"an earlier version's, and the config\.json beside it is not;"):
        trained(planted.run, keep=tmp_path, steps=4, checkpoint_every=2)
