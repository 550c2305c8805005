"""InceptionV1 read from frozen graphs that this file writes itself, byte by byte, and from state dicts."""

import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from gc_core.backbones import Backbone, load
from gc_core.backbones.inceptionv1 import inceptionv1_layers
from gc_core.backbones.layers import convolutions
from gc_core.backbones.tf_graph import GraphError, parse_graph
from gc_core.backbones.weights import sha256_of

FLOAT, DOUBLE, INT32, HALF = 1, 2, 3, 19


def varint(value: int) -> bytes:
    if value < 0x80:
        return bytes([value])
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def real(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


def node(name: str, op: str, inputs: Iterable[str] = (), **attributes: bytes) -> bytes:
    attrs = b"".join(field(5, field(1, key) + field(2, value)) for key, value in attributes.items())
    return field(1, field(1, name) + field(2, op) + b"".join(field(3, x) for x in inputs) + field(4, "/cpu:0") + attrs)


def tensor(kind: int, shape: tuple[int, ...], values: bytes) -> bytes:
    sizes = b"".join(field(2, field(1, size)) for size in shape)
    return field(8, field(1, kind) + field(2, sizes) + values)


def const(name: str, array: np.ndarray) -> bytes:
    content = field(4, array.astype("<f4").tobytes())
    return node(name, "Const", value=tensor(FLOAT, array.shape, content), dtype=field(6, FLOAT))


def lrn(name: str, source: str, *, radius: int, bias: float, alpha: float, beta: float) -> bytes:
    return node(
        name,
        "LRN",
        [source],
        depth_radius=field(3, radius),
        bias=real(4, bias),
        alpha=real(4, alpha),
        beta=real(4, beta),
    )


@cache
def random_weights() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernels (kernel, kernel, in, out), as TensorFlow keeps them, and biases; float32 values."""
    random = np.random.default_rng(0)
    return {
        conv.weights: (
            random.normal(0, 0.05, (conv.kernel, conv.kernel, channels_in, conv.channels)).astype(np.float32),
            random.normal(0, 0.1, conv.channels).astype(np.float32),
        )
        for conv, channels_in in convolutions(inceptionv1_layers(), 3)
    }


@cache
def lucid_graph(prefix: str = "", weight_name: str = "{}_w", without: str = "") -> bytes:
    """The part of the published graph that matters: constants, the operations that read them, and both LRNs."""
    nodes = [node("input", "Placeholder", dtype=field(6, FLOAT))]
    for name, (kernel, bias) in random_weights().items():
        stored, read = weight_name.format(name), f"{weight_name.format(name)}/read"
        nodes += [
            const(prefix + stored, kernel),
            node(prefix + read, "Identity", [prefix + stored]),
            const(f"{prefix}{name}_b", bias),
            node(f"{prefix}{name}_pre_relu/conv", "Conv2D", ["input:0", f"{prefix}{read}:0", "^input"]),
            node(f"{prefix}{name}_pre_relu", "BiasAdd", [f"{prefix}{name}_pre_relu/conv", f"{prefix}{name}_b"]),
        ]
    nodes += [
        lrn(f"{prefix}localresponsenorm0", "maxpool0", radius=3, bias=1.5, alpha=2e-4, beta=0.75),
        lrn(f"{prefix}localresponsenorm1", "conv2d2", radius=5, bias=2.0, alpha=1e-4, beta=0.5),
        const(f"{prefix}softmax2_w", np.zeros((4, 10))),  # what lies above mixed3b is not read
    ]
    return b"".join(n for n in nodes if not without or field(1, without) not in n[:80])


def state_dict(kernel_name: str = "{}.weight", bias_name: str = "{}.bias") -> dict[str, torch.Tensor]:
    state = {}
    for name, (kernel, bias) in random_weights().items():
        state[kernel_name.format(name)] = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
        state[bias_name.format(name)] = torch.from_numpy(bias)
    return state


def read(path: Path, content: bytes) -> Backbone:
    path.write_bytes(content)
    return load("inceptionv1", weights=str(path), dtype=torch.float64)


def patches() -> torch.Tensor:
    return 255 * torch.rand(2, 3, 91, 91, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_graph_and_state_dict_give_the_same_network(tmp_path: Path) -> None:
    from_graph = read(tmp_path / "graph.pb", lucid_graph())
    assert from_graph.weights_sha256 == sha256_of(lucid_graph())
    norms = {
        "localresponsenorm0": torch.tensor([3, 1.5, np.float32(2e-4), 0.75], dtype=torch.float64),
        "localresponsenorm1": torch.tensor([5, 2.0, np.float32(1e-4), 0.5], dtype=torch.float64),
    }
    save_file(state_dict() | norms, tmp_path / "state.safetensors")
    from_state = load("inceptionv1", weights=str(tmp_path / "state.safetensors"), dtype=torch.float64)
    torch.testing.assert_close(from_graph.unit(patches()), from_state.unit(patches()), rtol=1e-12, atol=1e-12)
    save_file(state_dict(), tmp_path / "plain.safetensors")  # the control: other norms are another network
    plain = load("inceptionv1", weights=str(tmp_path / "plain.safetensors"), dtype=torch.float64)
    assert (plain.unit(patches()) - from_graph.unit(patches())).abs().max() > 1e-3


def test_kernels_are_turned_from_tensorflows_order_to_torchs(tmp_path: Path) -> None:
    backbone = read(tmp_path / "graph.pb", lucid_graph())
    kernel = random_weights()["conv2d0"][0]
    assert backbone.get_buffer("conv2d0_weight")[17, 2, 3, 5] == kernel[3, 5, 2, 17]


def test_constants_are_found_through_the_operations_that_read_them(tmp_path: Path) -> None:
    """Under other names for the constants the network is the same."""
    renamed = read(tmp_path / "renamed.pb", lucid_graph(weight_name="some/other/{}/kernel"))
    usual = read(tmp_path / "usual.pb", lucid_graph())
    assert torch.equal(renamed.unit(patches()), usual.unit(patches()))


def test_constants_alone_are_enough(tmp_path: Path) -> None:
    graph = b"".join(
        const(f"{name}_w", kernel) + const(f"{name}_b", bias) for name, (kernel, bias) in random_weights().items()
    )
    norms = lrn("localresponsenorm0", "", radius=3, bias=1.5, alpha=2e-4, beta=0.75)
    norms += lrn("localresponsenorm1", "", radius=5, bias=2.0, alpha=1e-4, beta=0.5)
    usual = read(tmp_path / "usual.pb", lucid_graph())
    assert torch.equal(read(tmp_path / "bare.pb", graph + norms).unit(patches()), usual.unit(patches()))


def test_a_graph_imported_under_a_prefix_is_read(tmp_path: Path) -> None:
    usual = read(tmp_path / "usual.pb", lucid_graph())
    assert torch.equal(read(tmp_path / "import.pb", lucid_graph("import/")).unit(patches()), usual.unit(patches()))


def test_state_dict_under_the_names_of_converted_copies_is_read(tmp_path: Path) -> None:
    torch.save(state_dict("{}_pre_relu_conv.weight", "{}_pre_relu_conv.bias"), tmp_path / "converted.pth")
    save_file(state_dict(), tmp_path / "own.safetensors")
    converted, own = (
        load("inceptionv1", weights=str(tmp_path / name)) for name in ("converted.pth", "own.safetensors")
    )
    assert torch.equal(converted.unit(patches()), own.unit(patches()))


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("mixed3a_5x5_w", r"has no mixed3a_5x5_w"),
        ("conv2d1_b", r"has no conv2d1_b"),
        ("localresponsenorm1", r"has no LRN node localresponsenorm1"),
    ],
)
def test_graph_without_a_needed_node_is_refused_by_its_name(missing: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=line):
        read(tmp_path / "graph.pb", lucid_graph(without=missing))


def test_graph_with_a_kernel_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"conv2d1 has weights \(64, 64, 3, 3\).*expected \(64, 64, 1, 1\)"):
        read(tmp_path / "graph.pb", lucid_graph() + const("conv2d1_w", np.zeros((3, 3, 64, 64))))
    with pytest.raises(ValueError, match=r"the kernel of conv2d1 has 2 axes"):
        read(tmp_path / "graph.pb", lucid_graph() + const("conv2d1_w", np.zeros((64, 64))))


def test_state_dict_with_a_missing_name_or_a_short_norm_is_refused(tmp_path: Path) -> None:
    state = state_dict()
    save_file({name: t for name, t in state.items() if name != "mixed3b_1x1.bias"}, tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match=r"has no mixed3b_1x1\.bias, expected NAME\.weight and NAME\.bias"):
        load("inceptionv1", weights=str(tmp_path / "short.safetensors"))
    save_file(state | {"localresponsenorm0": torch.ones(3)}, tmp_path / "norm.safetensors")
    with pytest.raises(ValueError, match=r"localresponsenorm0 holds 3 values, expected radius, bias, alpha, beta"):
        load("inceptionv1", weights=str(tmp_path / "norm.safetensors"))


def test_no_weights_names_the_file_and_the_alternative() -> None:
    with pytest.raises(
        ValueError, match=r"path of tensorflow_inception_graph\.pb .*\"googlenet\", whose weights are bundled"
    ):
        load("inceptionv1")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.9999])
def test_graph_cut_short_is_refused_in_one_line(share: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"graph\.pb: not an intact frozen TensorFlow graph") as error:
        read(tmp_path / "graph.pb", lucid_graph()[: int(share * len(lucid_graph()))])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["conv2d0_w/read", "conv2d0_w"])
def test_graph_that_goes_round_in_circles_is_refused(source: str, tmp_path: Path) -> None:
    circle = node("conv2d0_w/read", "Identity", ["conv2d0_w"]) + node("conv2d0_w", "Identity", [source])
    with pytest.raises(ValueError, match=r"is Identity without a tensor"):
        read(tmp_path / "graph.pb", lucid_graph() + circle)


SMALL_GRAPH = (
    const("w", np.arange(6.0).reshape(2, 3))
    + node("x", "Identity", ["w:0", "^w"], T=field(6, FLOAT))
    + lrn("n", "x", radius=3, bias=1.5, alpha=2e-4, beta=0.75)
)


def parse_or_refuse(content: bytes) -> list[object] | str:
    """Everything that can be asked of a graph, or the line it is refused with."""
    try:
        nodes = parse_graph(content).values()
        constants: list[object] = [n.constant() for n in nodes if n.op == "Const"]
        return constants + [(n.integer("depth_radius", 5), n.real("alpha", 1.0)) for n in nodes]
    except GraphError as error:
        return str(error)


@given(st.data())
def test_damaged_bytes_are_read_or_refused_in_one_line(data: st.DataObject) -> None:
    content = bytearray(SMALL_GRAPH)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    answer = parse_or_refuse(bytes(content))
    assert answer
    assert not isinstance(answer, str) or "\n" not in answer


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    assert parse_or_refuse(content)


def test_every_cut_of_a_graph_holds_less_or_is_refused() -> None:
    whole = parse_or_refuse(SMALL_GRAPH)
    assert isinstance(whole, list)
    for length in range(len(SMALL_GRAPH)):
        answer = parse_or_refuse(SMALL_GRAPH[:length])
        assert isinstance(answer, str) or len(answer) < len(whole)


def test_nodes_inputs_and_attributes_are_read() -> None:
    nodes = parse_graph(SMALL_GRAPH)
    assert (nodes["x"].op, nodes["x"].inputs) == ("Identity", ("w",))
    np.testing.assert_array_equal(nodes["w"].constant(), np.arange(6.0).reshape(2, 3))
    norm = parse_graph(lrn("n", "w", radius=300, bias=2.0, alpha=0.25, beta=0.5))["n"]
    assert (norm.integer("depth_radius", 5), norm.real("alpha", 1.0)) == (300, 0.25)
    assert (nodes["x"].integer("depth_radius", 5), nodes["x"].real("alpha", 1.0)) == (5, 1.0)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (FLOAT, field(4, np.array([1, 2.5, -3], "<f4").tobytes())),
        (FLOAT, field(5, np.array([1, 2.5, -3], "<f4").tobytes())),  # packed
        (FLOAT, real(5, 1) + real(5, 2.5) + real(5, -3)),  # one field a value
        (DOUBLE, field(4, np.array([1, 2.5, -3], "<f8").tobytes())),
        (DOUBLE, field(6, np.array([1, 2.5, -3], "<f8").tobytes())),
        (HALF, field(4, np.array([1, 2.5, -3], "<f2").tobytes())),
        (HALF, field(13, b"".join(varint(int(bits)) for bits in np.array([1, 2.5, -3], "<f2").view("<u2")))),
        (HALF, b"".join(field(13, int(bits)) for bits in np.array([1, 2.5, -3], "<f2").view("<u2"))),
    ],
)
def test_tensors_are_read_in_every_way_they_are_written(kind: int, values: bytes) -> None:
    constant = parse_graph(node("c", "Const", value=tensor(kind, (3,), values)))["c"].constant()
    np.testing.assert_array_equal(constant, [1, 2.5, -3])


def test_the_last_listed_value_fills_the_shape() -> None:
    constant = parse_graph(node("c", "Const", value=tensor(FLOAT, (2, 2), real(5, 1) + real(5, 7))))["c"].constant()
    np.testing.assert_array_equal(constant, [[1, 7], [7, 7]])


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (tensor(INT32, (1,), field(7, 3)), r"node c: tensor of type number 3"),
        (tensor(FLOAT, (3,), field(4, b"\0" * 8)), r"node c: tensor of shape \(3,\) holds 2 values"),
        (tensor(FLOAT, (1,), real(5, 1) + real(5, 2)), r"holds 2 values"),
        (tensor(FLOAT, (1,), field(4, b"\0" * 7)), r"node c: 7 bytes are not a whole number"),
        (tensor(FLOAT, (1 << 40,), real(5, 1)), r"impossible shape"),
        (field(6, FLOAT), r"node c is Const without a tensor"),
    ],
)
def test_impossible_tensors_are_refused_by_node(value: bytes, line: str) -> None:
    with pytest.raises(GraphError, match=line):
        parse_graph(node("c", "Const", value=value))["c"].constant()
