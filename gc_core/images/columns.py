"""Which column of a table holds images, and what stands in its cells: bytes, base64, or a path to follow."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gc_core.images import budget, formats, url_list
from gc_core.images.decode import ImageError
from gc_core.images.ref import ImageRef, Listed
from gc_core.io.location import Location

IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "images", "jpg_bytes", "picture")
"""Which of several columns holds the images: the first of these that is there, in small letters or capitals."""
LOCATION_NAMES = ("url", "image_url", "img_url", "uri", "image_path", "file_name", "filename", "filepath", "path")
"""Columns of strings that name images: the first of these that is there."""

_EXPECTED = "expected `image`, a column of bytes or a struct of bytes and path, or `url`"
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")
_HEAD_CHARACTERS = 24

Form = Literal["bytes", "struct", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of images."""

    name: str
    form: Form
    """`bytes`; `struct` of bytes and path, as Hugging Face writes it; `text`: base64, or a location."""
    is_list: bool
    """Whether each row holds several."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One image of a column, before its bytes are looked at."""

    row: int
    position: int | None
    """Place in the row's list; None where rows are no lists."""
    has_bytes: bool
    text: str | None
    """What the row calls its image, or where it says that it lies."""


def find(schema: pa.Schema, key: str | None = None) -> Column:
    """The column that holds images: the one called `key` if one is given.

    Raises:
        ImageError: there is none, several could be meant, or it holds raw pixels.
    """
    schema = pa.schema([(field.name, _plain_type(field.type)) for field in schema])
    if key is not None:
        return _chosen(schema, key)
    columns = {field.name: column for field in schema if (column := _column(field))}
    by_name: dict[str, Column] = {name.lower(): column for name, column in reversed(columns.items())}
    packed = {name: column for name, column in columns.items() if column.form != "text"}
    for choice in (name for name in IMAGE_NAMES if name in by_name and by_name[name].form != "text"):
        return by_name[choice]
    if len(packed) > 1:
        raise ImageError(f"several columns of bytes ({', '.join(packed)}; name the one with images `image`)")
    if packed:
        return next(iter(packed.values()))
    for choice in (name for name in (*IMAGE_NAMES, *LOCATION_NAMES) if name in by_name):
        return by_name[choice]
    if raw := next((field.name for field in schema if _is_pixels(field.type)), None):
        raise ImageError(
            f"raw pixels (column {raw} of lists of numbers; save each as the bytes of a PNG file in a column `image`)"
        )
    raise ImageError(f"no column of images (found {', '.join(schema.names)}; {_EXPECTED})")


def chosen_in(member: str, schema: pa.Schema) -> str | None:
    """The column that a member's name begins with, in brackets; None where it was not chosen by name."""
    name, bracket, _ = member[1:].partition("]")
    return name if member[:1] == "[" and bracket and name in schema.names else None


def cells(array: pa.Array, column: Column) -> Iterator[Cell]:
    """Every image of a part of the column; their bytes are not copied."""
    if not column.is_list:
        flat = _flat(array, column)
        yield from (Cell(row, None, has_bytes, text) for row, (has_bytes, text) in enumerate(flat))
        return
    lengths = pc.call_function("list_value_length", [array]).fill_null(0).to_pylist()
    flat = _flat(array.flatten(), column)
    yield from (Cell(row, place, *next(flat)) for row, length in enumerate(lengths) for place in range(length))


def listed(
    cell: Cell, column: Column, *, container: Location, row: int, offset: int, place: str, key: str | None = None
) -> Listed:
    """An image as a listing names it: inside the container, or where its path leads. With a `key`, the name inside
    begins with that column's.

    `row` is its row in the whole table; `offset` and `place` are how the container's reader finds it again.
    """
    if cell.has_bytes:
        name = cell.text if column.form == "struct" and cell.text else str(row)
        name = name if key is None else f"[{column.name}]{name}"
        return Listed(ref=ImageRef(url=container.url, member=f"{name}{place}", offset=offset))
    nowhere = ImageRef(url=container.url, member=f"{cell.text or row}{place}", offset=offset)
    if not cell.text:
        is_text = column.form == "text"
        return Listed(ref=nowhere, error="not a location (empty)" if is_text else "no bytes in this row (and no path)")
    folder = container.parent
    if column.form == "struct" and not _stays_below(cell.text):
        return Listed(ref=nowhere, error=f"no bytes in this row (and its path leads out of {folder}: not followed)")
    return next(iter(url_list.listed([cell.text], folder)))


def bytes_of(value: Any, column: Column, position: int | None) -> bytes:
    """The image's bytes in a cell that was read.

    Raises:
        ImageError: there are none.
    """
    if column.is_list:
        if value is None or position is None or not 0 <= position < len(value):
            raise ImageError(f"no such image in this row ({position} of {len(value or ())})")
        value = value[position]
    if column.form == "struct" and value is not None:
        value = value.get("bytes") if isinstance(value, dict) else value
    if value is None:
        raise ImageError("no bytes in this row (and no path)")
    return value if isinstance(value, bytes) else _from_base64(value)


def plain_bytes(array: pa.Array) -> int:
    """What `plain` takes, found without it."""
    if isinstance(array, pa.DictionaryArray):
        lengths = pc.call_function("binary_length", [array.dictionary])
        return array.nbytes + (pc.call_function("sum", [lengths.take(array.indices)]).as_py() or 0)
    children = [array.values] if _is_list(array.type) else []
    children += array.flatten() if isinstance(array, pa.StructArray) else []
    return array.nbytes + sum(map(plain_bytes, children)) if children else array.nbytes


def plain(array: pa.Array) -> pa.Array:
    """Write out values that are stored once and repeated, such as those of a dictionary."""
    return array.cast(_plain_type(array.type))


def place_in(member: str) -> list[int]:
    """The numbers in brackets at the end of a member's name, `a.jpg[3][0]`."""
    match = re.search(r"((?:\[\d+\])+)$", member)
    return [int(number) for number in re.findall(r"\d+", match[1])] if match else []


def _chosen(schema: pa.Schema, key: str) -> Column:
    chosen = next((field for field in schema if field.name.lower() == key.lower()), None)
    column = None if chosen is None else _column(chosen, any_name=True)
    if column is None:
        known = ", ".join(field.name for field in schema if _column(field, any_name=True)) or "none"
        raise ImageError(f"no column of images called {key!r} (--image-key; expected one of {known})")
    return column


def _column(field: "pa.Field[Any]", *, any_name: bool = False) -> Column | None:
    kind, is_list = field.type, False
    if _is_list(kind):
        kind, is_list = kind.value_type, True
    name = field.name.lower()
    if _is_bytes(kind):
        return Column(name=field.name, form="bytes", is_list=is_list)
    if pa.types.is_struct(kind) and _is_image_struct(kind):
        return Column(name=field.name, form="struct", is_list=is_list)
    if _is_text(kind) and (any_name or name in (*IMAGE_NAMES, *LOCATION_NAMES)):
        return Column(name=field.name, form="text", is_list=is_list)
    return None


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([(part.name, _plain_type(part.type)) for part in kind])
    if pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_type(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_type(kind.value_type), kind.list_size)
    return kind


def _is_image_struct(kind: pa.DataType) -> bool:
    fields = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
    if "bytes" in fields:
        return _is_bytes(fields["bytes"]) or ("path" in fields and pa.types.is_null(fields["bytes"]))
    return set(fields) == {"path"} and _is_text(fields["path"])


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def has_lists(kind: pa.DataType) -> bool:
    """Whether a row of such a column may hold several values."""
    return _is_list(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_pixels(kind: pa.DataType) -> bool:
    while _is_list(kind):
        kind = kind.value_type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return True
    return isinstance(kind, pa.BaseExtensionType) and _is_pixels(kind.storage_type)


def _flat(array: pa.Array, column: Column) -> Iterator[tuple[bool, str | None]]:
    """Whether each image's bytes are there, and its text."""
    if column.form == "bytes":
        return ((has, None) for has in array.is_valid().to_pylist())
    if column.form == "text":
        return ((_head_is_image(text), text) for text in _texts(array))
    assert isinstance(array, pa.StructArray)
    parts = dict(zip((field.name for field in array.type), array.flatten(), strict=True))  # null where the struct is
    has = parts["bytes"].is_valid().to_pylist() if "bytes" in parts else [False] * len(array)
    texts = _texts(parts["path"]) if "path" in parts and _is_text(parts["path"].type) else [None] * len(array)
    return iter(zip(has, texts, strict=True))


def _texts(array: pa.Array) -> list[str | None]:
    """The strings. Views, of which many may show one text, are counted before they are copied."""
    if pa.types.is_string_view(array.type):
        lengths = np.frombuffer(array.buffers()[1], np.int32)[4 * array.offset : 4 * (array.offset + len(array)) : 4]
        stored_bytes = array.get_total_buffer_size()
        if (text_bytes := int(lengths.sum(dtype=np.int64))) > budget.FEW_BYTES + stored_bytes:
            raise ImageError(f"texts of {text_bytes:,} bytes, {stored_bytes:,} are stored (they repeat one another)")
    return array.to_pylist()


def _head_is_image(text: str | None) -> bool:
    """Whether a string is an image in base64, and no location."""
    if not text:
        return False
    start = _DATA_URL.match(text)
    head = text[start.end() if start else 0 :][:_HEAD_CHARACTERS]
    try:
        return bool(start) or formats.is_image(base64.b64decode(head, validate=True))
    except ValueError:
        return False


def _from_base64(text: str) -> bytes:
    start = _DATA_URL.match(text)
    try:
        return base64.b64decode(text[start.end() if start else 0 :])
    except ValueError as error:
        raise ImageError(f"damaged base64 ({error})") from None


def _stays_below(path: str) -> bool:
    return not path.startswith(("/", "~", "\\")) and "://" not in path and ".." not in re.split(r"[/\\]", path)
