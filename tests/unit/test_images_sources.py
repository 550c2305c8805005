"""Where images come from: folders of any depth, images inside packages, drawn ones; found again by content."""

from pathlib import Path

import pytest

from gc_core.images import ImageError, ImageRef, list_images, load, parquet
from gc_core.images.load import content_key, read
from gc_core.images.sources import choose, find
from gc_core.io.location import Location
from support.image_files import as_arrow, as_folder, as_parquet, as_tar, as_zip, png, write_parquet


def listed(location: str, max_stimuli: int = 3) -> list[ImageRef]:
    return list_images(location, stimulus_px=31, max_stimuli=max_stimuli)


def ref_of(path: Path) -> ImageRef:
    return ImageRef(url=(Location.parse(path.parent) / path.name).url, member="")


def fill(folder: Path, names: list[str]) -> None:
    for grey, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(grey) if "." in name else b"a file without a suffix")


IMAGES = ["a.jpg", "b/c/d/e.PNG", "b/z.jpeg", "my cat.webp", "ü/ñ.tif", "50%25/x#1?.gif", "z.bmp", "z.tiff"]
OTHERS = ["notes.txt", "b/c/data.csv", "jpg", ".DS_Store", "archive.jpg.zip"]


def test_a_folder_lists_its_images_at_any_depth_sorted_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, IMAGES + OTHERS)
    refs = listed(str(tmp_path))
    assert [ref.location.local_path for ref in refs] == [tmp_path / name for name in sorted(IMAGES)]
    assert [ref.name for ref in refs] == [Path(name).name for name in sorted(IMAGES)]
    assert [ref.size for ref in refs] == [(tmp_path / name).stat().st_size for name in sorted(IMAGES)]
    for ref, name in zip(refs, sorted(IMAGES), strict=True):
        assert read(ref) == (tmp_path / name).read_bytes()
        assert load(ref, 8)[0, 0, 0] == IMAGES.index(name)


def test_a_path_and_its_url_list_alike(tmp_path: Path) -> None:
    folder = tmp_path / "my images"
    fill(folder, ["a.png", "b/b.png"])
    assert listed(str(folder)) == listed(folder.as_uri()) == listed(f"{folder}/")


def test_links_to_images_are_followed(tmp_path: Path) -> None:
    fill(tmp_path, ["real/a.png"])
    (tmp_path / "images").mkdir()
    (tmp_path / "images/linked.png").symlink_to(tmp_path / "real/a.png")
    (tmp_path / "images/folder").symlink_to(tmp_path / "real")
    assert [ref.name for ref in listed(str(tmp_path / "images"))] == ["a.png", "linked.png"]


def test_a_missing_place_is_one_clear_line(tmp_path: Path) -> None:
    line = r"^images: .*/gone is neither a file nor a folder; expected a folder, a \.tar, .*`builtin`.*$"
    with pytest.raises(ValueError, match=line):
        listed(str(tmp_path / "gone"))


@pytest.mark.parametrize(("others", "count"), [([], 0), (OTHERS[:-1], 3)])
def test_a_folder_without_images_is_one_clear_line(tmp_path: Path, others: list[str], count: int) -> None:
    fill(tmp_path, others)
    with pytest.raises(ValueError, match=rf"^images: no image among the {count} files below .*; expected \.apng, .*$"):
        listed(str(tmp_path))


def forms(folder: Path, images: dict[str, bytes]) -> dict[str, str]:
    """Locations where the same images are found, by kind."""
    names = list(images)
    as_zip(folder / "packed.zip", images)
    as_arrow(folder / "saved/data-00000-of-00001.arrow", images)
    halves = [{name: images[name] for name in half} for half in (names[:4], names[4:])]
    for part, half in enumerate(halves):
        as_tar(folder / f"tars/part-{part:02}.tar", half)
        as_parquet(folder / f"tables/part-{part:02}.parquet", half)
    as_folder(folder / "plain", images)
    (folder / "list.txt").write_text("\n".join(f"plain/{name}" for name in names))
    write_parquet(folder / "list.parquet", {"url": [f"plain/{name}" for name in names]})
    at = {
        "folder": "plain",
        "tars": "tars",
        "tables": "tables",
        "zip": "packed.zip",
        "arrow": "saved",
        "braces": "tars/part-{00..01}.tar",
    }
    at |= {"wild tables": "tables/*.parquet", "wild images": "plain/**/*.png"}
    return at | {"text": "list.txt", "table of urls": "list.parquet", "wild tars": "*/part-*.tar"}


NINE = {f"{'abc'[i // 3]}/{i}.png": png(i, 8 + i) for i in range(9)}


@pytest.mark.parametrize("where", ["disk", "object store"])
def test_every_form_of_the_same_images_lists_them_in_the_same_order(tmp_path: Path, bucket: Path, where: str) -> None:
    root = str(tmp_path / "sets") if where == "disk" else "s3://bucket"
    for kind, location in forms(tmp_path / "sets" if where == "disk" else bucket, NINE).items():
        refs = listed(f"{root}/{location}")
        assert [read(ref) for ref in refs] == list(NINE.values()), kind
        assert len({(ref.url, ref.member) for ref in refs}) == 9


def test_one_file_is_a_source_of_its_own(tmp_path: Path) -> None:
    at = forms(tmp_path, NINE)
    for location, count in {"tars/part-00.tar": 4, "tables/part-01.parquet": 5, "plain/a/0.png": 1}.items():
        assert len(listed(str(tmp_path / location))) == count
    assert [read(ref) for ref in listed((tmp_path / at["text"]).as_uri())] == list(NINE.values())


def test_a_folder_with_images_is_those_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    as_folder(tmp_path, {"a.png": png(1), "x.tar": b"", "y.tar": b"", "z.parquet": b"", "old.tar.gz": b""})
    found = find(str(tmp_path), stimulus_px=1, max_stimuli=1)
    assert found.listing["url"].to_pylist() == [f"{tmp_path.as_uri()}/a.png"]
    assert found.containers == ()
    assert found.note == "2 tar and 1 parquet and 1 compressed files there are not opened; name them to use them"
    as_folder(tmp_path, {"b.heic": b"", "c.HEIC": b"", "n0001": b"", "README.md": b"", "z.zip": b""})
    assert find(str(tmp_path), stimulus_px=1, max_stimuli=1).note == (
        "2 tar and 1 zip and 1 parquet and 1 compressed files there are not opened; name them to use them; "
        "4 files there are not images by their names and are left out: 2 .heic, 1 .md, 1 without a suffix"
    )


@pytest.mark.parametrize("name", ["a.tar.gz", "a.TGZ", "a.tar.zst"])
@pytest.mark.parametrize("alone", [True, False])
def test_compressed_archives_are_refused_in_one_line(tmp_path: Path, name: str, alone: bool) -> None:
    as_folder(tmp_path, {name: b""} if alone else {name: b"", "b.tar": b""})
    line = rf"^images: file://.*/{name} is a compressed archive; .* needs a plain \.tar: decompress it"
    for location in (tmp_path, tmp_path / name):
        with pytest.raises(ValueError, match=line):
            listed(str(location))


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.bin", b"PAR1....PAR1", r"a\.bin is not a list of URLs \(starts with b'PAR1\.\.\.\.'\); name it \.parquet$"),
        ("a.gz", b"\x1f\x8b\x08\0", r"a\.gz is not a list of URLs .*; decompress it$"),
        ("a.ta", bytes(257) + b"ustar", r"a\.ta is not a list of URLs .*; name it \.tar$"),
        ("a.bin", bytes(100), r"a\.bin is not text \(starts with b'.*expected a folder, a \.tar"),
        ("a.txt", b"# nothing\n\n", r"a\.txt is empty; expected a folder"),
        ("a.txt", b"", r"a\.txt is empty; expected a folder"),
        ("a.tar", b"<html>", r"no image in file:///.*a\.tar: damaged archive \(it ends inside a block\)$"),
        ("a.parquet", b"<html>", r"no image in file:///.*a\.parquet: damaged Parquet file \(.*$"),
    ],
)
def test_a_file_that_is_no_source_is_one_clear_line(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=line):
        listed(str(tmp_path / name))


def test_a_pattern_that_means_nothing_is_one_clear_line(tmp_path: Path) -> None:
    forms(tmp_path, NINE)
    with pytest.raises(ValueError, match=r"^images: nothing found for part-02\.tar below .*/tars; expected a folder"):
        listed(str(tmp_path / "tars/part-{00..02}.tar"))
    with pytest.raises(ValueError, match=r"^images: nothing found for \*\.zip below"):
        listed(str(tmp_path / "tars/*.zip"))


def test_a_path_that_exists_is_no_pattern(tmp_path: Path) -> None:
    as_folder(tmp_path / "set [1] {a,b}", NINE)
    as_tar(tmp_path / "set*.tar", {"a.png": png(1)})
    as_tar(tmp_path / "set 2.tar", {"a.png": png(2)})
    assert len(listed(str(tmp_path / "set [1] {a,b}"))) == 9
    assert [read(ref) for ref in listed(str(tmp_path / "set*.tar"))] == [png(1)]


def test_an_object_store_s_empty_prefix_is_one_clear_line(bucket: Path) -> None:
    for location in ("s3://bucket/nothing", "s3://bucket"):
        with pytest.raises(ValueError, match=rf"^images: no image among the 0 files below {location}; expected"):
            listed(location)


def test_files_are_counted_while_they_are_found(tmp_path: Path) -> None:
    as_folder(tmp_path, NINE)
    counts: list[int] = []
    find(str(tmp_path), stimulus_px=1, max_stimuli=1, tick=counts.append)
    assert counts[-1] == 9


def test_all_packaged_photographs_exist_and_decode() -> None:
    refs = listed("photographs")
    assert len(refs) == 16
    assert {ref.url for ref in refs} == {"builtin:skimage", "builtin:sklearn"}
    for ref in refs:
        pixels_CHW = load(ref, 64)
        assert min(pixels_CHW.shape[1:]) == 64
        assert pixels_CHW.std() > 5
    assert len({content_key(ref, read(ref)) for ref in refs}) == len(refs)


def test_builtin_is_the_photographs_and_then_the_stimuli() -> None:
    assert listed("builtin") == listed("photographs") + listed("stimuli")
    assert [(ref.url, ref.member) for ref in listed("stimuli", 2)] == [
        ("stimuli:31", "line-0"),
        ("stimuli:31", "curve-0"),
    ]


def test_a_stimulus_is_drawn_at_the_side_that_its_url_says() -> None:
    assert [load(ref, 8).shape for ref in listed("stimuli")] == [(3, 31, 31)] * 3


def test_equal_copies_have_equal_keys_wherever_they_lie(tmp_path: Path) -> None:
    fill(tmp_path, ["a.png", "b.png"])
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/copy of a.jpg").write_bytes((tmp_path / "a.png").read_bytes())
    keys = {ref.name: content_key(ref, read(ref)) for ref in listed(str(tmp_path))}
    assert keys["copy of a.jpg"] == keys["a.png"] != keys["b.png"]
    assert all(0 <= key < 2**63 for key in keys.values())


def test_stimuli_have_keys_of_their_own() -> None:
    refs = listed("stimuli", 50) + list_images("stimuli", stimulus_px=33, max_stimuli=50)
    assert len({content_key(ref, read(ref)) for ref in refs}) == 100


def test_an_image_that_changed_is_not_loaded_as_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(10))
    ref = ref_of(path)
    key = content_key(ref, read(ref))
    assert load(ref, 8, key=key)[0, 0, 0] == 10
    path.write_bytes(png(20))  # the same size, in pixels
    with pytest.raises(OSError, match=r"/a\.png: its bytes changed since it was indexed; put the image back"):
        load(ref, 8, key=key)
    path.write_bytes(b"")
    with pytest.raises(OSError, match="changed since it was indexed"):
        load(ref, 8, key=key)
    assert [load(stimulus, 8, key=content_key(stimulus, b"")).shape for stimulus in listed("stimuli", 1)] == [
        (3, 31, 31)
    ]


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
@pytest.mark.parametrize("change", ["another image", "cut short"])
def test_an_image_in_an_archive_that_changed_is_not_loaded_as_what_it_was(
    tmp_path: Path, name: str, change: str
) -> None:
    pack = as_tar if name == "a.tar" else as_parquet
    (ref,) = listed(str(pack(tmp_path / name, {"a.png": png(1)})))
    key = content_key(ref, png(1))
    assert load(ref, 8, key=content_key(ref, read(ref)))[0, 0, 0] == 1
    parquet.forget()
    if change == "another image":
        pack(tmp_path / name, {"a.png": png(2)})
    else:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:520])
    with pytest.raises(OSError, match=rf"/{name} \(a\.png\): its bytes changed since it was indexed"):
        load(ref, 8, key=key)


def test_an_image_that_is_gone_and_one_that_is_none_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png: not found"):
        load(ref_of(tmp_path / "gone.png"), 8)
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    with pytest.raises(ImageError, match="not a JPEG"):
        load(ref_of(tmp_path / "page.jpg"), 8)


def test_the_choice_of_images_is_seeded_and_in_the_order_given() -> None:
    chosen = choose(200, 20, seed=3).tolist()
    assert chosen == choose(200, 20, seed=3).tolist() != choose(200, 20, seed=4).tolist()
    assert len(set(chosen)) == 20
    assert chosen == sorted(chosen)
    assert 100 < max(chosen) < 200


@pytest.mark.parametrize("at_most", [None, 5, 9])
def test_all_images_are_taken_where_there_are_no_more(at_most: int | None) -> None:
    assert choose(5, at_most, seed=0).tolist() == [0, 1, 2, 3, 4]
