"""Reads constants and attributes out of a frozen TensorFlow graph without TensorFlow.

Protocol buffers are fields of (number << 3 | wire type, value). Of GraphDef only what weights need is read: a node's
name, operation, inputs and attributes, and the tensors of constants. Field numbers are those of TensorFlow's
graph.proto, node_def.proto, attr_value.proto, tensor.proto and tensor_shape.proto.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; groups (3 and 4) never occur in a GraphDef

TENSOR_TYPES = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 19: np.dtype("<f2")}  # DT_FLOAT, DT_DOUBLE, DT_HALF
MAX_ELEMENTS = 1 << 28
"""Larger shapes are taken for damage: no tensor of these networks comes near."""

Value = int | memoryview


class GraphError(ValueError):
    """The bytes are not a frozen TensorFlow graph, or not an intact one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operation of a graph."""

    name: str
    op: str
    inputs: tuple[str, ...]
    """Names of the nodes it reads, in order, without output numbers; control inputs are left out."""
    attributes: Mapping[str, memoryview]
    """AttrValue messages, decoded when asked for."""

    def integer(self, key: str, default: int) -> int:
        """Attribute `key` as an integer, or `default` where the graph leaves it out."""
        value = _attribute(self, key, 3, default)
        return value if isinstance(value, int) else default

    def real(self, key: str, default: float) -> float:
        """Attribute `key` as a float, or `default` where the graph leaves it out."""
        value = _attribute(self, key, 4, default)
        if isinstance(value, memoryview) and len(value) != 4:
            raise GraphError(f"node {self.name}: attribute {key} is not a float")
        return struct.unpack("<f", value)[0] if isinstance(value, memoryview) else default

    def constant(self) -> np.ndarray:
        """The tensor of a Const node, float64."""
        message = _attribute(self, "value", 8, None)
        if self.op != "Const" or not isinstance(message, memoryview):
            raise GraphError(f"node {self.name} is {self.op} without a tensor, expected Const")
        try:
            return _tensor(message)
        except GraphError as error:
            raise GraphError(f"node {self.name}: {error}") from error


def parse_graph(content: bytes) -> dict[str, Node]:
    """Nodes of a GraphDef by name. Raises GraphError when the bytes are something else or end too early."""
    nodes = {}
    for number, message in _fields(memoryview(content)):
        if number == 1:
            node = _node(_bytes(message))
            nodes[node.name] = node
    if not nodes:
        raise GraphError("holds no nodes")
    return nodes


def _node(message: memoryview) -> Node:
    name, op, inputs, attributes = "", "", [], {}
    for number, value in _fields(message):
        if number == 1:
            name = _text(value)
        elif number == 2:
            op = _text(value)
        elif number == 3:
            inputs.append(_text(value))
        elif number == 5:
            entry = dict(_fields(_bytes(value)))
            attributes[_text(entry.get(1, memoryview(b"")))] = _bytes(entry.get(2, memoryview(b"")))
    if not name or not op:
        raise GraphError("holds a node without name or operation")
    sources = tuple(source.partition(":")[0] for source in inputs if not source.startswith("^"))
    return Node(name=name, op=op, inputs=sources, attributes=attributes)


def _attribute(node: Node, key: str, number: int, default: Value | float | None) -> Value | float | None:
    if key not in node.attributes:
        return default
    return dict(_fields(node.attributes[key])).get(number, default)


def _tensor(message: memoryview) -> np.ndarray:
    """TensorProto: raw bytes, or a list of values whose last one is repeated to fill the shape."""
    fields: dict[int, list[Value]] = {}
    for number, value in _fields(message):
        fields.setdefault(number, []).append(value)
    kind = fields.get(1, [0])[-1]
    if not isinstance(kind, int) or kind not in TENSOR_TYPES:
        raise GraphError(f"tensor of type number {kind}, expected float, double or half")
    shape = _shape(_bytes(fields[2][-1])) if 2 in fields else ()
    content = _bytes(fields[4][-1]) if 4 in fields else memoryview(b"")
    values = _numbers(content, kind) if len(content) else _listed_values(kind, fields)
    num_elements = int(np.prod(shape, dtype=np.int64))
    if len(values) == 0 or len(values) > num_elements or (len(content) and len(values) != num_elements):
        raise GraphError(f"tensor of shape {shape} holds {len(values)} values")
    filled = np.append(values, np.repeat(values[-1], num_elements - len(values)))
    return filled.astype(np.float64).reshape(shape)


def _listed_values(kind: int, fields: Mapping[int, list[Value]]) -> np.ndarray:
    """float_val (5), double_val (6) or half_val (13), packed into one field or one field a value."""
    number = {1: 5, 2: 6, 19: 13}[kind]
    values = fields.get(number, [])
    if number == 13:
        bits = [bit for value in values for bit in ([value] if isinstance(value, int) else _varints(value))]
        return np.array(bits, np.uint64).astype(np.uint16).view(np.float16)
    return _numbers(b"".join(_bytes(value) for value in values), kind)


def _numbers(content: bytes | memoryview, kind: int) -> np.ndarray:
    if len(content) % TENSOR_TYPES[kind].itemsize:
        raise GraphError(f"{len(content)} bytes are not a whole number of values")
    return np.frombuffer(content, TENSOR_TYPES[kind])


def _shape(message: memoryview) -> tuple[int, ...]:
    sizes = [dict(_fields(_bytes(value))).get(1, 0) for number, value in _fields(message) if number == 2]
    shape = tuple(size for size in sizes if isinstance(size, int))
    if (
        len(shape) != len(sizes)
        or any(size > MAX_ELEMENTS for size in shape)
        or np.prod(shape, dtype=float) > MAX_ELEMENTS
    ):
        raise GraphError(f"tensor of impossible shape {sizes}")
    return shape


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """(field number, value) of a message: an int for varints, bytes for everything else."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == BYTES:
            size, position = _varint(message, position)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise GraphError(f"has a field of wire type {wire}")
        if size > len(message) - position:
            raise GraphError(f"ends in the middle of a field of {size} bytes")
        yield number, message[position : position + size]
        position += size


def _varints(packed: memoryview) -> Iterator[int]:
    position = 0
    while position < len(packed):
        value, position = _varint(packed, position)
        yield value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """An unsigned integer, seven bits a byte and lowest first, and the position after it."""
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(message):
            raise GraphError("ends in the middle of a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise GraphError("has a number of more than 64 bits")


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise GraphError("has a number where a message belongs")
    return value


def _text(value: Value) -> str:
    try:
        return str(_bytes(value), "utf-8")
    except UnicodeDecodeError as error:
        raise GraphError("has a name that is not UTF-8") from error
