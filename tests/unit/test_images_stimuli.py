"""Drawn stimuli: the same for ever by their name, with the symmetries that their kinds promise, and visible."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gc_core.images import stimuli

SIDE_PX = 83
KINDS = ("line", "curve", "corner", "circle", "grating")
NUMBERS = range(6)


def drawn(kind: str, number: int) -> NDArray[np.int64]:
    """(H, W, 3)"""
    return stimuli.draw(f"{kind}-{number}", SIDE_PX).transpose(1, 2, 0).astype(np.int64)


def change(image: NDArray[np.int64], moved: NDArray[np.int64]) -> int:
    """Largest difference in grey levels."""
    return int(np.abs(image - moved).max())


def contrast(image: NDArray[np.int64]) -> int:
    return int(np.ptp(image.mean(axis=2)))


def test_names_take_the_kinds_in_turn() -> None:
    assert stimuli.names(7) == ["line-0", "curve-0", "corner-0", "circle-0", "grating-0", "line-1", "curve-1"]
    assert stimuli.names(0) == []
    assert stimuli.names(600)[:7] == stimuli.names(7)


@pytest.mark.parametrize("name", stimuli.names(20))
def test_a_name_is_one_image_and_another_name_another(name: str) -> None:
    image = stimuli.draw(name, SIDE_PX)
    assert image.dtype == np.uint8
    assert image.shape == (3, SIDE_PX, SIDE_PX)
    np.testing.assert_array_equal(stimuli.draw(name, SIDE_PX), image)
    others = [stimuli.draw(other, SIDE_PX) for other in stimuli.names(20) if other != name]
    assert all((other != image).any() for other in others)


def test_the_images_of_this_version_are_those_of_every_version() -> None:
    """Stores name stimuli and hold no pixels: a change of the drawing would give old names new images."""
    sums = {name: int(stimuli.draw(name, 31).astype(np.int64).sum()) for name in stimuli.names(5)}
    assert sums == {"line-0": 355920, "curve-0": 498633, "corner-0": 180548, "circle-0": 537243, "grating-0": 430826}


@pytest.mark.parametrize("number", NUMBERS)
def test_a_circle_is_the_same_under_quarter_turns_and_mirrors(number: int) -> None:
    circle = drawn("circle", number)
    for turns in range(4):
        assert change(circle, np.rot90(circle, turns)) == 0
        assert change(circle, np.rot90(circle, turns)[:, ::-1]) == 0


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", ["line", "grating"])
def test_lines_and_gratings_are_the_same_under_half_a_turn_and_not_under_a_quarter(kind: str, number: int) -> None:
    image = drawn(kind, number)
    assert change(image, np.rot90(image, 2)) <= 1  # sums of cosines in another order
    assert change(image, np.rot90(image, 1)) > contrast(image) // 2


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", ["curve", "corner"])
def test_curves_and_corners_are_no_half_turn_of_themselves(kind: str, number: int) -> None:
    image = drawn(kind, number)
    for turns in (1, 2, 3):
        assert change(image, np.rot90(image, turns)) > contrast(image) // 2


@pytest.mark.parametrize("kind", ["line", "curve", "corner"])
@pytest.mark.parametrize("number", NUMBERS)
def test_strokes_pass_through_the_centre(kind: str, number: int) -> None:
    image = drawn(kind, number)
    background = image[0, 0] if change(image[0, 0], image[0, -1]) == 0 else image[-1, -1]
    assert change(image[SIDE_PX // 2, SIDE_PX // 2], background) > 0


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_stimulus_can_be_seen(kind: str, number: int) -> None:
    assert contrast(drawn(kind, number)) > 85


def test_orientations_and_colours_vary() -> None:
    images = [drawn("line", number) for number in range(40)]
    light_on_dark = [image[41, 41].mean() > image.mean() for image in images]
    assert 5 < sum(light_on_dark) < 35
    assert len({image.tobytes() for image in images}) == 40


@pytest.mark.parametrize("name", ["line", "line-", "-1", "spiral-1", "line-x", "line--1", "LINE-1", "line-1 "])
def test_an_unknown_name_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"^stimulus '.*': expected one of line, curve, corner, circle, grating"):
        stimuli.draw(name, SIDE_PX)
