"""Which stimuli are shown: names that are one picture for ever, and a fixed set without copies."""

from itertools import pairwise

import numpy as np
import pytest

from gc_core.evaluate.classes import class_name
from gc_core.images import catalogue, list_images, load, shapes
from gc_core.images.load import content_key

SIDE_PX = 59
SUMS = {
    "line-0": 510674,
    "bar-0": 571737,
    "edge-0": 275469,
    "curve-0": 387156,
    "corner-0": 252018,
    "circle-0": 335859,
    "spiral-0": 377315,
    "grating-0": 237924,
    "high-low-0": 339126,
    "colour-edge-0": 367584,
    "colour-spot-0": 352784,
}


def test_names_take_the_kinds_in_turn() -> None:
    assert catalogue.names(13)[:4] == ["line-0", "bar-0", "edge-0", "curve-0"]
    assert catalogue.names(13)[10:] == ["colour-spot-0", "line-1", "bar-1"]
    assert catalogue.names(0) == []


def test_the_images_of_this_version_are_those_of_every_version() -> None:
    """Stores name stimuli and hold no pixels: a change of the drawing would give old names new images."""
    sums = {name: int(catalogue.draw(name, 31).astype(np.int64).sum()) for name in catalogue.names(11)}
    assert sums == SUMS


@pytest.mark.parametrize("name", catalogue.names(33))
def test_every_stimulus_can_be_seen_and_is_another_s_copy_never(name: str) -> None:
    image = catalogue.draw(name, SIDE_PX)
    assert image.shape == (3, SIDE_PX, SIDE_PX)
    assert np.ptp(image.astype(np.int64), axis=(1, 2)).max() > 80
    assert sum((catalogue.draw(other, SIDE_PX) == image).all() for other in catalogue.names(33)) == 1


@pytest.mark.parametrize("name", ["line", "line-", "-1", "blob-1", "line-x", "line--1", "LINE-1", "line-1 ", "line-٣"])
def test_an_unknown_name_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"^stimulus '.*': expected one of line, bar, edge, .*, colour-spot, a dash"):
        catalogue.draw(name, SIDE_PX)


def test_orientations_colours_and_both_kinds_of_spirals_vary() -> None:
    spirals = [catalogue.draw(f"spiral-{number}", SIDE_PX) for number in range(24)]
    assert len({image.tobytes() for image in spirals}) == 24
    light_on_dark = [catalogue.draw(f"line-{number}", SIDE_PX)[:, 29, 29].mean() for number in range(40)]
    assert np.std(light_on_dark) > 30


def test_the_fixed_set_has_every_kind_and_no_picture_twice_however_turned() -> None:
    every = catalogue.fixed_set()
    assert {each.kind for each in every} == {*shapes.kinds()}
    assert len({each.name for each in every}) == len(every)
    seen = set[bytes]()
    for each in every:
        turned = {each.drawn(90 * quarters, False, SIDE_PX).tobytes() for quarters in range(4)}
        assert not turned & seen
        seen |= turned


def test_kinds_of_the_fixed_set_stand_together() -> None:
    kinds = [each.kind for each in catalogue.fixed_set()]
    assert sum(one != other for one, other in pairwise(kinds)) == len(shapes.kinds()) - 1


def test_a_harvest_may_ask_for_all_kinds_and_older_names_mean_what_they_did() -> None:
    refs = list_images("all-stimuli", stimulus_px=SIDE_PX, max_stimuli=12)
    assert [ref.member for ref in refs] == catalogue.names(12)
    assert {ref.url for ref in refs} == {f"all-stimuli:{SIDE_PX}"}
    assert [class_name(ref) for ref in refs[8:]] == ["high-low", "colour-edge", "colour-spot", "line"]
    np.testing.assert_array_equal(load(refs[3], SIDE_PX), catalogue.draw("curve-0", SIDE_PX))
    (older,) = (ref for ref in list_images("stimuli", stimulus_px=SIDE_PX, max_stimuli=5) if ref.member == "curve-0")
    assert (load(older, SIDE_PX) != load(refs[3], SIDE_PX)).any()
    assert content_key(older, b"") != content_key(refs[3], b"")
