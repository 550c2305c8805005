"""Figures of the documentation: drawn of results, over nothing but earlier figures, and of what they say they show."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infra.figures import __main__ as figures
from infra.figures import chance, linear, manifolds, separation

HARMONICS = [[0.2, 0.1, 0.3], [0.4, 0.3, 0.5], [0.1, 0.1, 0.2], [0.1, 0.0, 0.1]]


def separated(kind: str, *, control: bool, rand_index: float | None = 0.1) -> dict[str, Any]:
    stimuli = {"curve": {"features": 3, "harmonics": HARMONICS}, "line": {"features": 0}}
    return {
        "kind": kind,
        "seed": 0,
        "control": control,
        "silhouette": 0.2,
        "rand_index": rand_index,
        "stimuli": stimuli,
    }


def told(layer: str, *, exact: bool) -> dict[str, Any]:
    return {"layer": layer, "exact": exact, "own": 0.9, "powers": 0.7, "refined": 0.8, "same": -0.1, "dealt": 0.0}


def shaped(kind: str, k: int) -> dict[str, Any]:
    return {"kind": kind, "k": k, "seed": 0, "shapes": {"circle": 0.9, "line": 0.5}}


RESULTS: list[tuple[str, Callable[[list[str]], None], list[dict[str, Any]]]] = [
    ("separation", separation.main, [separated("untied", control=False), separated("untied", control=True)]),
    ("separation", separation.main, [separated("tied", control=False, rand_index=None)]),
    ("linear", linear.main, [told("conv1", exact=True), told("conv1", exact=False), told("conv3", exact=True)]),
    ("manifolds", manifolds.main, [shaped("tied", 4), shaped("sae", 4), shaped("sae", 12), shaped("saelens", 4)]),
]


@pytest.mark.parametrize(("name", "main", "rows"), RESULTS)
def test_results_become_a_figure_and_a_figure_its_successor(
    name: str, main: Callable[[list[str]], None], rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    source, out = tmp_path / "results.json", tmp_path / "figure.png"
    source.write_text(json.dumps(rows))
    for _ in range(2):
        main(["--json", str(source), "--out", str(out)])
        assert np.asarray(Image.open(out).convert("L")).std() > 5, name


@pytest.mark.parametrize(("name", "main", "rows"), RESULTS)
def test_what_is_no_result_is_refused_in_one_line(
    name: str,
    main: Callable[[list[str]], None],
    rows: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, out = tmp_path / "results.json", tmp_path / "figure.png"
    lacking = [{key: value for key, value in rows[0].items() if key != next(iter(rows[0]))}]
    for content, line in (
        (None, "not found"),
        ("{", "is no JSON"),
        ("[]", "no list of results"),
        (json.dumps(lacking), f"without {next(iter(rows[0]))}"),
    ):
        if content is not None:
            source.write_text(content)
        with pytest.raises(SystemExit) as ended:
            main(["--json", str(source), "--out", str(out)])
        said = " ".join("".join(capsys.readouterr()).split())
        assert ended.value.code == 1
        assert line in said
        assert f"python -m infra.bench {name} --json" in said
        assert not out.exists()


@pytest.mark.parametrize(("file", "line"), [("notes.png", "was not drawn by this program"), ("figure.txt", "ends in")])
def test_other_files_are_not_written_over(
    file: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / file).write_text("mine")
    source = tmp_path / "results.json"
    source.write_text(json.dumps([shaped("tied", 4)]))
    with pytest.raises(SystemExit):
        manifolds.main(["--json", str(source), "--out", str(tmp_path / file)])
    assert line in " ".join("".join(capsys.readouterr()).split())
    assert (tmp_path / file).read_text() == "mine"


def test_the_figure_of_chance_shows_what_its_caption_says() -> None:
    planted, none, few, necessary = chance.judged(60, seed=1)
    assert planted.strength_F.min() > chance.THRESHOLD
    assert planted.p_F.max() <= 0.001
    assert none.strength_F.max() < chance.THRESHOLD
    assert (few.strength_F > chance.THRESHOLD).any()
    assert (few.p_F[few.strength_F > chance.THRESHOLD] > 0.005).all()
    assert necessary.strength_F.min() > 0.9
    assert necessary.p_F.min() == 1
    for kind in (none, few):  # as often below 0.05 and 0.2 as chance allows: 60 features, so up to 8 and 21 in 99.9%
        assert (kind.p_F <= 0.05).sum() <= 9
        assert (kind.p_F <= 0.2).sum() <= 22


def test_the_figure_of_chance_is_drawn(tmp_path: Path) -> None:
    chance.main(["--features", "8", "--out", str(tmp_path / "chance.svg")])
    assert b"<svg" in (tmp_path / "chance.svg").read_bytes()


def test_figures_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        figures.main([])
    said = capsys.readouterr().out
    assert all(name in said for name in figures.FIGURES)
