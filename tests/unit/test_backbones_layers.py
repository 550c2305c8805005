"""Trunks as data: names, borders, and the geometry that follows from them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from gc_core.backbones.geometry import axis_of, field_of
from gc_core.backbones.googlenet import googlenet_layers
from gc_core.backbones.inceptionv1 import inceptionv1_layers
from gc_core.backbones.layers import (
    Block,
    Border,
    Conv,
    MaxPool,
    centred,
    convolutions,
    layer_names,
    layers_until,
    num_channels,
    rounded_up,
    same,
)

NETWORKS = {"googlenet": googlenet_layers(), "inceptionv1": inceptionv1_layers()}


@given(length=st.integers(1, 300), kernel=st.sampled_from([1, 3, 5, 7]), stride=st.integers(1, 3))
def test_same_border_leaves_the_number_of_windows_that_tensorflow_documents(
    length: int, kernel: int, stride: int
) -> None:
    before, after = same(length, kernel, stride)
    documented = max(kernel - (stride if length % stride == 0 else length % stride), 0)
    assert before + after == documented
    assert after - before in (0, 1)


@given(length=st.integers(3, 300), kernel=st.sampled_from([1, 3]), stride=st.integers(1, 3))
def test_rounded_up_border_counts_windows_as_torch_does(length: int, kernel: int, stride: int) -> None:
    expected = F.max_pool2d(torch.zeros(1, 1, length, length), kernel, stride, ceil_mode=True).shape[-1]
    pool = MaxPool(name="pool", kernel=kernel, stride=stride, border=rounded_up)
    assert axis_of((pool,), length).num_units == expected


@pytest.mark.parametrize(("border", "first_px"), [(centred, 0), (rounded_up, 1), (same, 0)])
def test_first_centre_depends_on_the_border(border: Border, first_px: int) -> None:
    """On 9 pixels a window of 3 at stride 2 starts at -1, 0 and -1."""
    axis = axis_of((MaxPool(name="pool", kernel=3, stride=2, border=border),), 9)
    assert axis.first_px == first_px


def test_same_border_moves_the_centres_with_the_parity_of_the_length() -> None:
    layers = inceptionv1_layers()
    assert {axis_of(layers, length).first_px for length in range(128, 136)} == {0, 1, 2, 3, 4, 5, 6, 7}


@pytest.mark.parametrize(
    ("network", "layer", "field_px", "stride_px", "channels"),
    [
        ("googlenet", "conv1", 7, 2, 64),
        ("googlenet", "maxpool1", 11, 4, 64),
        ("googlenet", "conv3", 19, 4, 192),
        ("googlenet", "maxpool2", 27, 8, 192),
        ("googlenet", "inception3a", 43, 8, 256),
        ("googlenet", "inception3b.branch1", 43, 8, 128),
        ("googlenet", "inception3b", 59, 8, 480),
        ("inceptionv1", "conv2d0", 7, 2, 64),
        ("inceptionv1", "mixed3a_3x3", 43, 8, 128),
        ("inceptionv1", "mixed3a", 59, 8, 256),
        ("inceptionv1", "mixed3b", 91, 8, 480),
    ],
)
def test_fields_are_those_of_the_papers(network: str, layer: str, field_px: int, stride_px: int, channels: int) -> None:
    path = layers_until(NETWORKS[network], layer)
    field = field_of(path)
    assert (field.size_px, field.stride_px, num_channels(path, 3)) == (field_px, stride_px, channels)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer_can_be_asked_and_has_a_centre_pixel(network: str) -> None:
    names = layer_names(NETWORKS[network])
    assert len(set(names)) == len(names) == 36 + 2 * (network == "inceptionv1")
    for name in names:
        path = layers_until(NETWORKS[network], name)
        assert path[-1].name == name
        assert field_of(path).size_px % 2 == 1


def test_a_branch_is_reached_without_its_siblings() -> None:
    path = layers_until(googlenet_layers(), "inception3a.branch2")
    assert [conv.weights for conv, _ in convolutions(path, 3)][-2:] == [
        "inception3a.branch2.0",
        "inception3a.branch2.1",
    ]
    assert not any(isinstance(layer, Block) for layer in path)


def test_unknown_layer_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"no layer 'conv9'; expected one of .*inception3b\."):
        layers_until(googlenet_layers(), "conv9")


def test_image_too_small_for_the_network_is_refused_with_the_layer() -> None:
    with pytest.raises(ValueError, match=r"side of 3 px leaves no unit at maxpool2"):
        axis_of(googlenet_layers(), 3)


def test_convolutions_are_listed_with_what_they_read() -> None:
    """The two joined branches hand 3 + 5 channels to the convolution behind them."""
    layers = (
        Block(
            name="block",
            branches=((Conv(name="a", weights="a", channels=3),), (Conv(name="b", weights="b", channels=5),)),
        ),
        Conv(name="c", weights="c", channels=7),
    )
    assert [(conv.name, channels_in) for conv, channels_in in convolutions(layers, 2)] == [("a", 2), ("b", 2), ("c", 8)]


def test_centres_are_spaced_by_the_stride_and_fill_the_image() -> None:
    for layers in NETWORKS.values():
        for length in range(96, 112):
            axis = axis_of(layers, length)
            centres = axis.first_px + axis.stride_px * np.arange(axis.num_units)
            assert centres[0] < 8
            assert length - 8 <= centres[-1] < length + 7
