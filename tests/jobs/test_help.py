"""Every job explains every option, in whole paragraphs."""

import importlib
import re

import pytest

JOBS = ("harvest", "ingest", "train", "analyse", "pipeline", "verify", "evaluate", "export")


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


def test_a_paragraph_is_not_broken_where_the_source_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module("jobs.train").main(["--help"])
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    assert "one (an SAE). (default: None)" in lines, "the source has a new line before SAE"
