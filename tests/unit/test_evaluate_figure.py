"""The figure shows every crosscoder where it belongs, and the record keeps what is measured."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from gc_core.evaluate import Evaluation, compare, read_evaluation, write_evaluation
from gc_core.evaluate.figure import Point, draw, file_format
from gc_core.evaluate.held_out import HeldOut, summarise
from gc_core.io.run_folder import RunFolder
from gc_core.scoring import Samples
from support.random_crosscoders import random_crosscoder, samples

POINT = Point(method="D$_{3}$ crosscoder, top-k", autoencoder=False, dict_size=1024, l0=24, fvu=0.5, fvu_identity=0.4)
SAE = replace(POINT, method="SAE, top-k", autoencoder=True, fvu=0.3, fvu_identity=0.3)


def held_out(**changes: object) -> HeldOut:
    model = random_crosscoder(**changes)
    parts = [Samples(samples(model), torch.arange(40) % 4)]
    return summarise(model, parts, num_images=4, mean_GC=samples(model).mean(0))


def test_a_point_is_what_was_measured_and_named_by_its_method() -> None:
    point = Point.of(random_crosscoder().shape, found := held_out())
    assert (point.l0, point.fvu, point.fvu_identity) == (found.l0, found.fvu, found.fvu_identity)
    assert (point.method, point.autoencoder, point.dict_size) == ("D$_{3}$ crosscoder, top-k", False, 12)
    reader = random_crosscoder(reads=(0, 1, 2), activation="l1").shape
    assert Point.of(reader, found).method == "D$_{3}$ crosscoder, L1, reads 3 blocks"
    alone = Point.of(random_crosscoder(group="trivial").shape, held_out(group="trivial"))
    assert (alone.method, alone.autoencoder) == ("SAE, top-k", True)
    assert alone.fvu == pytest.approx(alone.fvu_identity)


def test_the_image_marks_every_method_and_size() -> None:
    larger = replace(POINT, dict_size=4096, fvu=0.45, fvu_identity=0.35)
    text = draw([POINT, larger, SAE], title="Sparsity", form="svg").decode()
    for said in ("Sparsity", "1,024", "4,096", "SAE, top-k", "the untransformed block"):
        assert f"<!-- {said} -->" in text  # glyphs are paths; matplotlib says above them what they spell
    assert text.count("<!-- 1,024 -->") == 3  # the autoencoder stands in one panel only
    assert text.count("<!-- 4,096 -->") == 2


@pytest.mark.parametrize("points", [[POINT], [SAE]], ids=["crosscoder alone", "autoencoder alone"])
def test_one_point_is_enough(points: list[Point]) -> None:
    with Image.open(io.BytesIO(draw(points, title="Sparsity", form="png"))) as image:
        assert image.size == (1575, 810)


@pytest.mark.parametrize(("name", "form"), [("a.png", "png"), ("x/y.SVG", "svg"), ("b.pdf", "pdf")])
def test_the_files_name_says_its_format(name: str, form: str) -> None:
    assert file_format(name) == form


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'fvu.gif' found, expected a file name that ends in .png, .svg or .pdf"):
        file_format("fvu.gif")


def test_a_later_measurement_keeps_the_earlier_ones_of_other_kinds(tmp_path: Path) -> None:
    run, model, found = RunFolder.at(str(tmp_path)), random_crosscoder(), held_out()
    assert read_evaluation(run, "a") is None
    stability = compare(model, model, up_to_pose=True)
    write_evaluation(run, "a", Evaluation(held_out=found, stability={"b": stability}, downstream=None))
    later = replace(found, num_images=9)
    write_evaluation(run, "a", Evaluation(held_out=later, stability={"c": stability}, downstream=None))
    record = read_evaluation(run, "a")
    assert record is not None
    assert record["held_out"]["num_images"] == 9
    assert record["held_out"]["fvu_per_block"] == found.fvu_per_block
    assert sorted(record["stability"]) == ["b", "c"]
    assert record["stability"]["b"]["up_to_pose"]["mean"] == pytest.approx(1, abs=1e-6)
