"""Which images the classifier sees, what it sees of them, and what they show."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gc_core.evaluate import choose_images
from gc_core.io.run_folder import RunFolder
from support.small_runs import Planted

NOWHERE = RunFolder.at("file:///nowhere")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images large enough, one too small, one damaged; pixels tell their row and column."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, (height, width) in {"a b.png": (230, 256), "c.png": (256, 256), "small.png": (100, 300)}.items():
        row, column = np.mgrid[:height, :width]
        pixels = np.stack([row % 256, column % 256, np.zeros_like(row)], axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "damaged.png").write_bytes(b"no image")
    return folder


def test_images_are_cropped_in_the_middle_and_those_without_room_left_out(folder: Path) -> None:
    (batch,) = choose_images(NOWHERE, location=str(folder)).batches()
    assert batch.label_N is None
    assert batch.pixels_N3HW.shape == (2, 3, 224, 224)
    torch.testing.assert_close(batch.pixels_N3HW[:, :2, 0, 0], torch.tensor([[3.0, 16.0], [16.0, 16.0]]))


def test_labels_follow_their_images(folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("c.png,7\nsmall.png\t3\n\na b.png 5\ndamaged.png 1\n")
    (batch,) = choose_images(NOWHERE, location=str(folder), labels=str(labels)).batches()
    assert batch.label_N is not None
    assert batch.label_N.tolist() == [5, 7]


def test_no_more_images_than_asked_for(folder: Path) -> None:
    assert len(choose_images(NOWHERE, location=str(folder), at_most=3).refs) == 3


def test_the_runs_held_out_images_are_the_default(planted: Planted) -> None:
    assert [ref.name for ref in choose_images(planted.run).refs] == ["3.png", "50.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c.png dog", r"line 1: found 'c.png dog', expected an image's name and its class as a number"),
        ("7", r"line 1: found '7', expected an image's name"),
        ("c.png 1\na b.png 2", r"no class found for damaged.png \(and 1 more\), expected one an image"),
    ],
)
def test_a_label_file_that_says_too_little_is_refused(folder: Path, tmp_path: Path, text: str, message: str) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text(text)
    with pytest.raises(ValueError, match=message):
        choose_images(NOWHERE, location=str(folder), labels=str(labels))
