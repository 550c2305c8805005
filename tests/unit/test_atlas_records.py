"""The atlas page as text: escaping, counts, order, and refusals. Letters: G group elements, H W pixels, C colours."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gc_core.atlas.build import sparsity
from gc_core.atlas.page import render, write_page
from gc_core.atlas.records import AtlasPage, Example, FeatureCard
from gc_core.config import TrainConfig
from gc_core.families import Gap
from support.invented_page import SHAPES, drawn_page

HOSTILE = "<script>alert(1)</script>.jpg"
FLOAT_EXAMPLE = Example(image_name="a", value=1.0, patch_HWC=np.zeros((4, 4, 3)))
BREAKING = """</script><img src=x onerror=alert(2)>"'&.png"""


@pytest.fixture(scope="module")
def page() -> AtlasPage:
    return drawn_page(num_features=24, num_rotations=8, num_examples=3)


class Tags(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def ids(self, tag: str) -> list[str]:
        return [str(attributes["id"]) for name, attributes in self.tags if name == tag and "id" in attributes]


def with_features(page: AtlasPage, **changes: object) -> AtlasPage:
    return replace(page, features=[replace(card, **changes) for card in page.features])


def trivial(page: AtlasPage) -> AtlasPage:
    cards = [
        replace(
            card, family=-1, pose=0, axis_deg=None, curve_G=np.ones(1), self_similarity_G=np.ones(1),
            block_norm_G=np.ones(1), spectrum=(1.0,),
        )
        for card in page.features
    ]  # fmt: skip
    return replace(page, group_kind="trivial", group_n=1, irrep_labels=["A"], features=cards)


def named(page: AtlasPage, *names: str) -> AtlasPage:
    examples = [Example(image_name=name, value=1.0, patch_HWC=np.zeros((9, 9, 3), np.uint8)) for name in names]
    return with_features(page, examples=examples)


def test_names_from_strangers_are_text_and_never_markup(page: AtlasPage):
    hostile = replace(named(page, HOSTILE, BREAKING), title=BREAKING, run_url=HOSTILE, facts=[(HOSTILE, BREAKING)])
    parsed = Tags(render(replace(hostile, notes=[HOSTILE], crosscoder_name=BREAKING, backbone=HOSTILE)))
    assert [name for name, _ in parsed.tags].count("script") == 1
    assert not [attributes for _, attributes in parsed.tags if any(key.startswith("on") for key in attributes)]
    assert HOSTILE in parsed.text
    assert BREAKING in parsed.text


def test_symmetry_words_and_stabiliser_names_are_escaped_too(page: AtlasPage):
    parsed = Tags(render(with_features(page, symmetry=HOSTILE, stabiliser=f"{HOSTILE}_{BREAKING}")))
    assert [name for name, _ in parsed.tags].count("script") == 1
    assert "x" not in [attributes.get("src") for _, attributes in parsed.tags]


def test_stimuli_are_shown_chosen_by_and_escaped(page: AtlasPage):
    every = {card.label for card in page.features if card.alive}
    assert None in every, "some features have no stimulus"
    shown = Tags(render(page))
    assert "best stimulus curve: white on black, at" in " ".join(shown.text.split())
    found = dict(
        re.findall(r'<option value="(\d+)">([^<]+)</option>', render(page).partition('<select id="label">')[2])
    )
    assert {*found.values()} == every - {None}
    articles = [attributes for name, attributes in shown.tags if name == "article"]
    by_number = {card.feature: card.label for card in page.features}
    for each in articles:
        assert found.get(str(each["data-l"])) == by_number[int(str(each["id"])[1:])]
    hostile = Tags(render(with_features(page, label=HOSTILE, stimulus=BREAKING)))
    assert [name for name, _ in hostile.tags].count("script") == 1
    assert HOSTILE in hostile.text
    assert BREAKING in hostile.text


def test_without_stimuli_nothing_is_offered_to_choose(page: AtlasPage):
    assert "label" not in Tags(render(with_features(page, label=None, stimulus=""))).ids("select")


def test_every_living_feature_has_one_article_and_dead_ones_are_only_counted(page: AtlasPage):
    parsed = Tags(render(page))
    living = [card.feature for card in page.features if card.alive]
    assert sorted(parsed.ids("article")) == sorted(f"f{number}" for number in living)
    assert "1 further feature is dead" in parsed.text
    assert f"f{len(living)}" not in parsed.ids("article")
    three = replace(page, features=[replace(card, alive=card.feature > 1) for card in page.features if card.alive])
    assert "2 further features are dead" in Tags(render(three)).text


def test_the_symmetry_table_counts_the_living_features(page: AtlasPage):
    rows = re.findall(r'<span class="name">([^<]+)</span>.*?<span class="count">(\d+)</span>', render(page), re.S)
    living = [card.symmetry for card in page.features if card.alive]
    assert {name: int(count) for name, count in rows} == {name: living.count(name) for name in set(living)}


def test_features_that_cannot_be_told_from_chance_come_before_those_without_symmetry(page: AtlasPage):
    words = ["none", "none", "undecided", "mirror"]
    cards = [replace(card, symmetry=words[card.feature % 4]) for card in page.features]
    names = re.findall(r'<span class="name">([^<]+)</span>', render(replace(page, features=cards)))
    assert names == ["mirror", "undecided", "none"]


def test_strength_is_shown_with_its_interval_and_p_where_they_are_known(page: AtlasPage):
    known = {"stabiliser_score": 0.91, "stabiliser_interval": (0.876, 0.934), "stabiliser_p": 0.0012}
    assert "score 0.91 (0.88 to 0.93, p 0.0012), weakest" in Tags(render(with_features(page, **known))).text
    assert "score 0.91, weakest" in Tags(render(with_features(page, stabiliser_score=0.91))).text


def test_families_come_by_size_and_their_members_by_pose(page: AtlasPage):
    parsed = Tags(render(page))
    families = [card.family for card in page.features if card.alive and card.family >= 0]
    order = [int(name.removeprefix("family")) for name in parsed.ids("section") if name.startswith("family")]
    sizes = [families.count(number) for number in order]
    assert sizes == sorted(sizes, reverse=True)
    assert set(order) == {number for number in families if families.count(number) > 1}
    first = sorted((card for card in page.features if card.family == order[0]), key=lambda card: card.pose)
    assert parsed.ids("article")[: len(first)] == [f"f{card.feature}" for card in first]


def test_a_family_whose_other_members_are_dead_is_no_family(page: AtlasPage):
    cards = [replace(card, family=5, alive=card.feature == 0) for card in page.features]
    parsed = Tags(render(replace(page, features=cards)))
    assert parsed.ids("section") == ["alone"]
    assert "family5" not in render(replace(page, features=cards))


def test_a_family_says_which_orientations_it_leaves_out(page: AtlasPage):
    gaps = (Gap(from_deg=67.5, to_deg=135.0, mirrored=False), Gap(from_deg=0.0, to_deg=360.0, mirrored=True))
    left_out = "no member from 67.5° to 135°, mirrored, 0° to 360°"
    assert left_out not in Tags(render(page)).text
    assert left_out in Tags(render(with_features(page, gaps=gaps))).text


def test_equally_large_families_come_by_their_strongest_example(page: AtlasPage):
    def card(feature: int, family: int, value: float) -> FeatureCard:
        example = Example(image_name="a.png", value=value, patch_HWC=np.zeros((9, 9, 3), np.uint8))
        return replace(page.features[0], feature=feature, family=family, examples=[example])

    cards = [card(0, 3, 1.0), card(1, 3, 2.0), card(2, 8, 5.0), card(3, 8, 0.5)]
    assert Tags(render(replace(page, features=cards))).ids("section") == ["family8", "family3"]


def test_the_page_refers_to_nothing_outside_its_folder(page: AtlasPage, tmp_path: Path):
    html = write_page(page, tmp_path).read_text(encoding="utf-8")
    assert not re.findall(r"(?:https?:)?//[a-z]", html)
    links = [str(value) for _, attrs in Tags(html).tags for key, value in attrs.items() if key in ("src", "href")]
    files = {link for link in links if not link.startswith(("#", "data:,"))}
    assert files == {f"examples/f{card.feature}.jpg" for card in page.features if card.alive}
    assert all((tmp_path / file).is_file() for file in files)


def test_every_link_within_the_page_has_its_target(page: AtlasPage):
    parsed = Tags(render(page))
    targets = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    links = {str(attributes.get("href")) for _, attributes in parsed.tags}
    assert {link[1:] for link in links if link.startswith("#")} <= targets


def test_a_strip_holds_the_examples_side_by_side(page: AtlasPage, tmp_path: Path):
    card = page.features[0]
    write_page(page, tmp_path)
    strip_HWC = np.asarray(Image.open(tmp_path / "examples" / f"f{card.feature}.jpg"), dtype=float)
    expected_HWC = np.concatenate([example.patch_HWC for example in card.examples], axis=1).astype(float)
    assert strip_HWC.shape == expected_HWC.shape
    assert np.abs(strip_HWC - expected_HWC).mean() < 8  # JPEG
    assert np.abs(strip_HWC[:, ::-1] - expected_HWC).mean() > 12


def test_writing_again_removes_strips_that_are_no_longer_shown_and_nothing_else(page: AtlasPage, tmp_path: Path):
    write_page(page, tmp_path)
    (tmp_path / "examples" / "notes.txt").write_text("mine")
    write_page(replace(page, features=page.features[:2]), tmp_path)
    assert {path.name for path in (tmp_path / "examples").iterdir()} == {"f0.jpg", "f1.jpg", "notes.txt"}
    assert {path.name for path in tmp_path.iterdir()} == {"examples", "index.html"}


def test_a_plain_autoencoder_has_features_and_no_plots(page: AtlasPage):
    parsed = Tags(render(trivial(page)))
    assert len(parsed.ids("article")) == sum(card.alive for card in page.features)
    assert not [attributes for _, attributes in parsed.tags if "polar" in str(attributes.get("class"))]
    assert "sparse autoencoder" in parsed.text


def test_a_cyclic_group_has_one_line_a_plot(page: AtlasPage):
    half = page.group_n
    cards = [
        replace(
            card, curve_G=card.curve_G[:half], self_similarity_G=card.self_similarity_G[:half],
            block_norm_G=card.block_norm_G[:half], pose=card.pose % half,
        )
        for card in page.features
    ]  # fmt: skip
    classes = [attributes.get("class") for _, attributes in Tags(
        render(replace(page, group_kind="cyclic", features=cards))
    ).tags]  # fmt: skip
    assert "curve h0" in classes
    assert "curve h1" not in classes


def test_a_page_without_a_living_feature_still_opens(page: AtlasPage):
    assert Tags(render(with_features(page, alive=False))).ids("article") == []


def test_drawn_shapes_have_the_symmetry_they_claim():
    page = drawn_page(num_features=40, num_rotations=16, num_examples=1)
    quarter = page.group_n // 4
    for card in page.features[:-1]:
        r_G = card.self_similarity_G
        assert sum(card.spectrum) == pytest.approx(1.0, abs=1e-9)
        assert r_G[0] == pytest.approx(1.0, abs=1e-12)
        assert (r_G[2 * quarter] > 0.7) == (card.symmetry not in ("mirror", "none"))
        assert (r_G[quarter] > 0.7) == (card.symmetry in ("invariant", "4-fold with mirrors"))
        assert (r_G[page.group_n :].max() > 0.7) == (card.symmetry != "none")
        if card.axis_deg is not None:
            mirrored = page.group_n + round((2 * card.axis_deg - 180) % 360 / (360 / page.group_n)) % page.group_n
            assert r_G[mirrored] > 0.7
    assert {card.symmetry for card in page.features} == {symmetry for _, symmetry, _, _ in SHAPES.values()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curve_G": np.zeros(5)}, r"feature 0: curve_G has shape \(5,\), expected \(16,\)"),
        ({"self_similarity_G": np.full(16, np.nan)}, "feature 0: self_similarity_G is not finite"),
        ({"spectrum": (1.0,)}, "feature 0: spectrum has 1 shares"),
        ({"pose": 16}, r"feature 0: pose is 16, expected a group element 0\.\.15"),
        ({"examples": [FLOAT_EXAMPLE]}, "feature 0: a patch is float64"),
    ],
)
def test_a_card_that_contradicts_its_page_is_refused_by_name(page: AtlasPage, changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        render(with_features(page, **changes))


def test_two_cards_of_one_feature_are_refused(page: AtlasPage):
    with pytest.raises(ValueError, match="feature 1: has more than one card"):
        render(replace(page, features=[*page.features, page.features[1]]))


def test_an_unknown_group_is_refused_and_leaves_no_file(page: AtlasPage, tmp_path: Path):
    with pytest.raises(ValueError, match="group_kind is 'spherical'"):
        write_page(replace(page, group_kind="spherical"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_thousand_features_of_64_blocks_stay_under_six_megabytes():
    page = drawn_page(num_features=12, num_rotations=32, num_examples=9)
    living = page.features[:-1]
    many = [replace(living[number % len(living)], feature=number, family=number // 6) for number in range(1000)]
    assert len(render(replace(page, features=many)).encode()) < 6_000_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "topk", "k": 8}, "top-k 8"),
        ({"activation": "batchtopk", "k": 8}, "batch top-k 8"),
        ({"activation": "jumprelu", "jumprelu_coefficient": 3.84}, "JumpReLU 3.84, norm over joint"),
        ({"activation": "l1", "l1_coefficient": 3.5, "norm_over": "blocks"}, "L1 3.5, norm over blocks"),
    ],
)
def test_the_page_names_the_activation_that_was_trained(options: dict[str, object], words: str) -> None:
    assert sparsity({**TrainConfig().to_json(), **options}) == words
