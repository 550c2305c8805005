"""First weights are made from samples drawn over the whole store, none twice; beyond that from turned copies.

Letters: N rows, G group elements, C channels, F features.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.io.run_folder import RunFolder
from gc_core.store.shards import CHUNK_ROWS
from gc_core.train import first
from gc_core.train.first import STATISTICS_ROWS, first_samples, sample_rows, sample_train_rows, statistics
from support.small_trainings import new_trainer, opened

D_4 = groups.dihedral(4)


def noise(make_run: Any, num_rows: int) -> RunFolder:
    return make_run(np.random.default_rng(0).standard_normal((num_rows, 8, 6)).astype(np.float32), D_4)


def num_twins(rows_FGC: Tensor) -> int:
    """Features that another one resembles."""
    unit = torch.nn.functional.normalize(rows_FGC.detach().flatten(1), dim=1)
    return int(((unit @ unit.T).fill_diagonal_(0).amax(1) > 0.9).sum())


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize(
    ("num_rows", "dict_size"), [(1500, 200), (1500, 1400), (300, 299), (300, 301), (300, 1000)], ids=str
)
def test_no_features_begin_as_twins(make_run: Any, num_rows: int, dict_size: int, augment: bool) -> None:
    trainer = new_trainer(noise(make_run, num_rows), dict_size=dict_size, augment=augment)
    assert num_twins(trainer.model.W_dec) == 0


def test_a_store_that_every_element_has_used_up_gives_twins(make_run: Any) -> None:
    trainer = new_trainer(noise(make_run, 20), dict_size=10 * 8 + 5, batch=16)
    assert len(trainer.data.train_rows) == 10
    assert num_twins(trainer.model.W_dec) == 10, "the control: five samples come back as they were"


@pytest.mark.parametrize("augment", [True, False])
def test_every_row_is_met_before_one_is_met_again_and_then_turned_otherwise(make_run: Any, augment: bool) -> None:
    config, data = opened(noise(make_run, 300), augment=augment)
    found = sample_train_rows(config, data, 1000)
    assert (np.diff(found.row_N) >= 0).all()
    times_N = np.bincount(found.row_N)[data.train_rows]
    assert (times_N.min(), times_N.max(), times_N.sum()) == (3, 4, 1000)
    assert len({*zip(found.row_N.tolist(), found.element_N.tolist(), strict=True)}) == 1000
    first_met = np.searchsorted(found.row_N, data.train_rows)
    assert bool(found.element_N[first_met].any()) == augment


def test_what_is_drawn_follows_from_the_seed(make_run: Any) -> None:
    run = noise(make_run, 300)
    one, again, other = (statistics(*opened(run, seed=seed)) for seed in (0, 0, 1))
    torch.testing.assert_close(one, again, rtol=0, atol=0)
    assert not one.equal(other)


def test_rows_are_drawn_over_the_whole_store_from_a_bounded_number_of_chunks() -> None:
    rows_N = np.arange(1_000_000)
    few, many = (sample_rows(rows_N, count, np.random.default_rng(0)) for count in (1024, 60_000))
    for found, num_chunks in ((few, 256), (many, 60_000 // 16)):
        assert len(np.unique(found)) == len(found)
        assert len(np.unique(found // CHUNK_ROWS)) <= num_chunks
        np.testing.assert_allclose(np.quantile(found, [0.25, 0.5, 0.75]), [250_000, 500_000, 750_000], rtol=0.25)
    small = sample_rows(np.arange(2000), 1500, np.random.default_rng(0))
    assert len(np.unique(small)) == 1500


def test_held_out_rows_are_not_drawn_though_few_rows_are_left_in_a_chunk() -> None:
    rows_N = np.arange(0, 400_000, 40)
    found = sample_rows(rows_N, 9000, np.random.default_rng(0))
    assert len(np.unique(found)) == 9000
    assert np.isin(found, rows_N).all()


@pytest.mark.parametrize("dict_size", [200, 1000])
def test_a_part_of_the_features_begins_along_the_samples_that_the_whole_gives_it(make_run: Any, dict_size: int) -> None:
    found = first_samples(*opened(noise(make_run, 600), dict_size=dict_size))
    whole = found.along(range(dict_size))
    torch.testing.assert_close(found.along(range(120, 170)), whole[120:170], rtol=0, atol=0)


@pytest.mark.parametrize("augment", [True, False])
def test_samples_are_the_stored_ones_acted_on(make_run: Any, augment: bool) -> None:
    config, data = opened(noise(make_run, 300), augment=augment, dict_size=700)
    asked, acts_NGC = sample_train_rows(config, data, 700), first_samples(config, data).along(range(700))
    for acts_GC, row, element in zip(acts_NGC, asked.row_N, asked.element_N, strict=True):
        stored_GC = torch.from_numpy(data.store[row : row + 1][0].astype(np.float32)) * data.scale
        torch.testing.assert_close(acts_GC, stored_GC[D_4.cayley[:, element]])


def test_of_the_stores_blocks_a_bounded_number_is_in_memory(make_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config, data = opened(noise(make_run, 2000), group="trivial", augment=True, dict_size=4000)
    found, read, counts = first_samples(config, data), first.read_rows, []

    def counted(store: Any, rows: Any, blocks: Any) -> Any:
        counts.append(len(rows))
        return read(store, rows, blocks)

    monkeypatch.setattr(first, "read_rows", counted)
    found.along(range(4000))
    assert len(counts) == 4
    assert max(counts) == STATISTICS_ROWS
