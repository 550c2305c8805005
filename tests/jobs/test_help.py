"""Every job explains every option, in whole paragraphs."""

import importlib
import re

import pytest

JOBS = ("harvest", "ingest", "train", "analyse", "pipeline", "verify", "clean", "plan", "evaluate", "export", "sweep")


@pytest.mark.parametrize("job", JOBS)
def test_every_option_is_explained(
    job: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"jobs.{job}").main(["--help"])
    assert end.value.code == 0
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    options = re.split(r"\n(?=--[a-z])", "\n".join(lines))[1:]
    assert options
    for option in options:
        words = re.sub(r"\(default: [^)]*\)|\(required\)|\W", " ", option).split()
        assert len(words) > 3, option


@pytest.mark.parametrize(("job", "option"), [("train", "--steps-before"), ("pipeline", "--train.steps-before")])
def test_what_is_not_for_the_command_line_is_no_option(
    job: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for args in (["--help"], [option, "3", *(["--run", "a"] if job == "train" else ["--out", "a"])]):
        with pytest.raises(SystemExit) as end:
            importlib.import_module(f"jobs.{job}").main(args)
        told = capsys.readouterr()
        assert end.value.code == (0 if args == ["--help"] else 2)
        assert "steps-before" not in told.out
    assert "nrecognized" in told.err


def test_a_paragraph_is_not_broken_where_the_source_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module("jobs.train").main(["--help"])
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    assert "one (an SAE). (default: None)" in lines, "the source has a new line before SAE"
