"""What strangers' files can cost: offsets grow, memory and time are bounded, and one bad thing costs itself alone."""

import io
import os
import random
import resource
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gc_core.images import ImageError, jpeg, load, sources, tar, walk
from gc_core.images.decode import MOST_SCANS, decode
from gc_core.images.ref import ImageRef
from gc_core.images.sources import list_images
from gc_core.images.tar import MOST_HEADER_BYTES
from gc_core.io.location import Location

decoding = sys.modules["gc_core.images.decode"]  # the package's own `decode` is the function
SECONDS = 5.0
"""Far more than anything here takes: what is unbounded takes minutes or never ends."""


def image(form: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def header(name: str = "a.jpg", *, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    """One block, with a size that may be absurd."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}".encode() + b"\0 "
    return bytes(block)


def scanned(path: Path, content: bytes) -> list[tuple[str, str]]:
    path.write_bytes(content)
    start = time.monotonic()
    found = [(each.ref.member, each.error) for each in tar.scan(Location.parse(path.as_uri()))]
    assert time.monotonic() - start < SECONDS
    return found


def member(name: str, content: bytes) -> bytes:
    return header(name, size=len(content)) + content + bytes(-len(content) % 512)


def archive(*names: str) -> bytes:
    return b"".join(member(name, image()) for name in names) + bytes(1024)


@pytest.mark.parametrize("size", [-512, -1024, -(2**40), 2**60])
def test_a_size_that_leads_back_or_nowhere_ends_the_listing(tmp_path: Path, size: int) -> None:
    found = scanned(tmp_path / "a.tar", member("good.jpg", image()) + header("bad.jpg", size=size) + bytes(512))
    assert found[0] == ("good.jpg", "")
    assert len(found) <= 3
    assert all(error for _, error in found[1:])


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_headers_that_take_long_to_read_are_refused(tmp_path: Path, kind: bytes) -> None:
    digits = b"1" * 200_000
    huge = header("x", size=MOST_HEADER_BYTES + 1, kind=kind) + bytes(MOST_HEADER_BYTES + 512)
    long_number = header("x", size=len(digits), kind=kind) + digits + bytes(-len(digits) % 512)
    for content in (huge, long_number):
        found = scanned(tmp_path / "a.tar", content + member("good.jpg", image()))
        assert [error.startswith("damaged archive (") for _, error in found] == [True]


def test_an_honest_long_name_is_read(tmp_path: Path) -> None:
    """The control."""
    name = "f/" * 200 + "ü.jpg"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(tmp_path / "a.tar", "w", format=form) as out:
            entry = tarfile.TarInfo(name)
            entry.size = len(image())
            out.addfile(entry, io.BytesIO(image()))
        assert scanned(tmp_path / "a.tar", (tmp_path / "a.tar").read_bytes()) == [(name, "")]


@pytest.mark.parametrize("padding", [1024, 10240, 3 << 20])
def test_archives_that_were_joined_are_read_to_the_end(tmp_path: Path, padding: int) -> None:
    one, two = archive("a.jpg", "b.jpg"), archive("c.jpg", "a.jpg")
    found = scanned(tmp_path / "a.tar", one + bytes(padding) + two)
    assert found == [("a.jpg", ""), ("b.jpg", ""), ("c.jpg", ""), ("a.jpg", "")]
    refs = list_images(str(tmp_path / "a.tar"), stimulus_px=59, max_stimuli=1)
    assert [load(ref, 30).shape for ref in refs] == [(3, 30, 40)] * 4


def test_a_jpeg_of_thousands_of_scans_is_refused_and_honest_ones_are_not() -> None:
    scan_marker = b"\xff\xda\x00\x02"
    content = image()[:-2] + scan_marker * 2000 + b"\xff\xd9"
    with pytest.raises(ImageError, match=f"more than {MOST_SCANS} scans"):
        decode(content, 256)
    progressive = image(progressive=True)
    assert 3 < jpeg.num_scans(progressive, at_most=1000) < 20
    assert decode(progressive, 30).shape == (3, 30, 40)
    behind = image() + b"\xff\xda" * 5000  # a film behind the image, as telephones write it
    inside = image(exif=b"Exif\0\0" + b"\xff\xda" * 5000)
    for honest in (behind, inside):
        assert jpeg.num_scans(honest, at_most=1000) == 1
        assert decode(honest, 30).shape == (3, 30, 40)


CHILD = """
import resource, sys
from gc_core.images import ImageError
from gc_core.images.decode import decode
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(open(sys.argv[1], "rb").read(), 256)
    said = "decoded"
except ImageError as error:
    said = str(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, said)
"""


@pytest.mark.parametrize(
    ("mode", "side", "said", "most_mb"),
    [("RGBA", 6000, "decoded", 600), ("I;16", 6000, "decoded", 600), ("RGBA", 10_001, "more than 100 megapixels", 100)],
)
def test_a_small_file_takes_no_huge_memory(tmp_path: Path, mode: str, side: int, said: str, most_mb: int) -> None:
    path = tmp_path / "a.png"
    Image.new(mode, (side, side)).save(path, compress_level=1)
    assert path.stat().st_size < 4_000_000
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    used_mb, told = done.stdout.strip().split(" ", 1)
    assert told.startswith(said)
    assert int(used_mb) < most_mb


def test_images_converted_in_strips_are_those_converted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    layers = Image.fromarray(rng.integers(0, 255, (97, 50, 4), np.uint8), "RGBA")
    deep = Image.fromarray(rng.integers(0, 60_000, (97, 50), np.uint16))
    for each in (layers, deep):
        stream = io.BytesIO()
        each.save(stream, "PNG")
        whole = decode(stream.getvalue(), 1000)
        with monkeypatch.context() as patched:
            patched.setattr(decoding, "STRIP_PIXELS", 300)
            np.testing.assert_array_equal(decode(stream.getvalue(), 1000), whole)


def test_one_bad_entry_of_a_folder_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["good.jpg", "tab\there.jpg", "line\nbreak.jpg", "per%20cent#?.jpg", "deep/er/good.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(image())
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/mu\xf1oz.jpg")).write_bytes(image())
    (tmp_path / "deep/up").symlink_to(tmp_path)
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "lost+found").mkdir()
    really = os.scandir

    def closed(folder: str | Path) -> object:
        if Path(folder).name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return really(folder)

    monkeypatch.setattr(walk.os, "scandir", closed)
    found = sources.find(str(tmp_path), stimulus_px=59, max_stimuli=1)
    listed = sources.ref.listed_in(found.listing)
    assert sorted(each.ref.name for each in listed if not each.error) == sorted(Path(name).name for name in names)
    assert sorted(each.error.partition(" (")[0] for each in listed if each.error) == [
        "folder cannot be read",
        "name is not UTF-8",
        "not a regular file",
        "not found",
    ]
    for each in listed:
        if not each.error:
            assert load(each.ref, 30).shape == (3, 30, 40)


def test_a_name_in_an_archive_that_is_no_text_costs_itself_alone(tmp_path: Path) -> None:
    content = bytearray(archive("good.jpg", "mu?oz.jpg", "last.jpg"))
    place = content.index(b"mu?oz")
    content[place + 2] = 0xF1
    block = content[place : place + 512]
    block[148:156] = b" " * 8
    content[place + 148 : place + 156] = f"{sum(block):06o}".encode() + b"\0 "
    (tmp_path / "a.tar").write_bytes(content)
    found = sources.find(str(tmp_path / "a.tar"), stimulus_px=59, max_stimuli=1)
    listed = sources.ref.listed_in(sources.scan(found.containers[0]))
    assert [(each.ref.member, each.error) for each in listed] == [
        ("good.jpg", ""),
        ("mu\\udcf1oz.jpg", "name is not UTF-8 (rename it)"),
        ("last.jpg", ""),
    ]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="not a regular file"):
        load(ImageRef(url=(tmp_path / "pipe.jpg").as_uri()), 30)


def test_a_line_of_a_list_that_is_no_location_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "good.jpg").write_bytes(image())
    (tmp_path / "list.txt").write_text("good.jpg\n" + "x" * 100_000 + "\nhttp://a b\ngood.jpg\n")
    table = sources.scan(sources.find(str(tmp_path / "list.txt"), stimulus_px=59, max_stimuli=1).containers[0])
    assert [bool(each.error) for each in sources.ref.listed_in(table)] == [False, True, True, False]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, doubled, spliced, or with an extreme number somewhere."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(changed)), rng.choice([1, 2, 4, 8, 64, 512])
        match rng.randrange(5):
            case 0:
                changed[place] ^= 1 << rng.randrange(8)
            case 1:
                changed[place : place + length] = rng.choice([b"\xff", b"\0", b"\x80", b"7"]) * length
            case 2:
                changed = changed[: max(1, place)]
            case 3:
                changed[place:place] = changed[place : place + length]
            case _:
                other = rng.randrange(len(changed))
                changed[place : place + length] = changed[other : other + length]
    return bytes(changed)


FORMS: dict[str, Callable[[], bytes]] = {
    "jpeg": image,
    "progressive": lambda: image(progressive=True),
    "png": lambda: image("PNG"),
    "gif": lambda: image("GIF"),
    "tiff": lambda: image("TIFF", compression="tiff_lzw"),
    "webp": lambda: image("WEBP"),
    "bmp": lambda: image("BMP"),
    "ppm": lambda: image("PPM"),
}
NUM_MUTANTS = 300


@pytest.mark.parametrize("form", FORMS)
def test_mutated_images_are_decoded_or_refused(form: str) -> None:
    content, rng, refused = FORMS[form](), random.Random(form), 0
    start = time.monotonic()
    for _ in range(NUM_MUTANTS):
        try:
            assert decode(mutated(content, rng), 256).shape[0] == 3
        except ImageError:
            refused += 1
    assert refused > 0, "the control: some are damaged"
    assert time.monotonic() - start < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 << 20, "KiB"


def test_mutated_archives_are_listed_to_an_end(tmp_path: Path) -> None:
    content, rng = archive("a.jpg", "b/c.jpg", "d.png") + archive("e.jpg"), random.Random(0)
    damaged = 0
    for _ in range(NUM_MUTANTS):
        found = scanned(tmp_path / "a.tar", mutated(content, rng))
        assert len(found) < 20
        damaged += any(error for _, error in found)
    assert damaged > 0, "the control"


ATTRIBUTES = ["size", "path", "linkpath", "mtime", "uid", "hdrcharset", "charset", "comment", "GNU.sparse.map"]
ATTRIBUTES += [f"GNU.sparse.{name}" for name in ("size", "major", "minor", "realsize", "name", "numblocks", "offset")]
LIES = [
    "0",
    "1",
    "-1",
    "-512",
    "-1024",
    "-1536",
    "511",
    "513",
    "1024",
    "9" * 12,
    "9" * 60,
    "",
    "x",
    "1.5",
    "nan",
    "inf",
]
LIES += ["1e400", "0,0", "0,9999999", "-5,5", "1,", "BINARY", "idna", "../../x.png", "a\nb.png", "x" * 5000, "\u0663"]


def test_attributes_that_lie_cost_what_they_are_of(tmp_path: Path) -> None:
    """What is listed as sound can be read, and lies inside the archive."""
    rng, wrong = random.Random(0), 0
    for _ in range(NUM_MUTANTS):
        path = tmp_path / "a.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as written:
            for number in range(4):
                member, content = tarfile.TarInfo(f"{number}.jpg"), image()
                member.size = len(content)
                if number in (1, 2):
                    member.pax_headers = {rng.choice(ATTRIBUTES): rng.choice(LIES) for _ in range(rng.randint(1, 3))}
                written.addfile(member, io.BytesIO(content))
        found = list(tar.scan(Location.parse(path.as_uri())))
        assert len(found) < 8
        assert (found[0].ref.member, found[0].error) == ("0.jpg", "")
        for each in found:
            wrong += bool(each.error)
            assert each.error or len(tar.read(each.ref)) == each.ref.size
    assert wrong > 50
