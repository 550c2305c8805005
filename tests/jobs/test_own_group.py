"""A group of a user's own, from images to the table of features and the page."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gc_core.config import HarvestConfig, TrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.io.run_folder import RunFolder
from gc_core.store import open_store
from jobs import verify
from jobs.common.lists import TrainConfigs
from jobs.pipeline import Pipeline, run_pipeline

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

OWN = "tests.support.own_group:colours_permuted"


def test_channel_permutations_go_from_images_to_the_page(tmp_path: Path) -> None:
    harvested = HarvestConfig(images="stimuli", max_stimuli=150, group=OWN, shard_rows=128, dtype="float32")
    trained = TrainConfig(prototypes=8, k=2, steps=20, batch=64)
    run_pipeline(Pipeline(out=str(tmp_path), name="mine", harvest=harvested, train=TrainConfigs((trained,))))
    run = RunFolder.at(str(tmp_path))
    opened = open_store(run)
    assert (opened.group.name, opened.group.labels[0], opened.group.order) == ("S3", "RGB", 6)
    assert Crosscoder.load(run.crosscoder("mine")).group == opened.group
    table = pq.read_table(run.feature_table("mine").local_path).to_pylist()
    assert len(table) == 8
    for row in table:
        assert row["stabiliser_elements"][0] == "RGB"
        words = {"invariant", "none", "undecided", "subgroup of order 2", "subgroup of order 3"}
        assert row["symmetry"] in words
        np.testing.assert_allclose(sum(row["spectrum"]), 1, atol=1e-3)
    page = (tmp_path / "atlas" / "mine" / "index.html").read_text()
    assert page.count('<figure class="elements"') == sum(row["alive"] for row in table)
    assert '<th scope="row">GBR</th>' in page
    verify.main([str(tmp_path)])
