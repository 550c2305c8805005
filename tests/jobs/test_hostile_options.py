"""Every option of every job takes a hostile value: it is used, or refused in one line that names it. No traceback, no
hang."""

import dataclasses
import importlib
import math
import os
import random
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gc_core import groups
from gc_core.backbones import weights
from gc_core.config import AnalyseConfig, Config, HarvestConfig, TrainConfig
from gc_core.images import moved, patterns, sources
from gc_core.images.url_list import listed
from gc_core.ingest import IngestConfig
from gc_core.io import location
from gc_core.io.location import Location
from gc_core.train.checkpoint import Keep
from jobs.common import cluster
from jobs.common.console import printable
from jobs.common.errors import in_one_line
from jobs.common.options import Cache, Workers

MISTAKE = "an unexpected error"
NUMBERS = (0, -1, 1, 2, 10**23, -(10**23), 2**63, 2**63 - 1, 2**64, 10**400, 10**5000, 5e-324, 1e308, 0.1)
FLOATS = (math.nan, math.inf, -math.inf)
TEXTS = (
    *("", " ", "\t", "~nouser-here/x", "~", "\x00", "a\x00b", "a\nb", "\x1b[2J", "x" * 100_000, "/" * 5000, "é" * 300),
    *("[", "]", "***", "[z-a].tar", "[]", "**/" * 40 + "x", "{0..99999999999999999999}", "{a,b}" * 2000, "{" * 200),
    *("//[x", "s3://", "s3://[x", "s3:///x", "s3://b/a\nb", "http://x/y", "file://host/x", "file:", "C:\\x", "..", "."),
    *("/etc/passwd", "/dev/zero", "/dev/null", "/etc", "\u202eabc", "\ud800", "日本", "--", "-1", "1e5", "nan"),
    *("random:", "random:-1", "random:" + "9" * 400, "0,0", ",", "1,", "²", "٣", "9" * 5000, "1,2,3", "None", "null"),
    *("D0", "D٣", "C-1", "D99999999", "D2049", "D" + "9" * 5000, "trivial", "C1", "=", "a=b", "a=", "~nouser-here=b"),
)
RECORDS: dict[type, dict[str, Any]] = {
    HarvestConfig: {},
    TrainConfig: {},
    AnalyseConfig: {},
    IngestConfig: {"activations": "/a.npy", "group": "C4"},
    Workers: {},
    Cache: {},
    Keep: {},
}
JOBS = {
    "harvest": ["--out", "/nowhere"],
    "ingest": ["--out", "/nowhere", "--activations", "/nowhere.npy", "--group", "C4"],
    "train": ["--run", "/nowhere"],
    "analyse": ["--run", "/nowhere"],
    "pipeline": ["--out", "/nowhere"],
    "verify": ["/nowhere"],
    "evaluate": ["--run", "/nowhere"],
    "export": ["--run", "/nowhere", "--name", "a", "--format", "hub", "--out", "/nowhere"],
}


def assert_used_or_refused(call: Callable[[], object], about: str) -> str:
    """The line of a refusal, which is one and names no mistake of ours; empty where there was none."""
    try:
        call()
    except (ValueError, OSError) as error:
        line = printable(in_one_line(error))
        assert line, about
        assert MISTAKE not in line, f"{about}: {line!r}"
        assert "integer string conversion" not in line, f"{about}: {line!r}"
        return line
    return ""


def hostile(kind: Any) -> Iterator[Any]:
    """Values of a type, or a tuple's."""
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    for each in options:
        if get_origin(each) is Literal:
            yield from (text for text in TEXTS if text not in get_args(each))
        elif each is int:
            yield from (value for value in NUMBERS if isinstance(value, int))
        elif each is float:
            yield from (*NUMBERS, *FLOATS)
        elif each is str:
            yield from TEXTS
        elif get_origin(each) is tuple:
            yield from ((value,) for value in hostile(get_args(each)[0]))


@pytest.mark.parametrize("kind", RECORDS)
def test_every_field_is_used_or_refused_by_name(kind: type) -> None:
    tried = 0
    for name, hint in get_type_hints(kind).items():
        if name not in {field.name for field in dataclasses.fields(kind)}:
            continue
        for value in hostile(hint):
            made = {**RECORDS[kind], name: value}
            line = assert_used_or_refused(lambda made=made: kind(**made), f"{kind.__name__}.{name} {hint}")
            assert not line or name in line or name == "folder" or "location" in line, line
            tried += 1
    assert tried > 20


@pytest.mark.parametrize("kind", [HarvestConfig, TrainConfig, AnalyseConfig, IngestConfig])
def test_every_number_of_a_config_has_a_bound(kind: type[Config]) -> None:
    """Control: a field that is added without one is found here."""
    numbers = {
        name
        for name, hint in get_type_hints(kind).items()
        if {int, float} & {hint, *get_args(hint)} and name != "LATER"
    }
    assert numbers - {"LATER", "BOUNDS"} == kind.BOUNDS.keys()


@pytest.mark.parametrize(
    "read",
    [
        Location.parse,
        location.local_path,
        weights.weight_file,
        groups.parse,
        lambda text: moved.parse((text,)),
        lambda text: [patterns.matcher(pattern) for pattern in patterns.expand_braces(text)],
        lambda text: list(listed([text], Location.parse("file:///lists"))),
        lambda text: TrainConfig(encoder_reads=text).elements_read(64),
        lambda text: TrainConfig(matryoshka=text).prefix_sizes(64),
        lambda text: weights.random_kernels((), f"random:{text}"),
    ],
)
def test_every_text_is_read_or_refused(read: Callable[[str], object]) -> None:
    @given(st.one_of(st.sampled_from(TEXTS), st.text(max_size=40), st.text("~/[]{}*?.,-0129:s3fileDC_= \\\x00\n")))
    @settings(max_examples=200)
    def check(text: str) -> None:
        assert_used_or_refused(lambda: read(text), repr(text[:60]))

    check()
    for text in TEXTS:
        assert_used_or_refused(lambda text=text: read(text), repr(text[:60]))


@pytest.mark.parametrize("text", [text for text in TEXTS if not text.startswith("s3://") and text not in ("/etc", "~")])
def test_every_place_of_images_is_looked_at_or_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But folders of this machine, of whatever size."""
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    if set(text) != {"/"}:
        assert_used_or_refused(lambda: sources.list_images(text, stimulus_px=64, max_stimuli=4), repr(text[:60]))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("pipe", "pipe.jpg"):
        pipe = str(tmp_path / name)
        assert "weight file" in assert_used_or_refused(lambda pipe=pipe: weights.weight_file(pipe), name)
        line = assert_used_or_refused(lambda pipe=pipe: sources.list_images(pipe, stimulus_px=64, max_stimuli=4), name)
        assert "pipe" in line


@pytest.mark.parametrize("job", JOBS)
def test_every_job_ends_in_one_line(
    job: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the command line takes them: one value an option, drawn with a fixed seed."""

    def reached(*_: object, **__: object) -> None:
        raise ValueError("reached the cluster")

    monkeypatch.setattr(cluster, "connect", reached)
    module = importlib.import_module(f"jobs.{job}")
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        module.main(["--help"])
    names = sorted({word for word in capsys.readouterr().out.split() if word.startswith("--")} - {"--help"})
    assert len(names) >= 2
    draw = random.Random(job)
    for name in names:
        value = draw.choice([*map(str, NUMBERS[:9]), *TEXTS])
        with pytest.raises(SystemExit) as end:
            module.main([*JOBS[job], f"{name.rstrip(',')}={value}"])
        said = capsys.readouterr().out.strip()
        assert end.value.code in (1, 2), name
        assert MISTAKE not in said, f"{name}={value!r:.60}: {said}"
        assert end.value.code == 2 or len(said.splitlines()) == 1, f"{name}={value!r:.60}: {said}"
