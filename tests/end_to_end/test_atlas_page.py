"""The atlas in a real browser, opened from disk: plots are drawn, choosing and sorting work, the console is silent."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from gc_core.atlas.page import write_page
from gc_core.atlas.records import AtlasPage
from support.invented_page import drawn_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-logging=stderr",
    "--window-size=1200,1600",
    "--virtual-time-budget=3000",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium: none of {', '.join(NAMES)} on PATH, CHROMIUM not set"),
]

MEASURE = """
const curves = [...document.querySelectorAll("article .main .curve")];
const lengths = curves.map((path) => path.getTotalLength());
report({num: curves.length, shortest: Math.min(...lengths), longest: Math.max(...lengths)});
"""
CHOOSE = """
const button = document.querySelector('.classes button');
button.click();
const visible = () => [...document.querySelectorAll("article")].filter((a) => !a.hidden).map((a) => a.id).sort();
const chosen = visible();
const count = document.getElementById("count").value;
button.click();
report({name: button.querySelector(".name").textContent, chosen, count, after: visible().length});
"""
CHOOSE_STIMULUS = """
const select = document.getElementById("label");
const number = [...select.options].find((each) => each.textContent === "curve").value;
const change = (value) => { select.value = value; select.dispatchEvent(new Event("change")); };
change(number);
const chosen = [...document.querySelectorAll("article")].filter((a) => !a.hidden).map((a) => a.id).sort();
document.getElementById("show-all").click();
report({chosen, box: select.value, after: document.querySelectorAll("article:not([hidden])").length});
"""
SORT = """
const order = document.getElementById("order");
const ids = () => [...document.querySelectorAll("article")].map((a) => a.id);
const change = (value) => { order.value = value; order.dispatchEvent(new Event("change")); return ids(); };
const before = ids();
report({density: change("density"), score: change("score"), number: change("number"), same:
  JSON.stringify(change("family")) === JSON.stringify(before)});
"""
POINT = """
const plot = document.querySelector("#f0 .main");
plot.scrollIntoView();
const box = plot.getBoundingClientRect();
const at = (dx, dy) => {
  const [clientX, clientY] = [box.left + box.width * (0.5 + dx), box.top + box.height * (0.5 - dy)];
  plot.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX, clientY}));
  return document.querySelector("#f0 .readout").textContent;
};
report({right: at(0.3, 0), up: at(0, 0.3)});
"""
SEARCH_THEN_FOLLOW = """
const number = document.getElementById("number");
number.value = "3";
number.dispatchEvent(new Event("input"));
const found = [...document.querySelectorAll("article:not([hidden])")].map((a) => a.id);
location.hash = "#f0";
window.addEventListener("hashchange", () => setTimeout(() => report({found, hidden:
  document.getElementById("f0").hidden, focused: document.activeElement.id, box: number.value})));
"""
LOOK = """
const seen = (element) => element.getClientRects().length > 0;
const articles = [...document.querySelectorAll("article")];
report({controls: seen(document.querySelector(".controls")), articles: articles.filter(seen).length,
  drawn: articles.filter((a) => a.querySelector(".main .curve").getTotalLength() > 0).length});
"""
IMAGE = """
const image = document.querySelector("article .strip img");
image.loading = "eager";
image.decode().then(() => report({width: image.naturalWidth, height: image.naturalHeight}));
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What the browser held and said after one visit."""

    dom: str
    console: list[str]

    def report(self) -> dict[str, Any]:
        """What a probe reported."""
        found = re.search(r'data-probe="([^"]*)"', self.dom)
        assert found, f"the probe did not report; console: {self.console}"
        return json.loads(unescape(found.group(1)))


@pytest.fixture(scope="module")
def page() -> AtlasPage:
    return drawn_page(num_features=14, num_rotations=8, num_examples=3)


@pytest.fixture(scope="module")
def opened(page: AtlasPage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(page, tmp_path_factory.mktemp("atlas"))


def visit(path: Path, profile: Path, *flags: str, fragment: str = "") -> Visit:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", "--dump-dom", path.as_uri() + fragment]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Visit(dom=done.stdout, console=[line for line in done.stderr.splitlines() if "CONSOLE" in line])


def probe(path: Path, script: str, profile: Path) -> dict[str, Any]:
    """Visit a copy of the page whose policy lets one more script run, after the page's own."""
    report = "const report = (found) => { document.documentElement.dataset.probe = JSON.stringify(found); };"
    html = re.sub(r"script-src [^\"]*", "script-src 'unsafe-inline'", path.read_text(encoding="utf-8"), count=1)
    copy = path.with_name("probed.html")
    copy.write_text(html.replace("</body>", f"<script>{report}{{{script}}}</script></body>"), encoding="utf-8")
    seen = visit(copy, profile)
    assert seen.console == []
    return seen.report()


def test_the_page_opens_from_disk_and_its_console_stays_silent(page: AtlasPage, opened: Path, tmp_path: Path):
    seen = visit(opened, tmp_path)
    assert seen.console == []
    assert f'data-ready="{len(page.features) - 1}"' in seen.dom


def test_a_broken_page_would_be_noticed(opened: Path, tmp_path: Path):
    broken = opened.with_name("broken.html")
    text = opened.read_text(encoding="utf-8")
    broken.write_text(text.replace("</body>", "<script>alert(1)</script></body>"), encoding="utf-8")
    seen = visit(broken, tmp_path)
    assert "Content Security Policy" in " ".join(seen.console)  # a foreign script is refused, and the log says so


def test_every_plot_is_drawn(page: AtlasPage, opened: Path, tmp_path: Path):
    measured = probe(opened, MEASURE, tmp_path)
    assert measured["num"] == 2 * (len(page.features) - 1)
    assert 300 < measured["shortest"] <= measured["longest"] < 8000


def test_images_load(page: AtlasPage, opened: Path, tmp_path: Path):
    height, width, _ = page.features[0].examples[0].patch_HWC.shape
    assert probe(opened, IMAGE, tmp_path) == {"width": 3 * width, "height": height}


def test_a_symmetry_can_be_chosen_and_let_go(page: AtlasPage, opened: Path, tmp_path: Path):
    chosen = probe(opened, CHOOSE, tmp_path)
    living = page.features[:-1]
    expected = {f"f{card.feature}" for card in living if card.symmetry == chosen["name"]}
    assert chosen["chosen"] == sorted(expected)
    assert chosen["count"] == f"{len(expected)} of {len(living)} features"
    assert chosen["after"] == len(living)


def test_one_kind_of_stimulus_can_be_chosen(page: AtlasPage, opened: Path, tmp_path: Path):
    seen = probe(opened, CHOOSE_STIMULUS, tmp_path)
    curves = sorted(f"f{card.feature}" for card in page.features if card.label == "curve")
    assert seen == {"chosen": curves, "box": "", "after": len(page.features) - 1}
    assert 0 < len(curves) < len(page.features) - 1


def test_features_can_be_sorted_and_put_back(page: AtlasPage, opened: Path, tmp_path: Path):
    order = probe(opened, SORT, tmp_path)
    living = page.features[:-1]
    assert order["density"] == [f"f{card.feature}" for card in sorted(living, key=lambda card: -card.density)]
    assert order["score"] == [f"f{card.feature}" for card in sorted(living, key=lambda card: -card.stabiliser_score)]
    assert order["number"] == [f"f{card.feature}" for card in living]
    assert order["same"] is True


def test_pointing_at_a_plot_reads_its_cosines(page: AtlasPage, opened: Path, tmp_path: Path):
    read = probe(opened, POINT, tmp_path)
    for text, turn, degrees in ((read["right"], 0, 0), (read["up"], 2, 90)):
        rotated, mirrored = page.features[0].curve_G[[turn, page.group_n + turn]]
        found = re.fullmatch(r"(\d+)°: rotated ([\d.−]+), mirrored ([\d.−]+)", str(text))
        assert found, text
        values = [float(value.replace("−", "-")) for value in found.groups()]
        assert values == pytest.approx([degrees, rotated, mirrored], abs=0.011)


def test_a_deep_link_undoes_the_search_that_hid_its_target(opened: Path, tmp_path: Path):
    followed = probe(opened, SEARCH_THEN_FOLLOW, tmp_path)
    assert followed == {"found": ["f3"], "hidden": False, "focused": "f0", "box": ""}


def test_without_its_script_the_page_shows_features_and_plots_and_no_dead_controls(opened: Path, tmp_path: Path):
    bare = opened.with_name("bare.html")
    bare.write_text(
        re.sub(r"<script>.*?</script>", "", opened.read_text(encoding="utf-8"), flags=re.S), encoding="utf-8"
    )
    with_script, without = probe(opened, LOOK, tmp_path / "with"), probe(bare, LOOK, tmp_path / "without")
    assert with_script["controls"] is True
    assert without == {**with_script, "controls": False}
    assert with_script["articles"] == with_script["drawn"] != 0


def test_a_plain_autoencoder_opens_too(page: AtlasPage, tmp_path: Path):
    cards = [
        replace(
            card,
            family=-1,
            pose=0,
            curve_G=card.curve_G[:1],
            self_similarity_G=card.self_similarity_G[:1],
            block_norm_G=card.block_norm_G[:1],
            spectrum=(1.0,),
        )
        for card in page.features
    ]
    plain = replace(page, group_kind="trivial", group_n=1, irrep_labels=["A"], features=cards)
    seen = visit(write_page(plain, tmp_path / "atlas"), tmp_path / "profile")
    assert seen.console == []
    assert f'data-ready="{len(page.features) - 1}"' in seen.dom
