"""Stimuli from parameters: turned exactly, antialiased, with the symmetries that their kinds promise."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gc_core import transforms
from gc_core.groups import dihedral
from gc_core.images import catalogue, shapes
from gc_core.images.catalogue import Stimulus

SIDE_PX = 59
FIXED = catalogue.fixed_set()
BY_KIND = {kind: next(each for each in FIXED if each.kind == kind) for kind in shapes.kinds()}
TWO_FOLD = ("line", "bar", "circle", "grating", "colour-spot")


def drawn(stimulus: Stimulus, angle_deg: float = 0.0, mirrored: bool = False) -> NDArray[np.int64]:
    """(H, W, 3)"""
    return stimulus.drawn(angle_deg, mirrored, SIDE_PX).transpose(1, 2, 0).astype(np.int64)


def change(image: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """Largest difference in grey levels."""
    return int(np.abs(image - other).max())


@pytest.mark.parametrize("stimulus", FIXED, ids=lambda each: each.name)
def test_quarter_turns_and_mirrors_move_pixels_and_nothing_else(stimulus: Stimulus) -> None:
    image = drawn(stimulus)
    for quarters in range(4):
        assert change(drawn(stimulus, 90 * quarters), np.rot90(image, quarters)) <= 1
        assert change(drawn(stimulus, 90 * quarters, mirrored=True), np.rot90(image[:, ::-1], quarters)) <= 1


@pytest.mark.parametrize("kind", shapes.kinds())
def test_any_element_s_drawing_is_what_the_group_makes_of_the_pixels(kind: str) -> None:
    """The group turns pixels by resampling, so not to the last digit; turned the other way nothing would fit."""
    group, stimulus = dihedral(8), BY_KIND[kind]
    window = torch.from_numpy(stimulus.drawn(11, False, 2 * SIDE_PX + 1)).double()[None]
    moved_G3SS = transforms.act(window, group, SIDE_PX)[0].numpy()
    for element in range(group.order):
        turn_deg, mirrored = 45.0 * (element % group.n), element >= group.n
        start_deg = -11.0 if mirrored else 11.0  # mirrored, what was turned one way is turned the other
        expected = stimulus.drawn(turn_deg + start_deg, mirrored, SIDE_PX).astype(np.float64)
        assert np.abs(moved_G3SS[element] - expected).mean() < 12
        if kind not in ("circle", "colour-spot"):
            wrong = stimulus.drawn(turn_deg + start_deg + 22.5, mirrored, SIDE_PX).astype(np.float64)
            assert np.abs(moved_G3SS[element] - wrong).mean() > 2 * np.abs(moved_G3SS[element] - expected).mean()


@pytest.mark.parametrize("stimulus", FIXED, ids=lambda each: each.name)
def test_all_but_spirals_are_their_own_mirror_images(stimulus: Stimulus) -> None:
    found = change(drawn(stimulus), drawn(stimulus, mirrored=True))
    assert found > 128 if stimulus.kind == "spiral" else found <= 1


@pytest.mark.parametrize("stimulus", FIXED, ids=lambda each: each.name)
def test_only_some_kinds_are_the_same_after_half_a_turn(stimulus: Stimulus) -> None:
    found = change(drawn(stimulus, 13), drawn(stimulus, 193))
    same = stimulus.kind in TWO_FOLD and stimulus.parameters.get("phase_deg", 0) % 180 == 0
    assert found <= 1 if same or stimulus.parameters.get("arms") == 2 else found > 90


def test_a_spiral_s_mirror_image_turns_the_other_way() -> None:
    about = {"spacing_px": 12, "arms": 1, "width_px": 3}
    one, other = (shapes.render("spiral", {**about, "handedness": hand}, side_px=59) for hand in (1, -1))
    assert np.abs(one[:, :, ::-1].astype(int) - other).max() > 128  # the arm starts on the right: mirrored, on the left
    mirrored = shapes.render("spiral", {**about, "handedness": 1}, 180, True, side_px=59)
    assert np.abs(mirrored.astype(int) - other).max() <= 1


def test_a_spiral_of_handedness_one_goes_out_anticlockwise() -> None:
    image = shapes.render("spiral", {"spacing_px": 20, "arms": 1, "handedness": 1, "width_px": 3}, side_px=59)[0]
    middle = 29
    radius = [20.0 * degrees / 360 for degrees in (90, 180, 270)]  # above, on the left, below
    assert [image[middle - round(radius[0]), middle], image[middle, middle - round(radius[1])]] == [255, 255]
    assert image[middle + round(radius[2]), middle] == 255
    assert image[middle - round(radius[2]), middle] == 0


@pytest.mark.parametrize("angle_deg", [0.0, 7.0, 22.5, 45.0, 61.0])
def test_turning_changes_no_area(angle_deg: float) -> None:
    bar = shapes.render("bar", {"width_px": 3, "length_px": 21}, angle_deg, side_px=59)[0] / 255
    assert bar.sum() == pytest.approx(3 * 21, rel=0.02)


def test_borders_are_antialiased_and_a_hard_border_s_area_would_change() -> None:
    angles = np.arange(0, 90, 3.0)
    bars = [shapes.render("bar", {"width_px": 3, "length_px": 21}, angle, side_px=59)[0] / 255 for angle in angles]
    soft, hard = (np.std([cover.sum() for cover in each]) for each in (bars, [bar > 0.5 for bar in bars]))
    assert soft < hard / 5
    assert len(np.unique(bars[5])) > 20


def test_radii_and_widths_are_as_asked() -> None:
    circle = shapes.render("circle", {"radius_px": 20, "width_px": 3}, side_px=59)[0]
    assert np.flatnonzero(circle[29] == 255).tolist() == [8, 9, 10, 48, 49, 50]
    wide = shapes.render("line", {"width_px": 5}, side_px=59)[0]
    assert np.flatnonzero(wide[:, 7] == 255).tolist() == [27, 28, 29, 30, 31]
    curve = shapes.render("curve", {"radius_px": 14, "width_px": 1}, side_px=59)[0]
    assert curve[29, 29] == 255
    assert curve[29 - 14, 29 + 14] == 0  # less than half of the circle
    assert curve[29 - 12].max() > 128


def test_opposite_colours_differ_in_hue_alone() -> None:
    for hue_deg in range(0, 360, 15):
        one, other = np.array(shapes.opposite_colours(hue_deg))
        assert one @ [0.299, 0.587, 0.114] == pytest.approx(127.5)
        assert other @ [0.299, 0.587, 0.114] == pytest.approx(127.5)
        assert (np.abs(one - other)).max() == pytest.approx(255)
        assert np.array(shapes.opposite_colours(hue_deg + 180)) == pytest.approx(np.array([other, one]))


def test_contrasts_of_colour_are_none_of_light() -> None:
    for kind in ("colour-edge", "colour-spot"):
        image = BY_KIND[kind].drawn(30, False, SIDE_PX).astype(np.float64)
        grey = np.tensordot([0.299, 0.587, 0.114], image, 1)
        assert np.ptp(grey) < 2
        assert np.ptp(image, axis=(1, 2)).max() > 200


@pytest.mark.parametrize(
    ("kind", "parameters", "side_px", "message"),
    [
        ("blob", {}, 59, "no kind 'blob', expected one of line, bar, edge"),
        ("line", {}, 59, "parameters none found, expected width_px"),
        ("line", {"width_px": 3, "radius_px": 2}, 59, "parameters width_px, radius_px found, expected width_px"),
        ("line", {"width_px": 0.5}, 59, "line: width_px: found 0.5, expected at least 1"),
        ("line", {"width_px": float("nan")}, 59, "line: width_px: found nan"),
        ("grating", {"period_px": 8, "phase_deg": float("inf")}, 59, "phase_deg: found inf"),
        ("spiral", {"spacing_px": 9, "arms": 1.5, "handedness": 1, "width_px": 2}, 59, "arms is 1.5"),
        ("spiral", {"spacing_px": 9, "arms": 1, "handedness": 0, "width_px": 2}, 59, "handedness is 0"),
        ("line", {"width_px": 3}, 58, "side of 58 px found, expected an odd one"),
    ],
)
def test_what_cannot_be_drawn_is_refused(kind: str, parameters: dict[str, float], side_px: int, message: str) -> None:
    with pytest.raises(ValueError, match=r"^stimulus") as error:
        shapes.render(kind, parameters, side_px=side_px)
    assert message in str(error.value)
