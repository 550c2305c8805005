"""With GC_LOG_JSON all that a job says is one JSON object a line."""

import json
from datetime import datetime

import pytest

from jobs.common import console


def test_each_piece_of_news_is_an_object_with_time_run_and_kind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(console.RUN_ID, "night-1")
    console.say("one [bold]line[/] \x1b[31m")
    console.summary("ended", [("where", "s3://bucket/run")])
    console.table("sizes", ["name", "n"], [["a", "1"]])
    with console.progress("harvest", 2, "samples") as meter:
        meter.set(2)
    with pytest.raises(SystemExit), console.one_line_errors(remedy=""):
        raise ValueError("k: found 0, expected 1 or more")
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["kind"] for each in said] == ["news", "summary", "table", "news", "error"]
    assert {each["run"] for each in said} == {"night-1"}
    assert all(datetime.fromisoformat(each["time"]).tzinfo for each in said)
    assert said[0]["text"] == "one [bold]line[/] \x1b[31m"
    assert said[1]["rows"] == [["where", "s3://bucket/run"]]
    assert "k: found 0" in said[-1]["text"]


def test_without_it_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("plain")
    assert capsys.readouterr().out == "plain\n"
