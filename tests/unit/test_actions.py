"""Actions of users' own groups: what is refused, and blocks that are the network's answers to what the elements do.

Letters: N windows, G group elements, S field side.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gc_core import actions, groups, harvest, transforms
from gc_core.actions import Action
from gc_core.config import HarvestConfig
from gc_core.harvest.activations import Geometry, evaluated

ORDERS = [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1), (2, 1, 0), (1, 0, 2)]


def permuted(windows: Tensor, side: int) -> Tensor:
    return torch.stack([windows[:, list(order)] for order in ORDERS], 1)


def colours() -> Action:
    place = {order: g for g, order in enumerate(ORDERS)}
    table = [[place[h[g[0]], h[g[1]], h[g[2]]] for h in ORDERS] for g in ORDERS]
    return Action(group=groups.from_table(table, name="S3"), act=permuted)


def turned_and_inverted() -> Action:
    return actions.with_colours(
        groups.dihedral(4), groups.cyclic(2), lambda patches: torch.stack([patches, 255 - patches], 1)
    )


@pytest.mark.parametrize("make", [colours, turned_and_inverted])
def test_an_action_that_obeys_the_law_is_taken(make: Callable[[], Action]) -> None:
    actions.check(make(), "mine")


def test_rotations_together_with_colours_are_those_of_the_plane_and_their_negatives() -> None:
    windows = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 255
    found = turned_and_inverted().act(windows, 9)
    expected = transforms.act(windows, groups.dihedral(4), 9)
    torch.testing.assert_close(found[:, 0::2], expected)
    torch.testing.assert_close(found[:, 1::2], 255 - expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"act": lambda windows, side: permuted(windows, side)[:, :5]}, r"shape \(4, 5, 3, 9, 9\)"),
        ({"act": lambda windows, side: permuted(windows, side).flip(1)}, "changes images by the identity"),
        ({"act": lambda windows, side: permuted(windows, side)[:, [0, 2, 1, 3, 4, 5]]}, "is not their product"),
        ({"window_px": lambda side: side - 2}, "windows of 7 px"),
        ({"window_px": lambda side: side + 1}, "windows of 10 px"),
    ],
)
def test_what_is_no_action_is_refused_in_one_line(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        actions.check(replace(colours(), **changes), "mine:colours")
    assert "\n" not in str(refused.value)


def test_blocks_are_the_answers_to_what_the_elements_make_of_the_image() -> None:
    action, config = colours(), HarvestConfig(dtype="float32")
    backbone = harvest.network_of(config)
    side = backbone.receptive_field_px
    windows = torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    geometry = Geometry(action.group, transforms.Resampling(), side, action)
    found_NGC = evaluated(windows, geometry, backbone)
    for g, order in enumerate(ORDERS):
        torch.testing.assert_close(
            found_NGC[:, g], backbone.unit(windows[:, list(order)].float()), rtol=1e-3, atol=1e-3
        )


def test_a_function_is_found_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from gc_core import groups\nfrom gc_core.actions import Action\n"
    source += "def kept():\n    group = groups.from_table([[0]], name='one')\n"
    source += "    return Action(group=group, act=lambda windows, side: windows[:, None])\n"
    (tmp_path / "my_own_group.py").write_text(
        source + "def failing():\n    raise KeyError('no')\ndef other():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["elsewhere", str(tmp_path)])
    config = HarvestConfig(group="my_own_group:kept")
    assert harvest.group_of(config).name == "one"
    for name, said in [("failing", "KeyError"), ("other", "gave int"), ("absent", "AttributeError")]:
        with pytest.raises(ValueError, match=said):
            actions.named(f"my_own_group:{name}")
    with pytest.raises(ValueError, match="ModuleNotFoundError"):
        actions.named("no_such_module_of_mine:kept")


@pytest.mark.parametrize("changes", [{"resample_all": True}, {"interpolation": "bicubic"}])
def test_options_of_rotations_are_refused_beside_an_own_group(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="makes its patches itself"):
        HarvestConfig(group="mine:colours", **changes)


@pytest.mark.parametrize("text", ["mine:", ":colours", "mine:a.b", "../mine:f", "mine:f()"])
def test_what_names_no_function_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected D followed by a number"):
        HarvestConfig(group=text)


def test_reading_a_config_runs_no_code() -> None:
    config = HarvestConfig.from_json(HarvestConfig(group="no_such_module_of_mine:f").to_json())
    assert config.is_own_group
