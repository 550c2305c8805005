"""Lists of URLs: one on each line; what is no location is told, not skipped."""

from pathlib import Path

from gc_core.images import list_images, url_list
from gc_core.images.load import read
from gc_core.images.ref import Listed
from gc_core.io.location import Location
from support.image_files import png


def listed(path: Path, text: str | bytes) -> list[Listed]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(url_list.scan(Location.parse(path.as_uri())))


def test_each_line_is_a_path_a_url_or_relative_to_the_list(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    for name, content in {"a b.png": png(1), "lists/below.png": png(2), "50%25.png": png(3)}.items():
        (tmp_path / name).write_bytes(content)
    lines = [f"{tmp_path}/a b.png", f"{tmp_path.as_uri()}/a%20b.png", "below.png", "../50%25.png"]
    found = listed(tmp_path / "lists/list.txt", "\n".join(lines))
    assert [read(entry.ref) for entry in found] == [png(1), png(1), png(2), png(3)]
    assert list_images(str(tmp_path / "lists/list.txt"), stimulus_px=1, max_stimuli=1) == [e.ref for e in found]


def test_empty_lines_comments_and_the_ends_of_lines_are_none(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf# images\r\n\r\n  s3://b/a.jpg  \r\ns3://b/c.jpg"
    assert [entry.ref.url for entry in listed(tmp_path / "l.txt", text)] == ["s3://b/a.jpg", "s3://b/c.jpg"]


def test_what_is_no_location_is_listed_with_its_reason(tmp_path: Path) -> None:
    good, web, broken = listed(tmp_path / "l.txt", "s3://b/a.jpg\nhttps://example.org/a.jpg\nfile://host/a.jpg")
    assert not good.error
    assert web.ref.url == "https://example.org/a.jpg"
    assert web.error.startswith("not a location (https://example.org/a.jpg: scheme 'https' found, expected a path")
    assert broken.error.startswith("not a location (")


def test_relative_lines_of_a_list_on_object_storage_begin_at_its_folder(bucket: Path) -> None:
    (bucket / "sets").mkdir()
    (bucket / "sets/a.txt").write_text("x/1.png\n../y z/2.png\n../../3.png")
    inside, beside, beyond = url_list.scan(Location.parse("s3://bucket/sets/a.txt"))
    assert [entry.ref.url for entry in (inside, beside)] == ["s3://bucket/sets/x/1.png", "s3://bucket/y%20z/2.png"]
    assert beyond.error.startswith("not a location (")
