"""The page of a sweep says what its rows are, escapes every name, and stands alone; the table and the laws are kept."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np

from gc_core import groups, leftovers
from gc_core.analyse import faults_of_artefacts
from gc_core.io import parquet
from gc_core.io.json_objects import parse_json
from gc_core.io.run_folder import RunFolder
from gc_core.sweep.fits import FAMILIES_AGAINST_SIZE, FVU_AGAINST_L0, FVU_AGAINST_SIZE, fits_of
from gc_core.sweep.folder import read_costs, write_report
from gc_core.sweep.laws import PowerLaw, TooFew
from gc_core.sweep.page import SweepPage, render
from gc_core.sweep.table import Cost, Row, to_table
from support.small_runs import MakeRun

HOSTILE = '<script>alert("1")</script>&$x^2$'


def row(size: int, **changes: Any) -> Row:
    fvu = 3 * size**-0.3
    usual: dict[str, Any] = {
        "name": f"s-topk-{size}",
        "state": "trained",
        "group": "D_8",
        "tying": "none",
        "activation": "topk",
        "encoder_reads": "identity",
        "k": 8,
        "dict_size": size,
        "steps": 40,
        "samples": 2560,
        "held_out_fvu": fvu,
        "held_out_fvu_low": fvu * 0.9,
        "held_out_fvu_high": fvu * 1.1,
        "l0": 8.0,
        "dead_share": 0.01,
        "flop": 1e9 * size,
        "wall_s": 10.0,
        "device_s": 20.0,
        "samples_per_s": 256.0,
    }
    return Row(**{**usual, **changes})


THREE = [row(256), row(512), row(1024)]
FAILED = Row(name="s k=9", state="failed", why="k: found 9, expected at most 8")


def page(*rows: Row, **changes: Any) -> str:
    usual: dict[str, Any] = {"name": "s", "run_url": "file:///r", "device": "CPU core", "footer": "f"}
    return render(SweepPage(**{**usual, "rows": rows, **changes}))


def test_the_page_tells_every_crosscoder_its_law_and_its_failures() -> None:
    text = page(*THREE, FAILED)
    for said in ("s-topk-256", "3 trained, 1 failed", "k: found 9, expected at most 8", "D_8 untied, top-k 8"):
        assert said in text
    assert "0.3 <small>0.3 to 0.3</small>" in text
    assert text.count("<svg ") == 2  # against size and compute; all have one L0, and none was analysed


def test_without_enough_sizes_the_page_says_so() -> None:
    text = page(*THREE[:2])
    assert "too few to fit a law: 2 found, at least 3 different ones expected" in text
    assert text.count("<svg ") == 2
    assert "<svg " not in page(THREE[0])
    assert "<svg " not in page(FAILED)


def test_what_has_no_logarithm_is_in_the_table_alone() -> None:
    rows = [row(512, l0=float(x), k=x + 1, families=0, name=f"s-{x}") for x in range(4)]
    assert [fit.x for fit in fits_of(rows, FVU_AGAINST_L0)] == [(1, 2, 3)]
    assert fits_of(rows, FAMILIES_AGAINST_SIZE) == []
    assert all(f"s-{x}" in page(*rows) for x in range(4))


def test_names_are_text_wherever_they_stand() -> None:
    hostile = [row(size, name=HOSTILE, group=HOSTILE, why=HOSTILE) for size in (256, 512, 1024)]
    text = page(*hostile, name=HOSTILE, run_url=HOSTILE, footer=HOSTILE)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_the_page_refers_to_nothing_outside_itself() -> None:
    text = page(*THREE, row(256, k=16, l0=16.0, name="s-topk-256-k16", held_out_fvu=0.2))
    assert "default-src 'none'" in text
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    for svg in re.findall(r"<svg .*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)
        assert "#010203" not in svg


def test_only_finished_ones_make_a_line() -> None:
    rows = [*THREE, row(2048, state="stopped"), row(4096, held_out_fvu=None), FAILED]
    (fit,) = fits_of(rows, FVU_AGAINST_SIZE)
    assert fit.x == (256, 512, 1024)
    assert isinstance(fit.law, PowerLaw)
    assert fits_of(rows, FAMILIES_AGAINST_SIZE) == []


def test_what_differs_but_by_size_is_another_line() -> None:
    kinds = [{"k": 16}, {"group": "trivial"}, {"tying": "orbit"}, {"encoder_reads": "all"}, {"activation": "batchtopk"}]
    lines = fits_of([row(256), *(row(256, **each) for each in kinds)], FVU_AGAINST_SIZE)
    assert [fit.series for fit in lines] == [
        "D_8 untied, top-k 8",
        "D_8 untied, top-k 16",
        "SAE, top-k 8",
        "D_8 tied, top-k 8",
        "D_8 untied, reads all, top-k 8",
        "D_8 untied, batch top-k 8",
    ]
    by_k = fits_of([row(256, k=k, l0=float(k)) for k in (4, 8)], FVU_AGAINST_L0)
    assert [(fit.series, fit.x, fit.law) for fit in by_k] == [
        ("D_8 untied, top-k, 256 features", (4.0, 8.0), TooFew(found=2))
    ]


def test_the_table_has_the_same_types_whatever_is_unknown() -> None:
    assert to_table([FAILED]).schema == to_table(THREE).schema
    assert to_table(THREE)["dict_size"].to_pylist() == [256, 512, 1024]


def written(run: RunFolder) -> Path:
    costs = {"s-topk-256": Cost(wall_s=2.0, device_s=4.0, samples=100)}
    write_report(run, "s", [*THREE, FAILED], costs, device="CPU core", footer="f")
    return run.sweep("s").local_path


def test_the_report_is_whole_and_known_to_the_checks_of_the_run(make_run: MakeRun) -> None:
    run = make_run(np.ones((40, 4, 3), np.float32), groups.cyclic(4))
    folder = written(run)
    assert read_costs(run, "s") == {"s-topk-256": Cost(wall_s=2.0, device_s=4.0, samples=100)}
    assert parquet.parse((folder / "crosscoders.parquet").read_bytes()).num_rows == 4
    fits = parse_json((folder / "fits.json").read_bytes(), "fits")["fits"]
    assert [each["against"] for each in fits] == ["features F", "training FLOP", "active features L0"] + 2 * [
        "active features L0"
    ]
    assert list(faults_of_artefacts(run)) == []
    verdicts = leftovers.survey(run, older_than_s=0)
    assert {each.kind for each in verdicts if each.found.name.startswith("sweeps/")} == {"needed"}


def test_damage_to_the_report_is_found_with_the_command_that_mends_it(make_run: MakeRun) -> None:
    run = make_run(np.ones((40, 4, 3), np.float32), groups.cyclic(4))
    (written(run) / "index.html").write_text("other")
    (fault,) = faults_of_artefacts(run)
    assert "index.html" in fault
    assert "python -m jobs.sweep --run" in fault


def test_costs_add_up() -> None:
    one = Cost(wall_s=1.0, device_s=2.0, samples=3)
    assert one.plus(one) == Cost(wall_s=2.0, device_s=4.0, samples=6)
