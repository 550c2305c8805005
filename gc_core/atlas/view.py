"""What the template prints: cards sorted into families and symmetry classes, with words and SVG paths ready.

Letters: G group elements (rotations first, then mirrored).
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from gc_core.atlas import plots
from gc_core.atlas.legend import LegendPlot, legend_plots
from gc_core.atlas.records import AtlasPage, FeatureCard
from gc_core.families import Gap

NUM_OPEN_FAMILIES = 24
"""Families shown at once in the overview; the others stand behind one click."""
NUM_THUMBS = 24
"""Members shown in one overview card."""
SPECTRUM_HEIGHT = 300.0
"""Height of a spectrum bar that holds all the energy, in SVG units; bars stand 100 apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureView:
    """One feature, ready to print."""

    card: FeatureCard
    family: int
    """-1 also where the family has no other living member."""
    symmetry_class: int
    label_number: int
    """Place of its label among the page's; -1 without one."""
    strip: str
    """Path of the example strip from the page, empty without examples."""
    summary: str
    """The plots in words, for a reader who cannot see them."""
    pose: str
    stabiliser: tuple[str, str]
    """Letter and index, ("D", "32")."""
    changing: tuple[str, str] | None
    """The changing part's, where it is another."""
    curve_paths: list[str]
    """Rotations, and mirrored where the group has mirrors."""
    similarity_paths: list[str]
    norm_paths: list[str]
    axis_path: str
    spectrum_path: str
    elements: list["ElementBar"]
    """Of a group of the user's own, which has no angles."""
    pose_paths: list[str]
    """How often each pose occurs, of the most frequent one; none where poses are not tied."""
    step_paths: list[str]
    """How far the block moves from each pose to the next, of the farthest; none where poses are not tied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementBar:
    """One element of a group of the user's own, and what a feature says of it."""

    label: str
    curve: float
    """Cosine of the untransformed block with this element's, -1..1."""
    similarity: float
    """Cosine of the feature with itself, transformed, -1..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyView:
    """Members of one family in the order of their poses."""

    number: int
    symmetry: str
    """The most frequent symmetry among the members."""
    members: list[FeatureView]
    missing: str
    """Orientations that it leaves out, in words; empty where it leaves out none."""

    @property
    def strongest(self) -> float:
        """Largest activation among the members' examples."""
        return max((example.value for member in self.members for example in member.card.examples), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassView:
    """One symmetry class and how many living features are in it."""

    name: str
    count: int
    share: float
    """Count relative to the largest class's, 0..1: the length of the bar."""
    glyph_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageView:
    """Everything the template reads."""

    page: AtlasPage
    num_alive: int
    num_dead: int
    has_plots: bool
    has_angles: bool
    """Whether elements are rotations and mirrors, and plots go round a circle."""
    has_mirrors: bool
    classes: list[ClassView]
    labels: list[str]
    """Kinds of stimuli that drive some feature most, the most frequent first."""
    families: list[FamilyView]
    alone: list[FeatureView]
    rings: list[tuple[str, int]]
    legend: list[LegendPlot]
    num_open_families: int
    num_thumbs: int


def describe(page: AtlasPage) -> PageView:
    """Sort the living features of a page into families and classes; dead ones are counted."""
    living = sorted((card for card in page.features if card.alive), key=lambda card: card.feature)
    classes = _classes(living)
    names = [entry.name for entry in classes]
    sizes = Counter(card.family for card in living)
    labels = [label for label, _ in Counter(card.label for card in living if card.label is not None).most_common()]
    features = [_feature(card, page, names.index(card.symmetry), labels, sizes[card.family]) for card in living]
    return PageView(
        page=page,
        num_alive=len(living),
        num_dead=len(page.features) - len(living),
        has_plots=page.order > 1,
        has_angles=page.group_kind != "table",
        has_mirrors=page.group_kind == "dihedral",
        classes=classes,
        labels=labels,
        families=_families(features),
        alone=[feature for feature in features if feature.family < 0],
        rings=[(label, round(plots.ring_radius(cosine))) for label, cosine in (("0", 0.0), (".5", 0.5), ("1", 1.0))],
        legend=legend_plots(has_mirrors=page.group_kind == "dihedral"),
        num_open_families=NUM_OPEN_FAMILIES,
        num_thumbs=NUM_THUMBS,
    )


def strip_name(feature: int) -> str:
    """File name of a feature's strip of examples."""
    return f"f{feature}.jpg"


def _classes(living: list[FeatureCard]) -> list[ClassView]:
    """Most frequent first, "undecided" and "none" last; they are what is left over and no symmetry."""
    counts = Counter(card.symmetry for card in living)
    ordered = sorted(counts, key=lambda name: (name == "none", name == "undecided", -counts[name], name))
    largest = max(counts.values(), default=1)
    return [
        ClassView(name=name, count=counts[name], share=counts[name] / largest, glyph_path=plots.glyph_path(name))
        for name in ordered
    ]


def _families(features: list[FeatureView]) -> list[FamilyView]:
    """Largest first, then by the strongest activation."""
    members = defaultdict(list)
    for feature in features:
        if feature.family >= 0:
            members[feature.family].append(feature)
    families = [_family(number, group) for number, group in members.items()]
    return sorted(families, key=lambda family: (-len(family.members), -family.strongest, family.number))


def _family(number: int, members: list[FeatureView]) -> FamilyView:
    by_pose = sorted(members, key=lambda member: (member.card.pose, member.card.feature))
    symmetry, _ = Counter(member.card.symmetry for member in by_pose).most_common(1)[0]
    gaps = by_pose[0].card.gaps
    return FamilyView(number=number, symmetry=symmetry, members=by_pose, missing=", ".join(map(_gap, gaps)))


def _gap(gap: Gap) -> str:
    return f"{'mirrored, ' if gap.mirrored else ''}{gap.from_deg:.4g}° to {gap.to_deg:.4g}°"


def _feature(
    card: FeatureCard, page: AtlasPage, symmetry_class: int, labels: list[str], family_size: int
) -> FeatureView:
    stabiliser, changing = _letter(card.stabiliser), _letter(card.changing_stabiliser)
    norms = _halves(card.block_norm_G, page)
    largest = float(np.max(card.block_norm_G))
    return FeatureView(
        card=card,
        family=card.family if family_size > 1 else -1,
        symmetry_class=symmetry_class,
        label_number=-1 if card.label is None else labels.index(card.label),
        strip=f"examples/{strip_name(card.feature)}" if card.examples else "",
        summary=_summary(card, page),
        pose=words_of_pose(card.pose, page),
        stabiliser=stabiliser,
        changing=None if changing == stabiliser else changing,
        curve_paths=[plots.polar_path(half) for half in _halves(card.curve_G, page)],
        similarity_paths=[plots.polar_path(half) for half in _halves(card.self_similarity_G, page)],
        norm_paths=[plots.fringe_path(half, largest, row) for row, half in enumerate(norms)],
        axis_path="" if card.axis_deg is None else plots.axis_path(card.axis_deg),
        elements=_elements(card, page),
        spectrum_path=plots.bars_path(card.spectrum, pitch=100.0, height=SPECTRUM_HEIGHT),
        pose_paths=_relative(card.pose_share_G, page),
        step_paths=_relative(card.block_step_G, page),
    )


def _halves(values_G: np.ndarray, page: AtlasPage) -> list[np.ndarray]:
    """Rotations, then mirrored elements if the group has them."""
    return [values_G[start : start + page.group_n] for start in range(0, page.order, page.group_n)]


def _relative(values_G: np.ndarray | None, page: AtlasPage) -> list[str]:
    """Polar paths of numbers that are not negative, as shares of the largest."""
    if values_G is None:
        return []
    largest = max(float(np.max(values_G)), 1e-30)
    return [plots.polar_path(half / largest) for half in _halves(values_G, page)]


def _letter(name: str) -> tuple[str, str]:
    letter, _, index = name.partition("_")
    return letter, index


def words_of_pose(element: int, page: AtlasPage) -> str:
    """An element of the page's group for a person, as in `mirrored, 45°`: mirrored first, then turned anticlockwise. Of
    a group of the user's own it is the element's label."""
    if page.element_labels:
        return page.element_labels[element]
    turn = f"{360 * (element % page.group_n) / page.group_n:g}°"
    return f"mirrored, {turn}" if element >= page.group_n else turn


def _elements(card: FeatureCard, page: AtlasPage) -> list[ElementBar]:
    rows = zip(page.element_labels, card.curve_G.tolist(), card.self_similarity_G.tolist(), strict=False)
    return [ElementBar(label=label, curve=curve, similarity=similarity) for label, curve, similarity in rows]


def _summary(card: FeatureCard, page: AtlasPage) -> str:
    if page.element_labels:
        low, high = int(np.argmin(card.curve_G)), int(np.argmax(card.curve_G[1:])) + 1
        labels = page.element_labels
        ends = f"{card.curve_G[low]:.2f} at {labels[low]} to {card.curve_G[high]:.2f} at {labels[high]}"
        return f"Cosine of feature {card.feature}'s untransformed block with its other blocks: from {ends}."
    parts = []
    for name, half in zip(("rotated", "mirrored"), _halves(card.curve_G, page), strict=False):
        low, high = int(np.argmin(half)), int(np.argmax(half))
        step = 360 / page.group_n
        parts.append(f"{name} from {half[low]:.2f} at {low * step:g}° to {half[high]:.2f} at {high * step:g}°")
    return f"Cosine of feature {card.feature}'s untransformed block with its other blocks: {'; '.join(parts)}."
