"""The records that an atlas page is made of, and the check that they agree with one another.

Letters: G group elements (rotations first, then mirrored), H W pixels, C colours.
"""

from dataclasses import dataclass

import numpy as np

from gc_core.families import Gap

_ELEMENTS_PER_TURN = {"dihedral": 2, "cyclic": 1, "trivial": 1, "table": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One patch on which a feature fires."""

    image_name: str
    """Name of the image, shown as text; may come from strangers."""
    value: float
    """Activation of the feature there, in the model's units."""
    patch_HWC: np.ndarray
    """uint8 (H, W, 3); all patches of one feature have one shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCard:
    """Everything that the page shows of one feature."""

    feature: int
    alive: bool
    """Dead features are counted and not shown."""
    density: float
    """Share of the samples on which it fires, 0..1."""
    family: int
    """Number of its family, -1 for none; a family is shown when at least two living features are in it."""
    pose: int
    """Group element by which this feature's stimulus is turned against that of the family's reference; of elements that
    look the same, the smallest."""
    symmetry: str
    """Class: "invariant", "mirror", "2-fold", "2-fold with mirrors", "chiral 4-fold", ..., "none", "undecided"."""
    stabiliser: str
    """Name of the subgroup, e.g. "D_32", "D_1", "C_2"."""
    axis_deg: float | None
    """A mirror axis, degrees anticlockwise from the right as displayed; None without one."""
    stabiliser_score: float
    """Mean self-similarity of the changing part over its stabiliser, 1 for exact symmetry."""
    stabiliser_weakest: float
    """The least of those similarities."""
    changing_stabiliser: str
    """Name of the changing part's stabiliser, whatever the words say."""
    invariant_share: float
    """Energy in the trivial irreducible representation, 0..1."""
    curve_G: np.ndarray
    """cos(W_dec[e], W_dec[g]), -1..1, (G,)."""
    self_similarity_G: np.ndarray
    """cos(D, rho(h) D), -1..1, (G,)."""
    block_norm_G: np.ndarray
    """||W_dec[g]||_2, any unit, (G,)."""
    spectrum: tuple[float, ...]
    """Energy share of each irreducible representation, in the order of `AtlasPage.irrep_labels`."""
    examples: list[Example]
    """Strongest first; where poses are tied, turned back into the prototype's pose."""
    stabiliser_interval: tuple[float, float] | None = None
    """95% interval of the score; None where there is no stabiliser, or an earlier version wrote the table."""
    stabiliser_p: float | None = None
    """p-value of the stabiliser's strength by chance; None as above."""
    pose_share_G: np.ndarray | None = None
    """Share of the samples that the prototype fires on in each pose, (G,); None where poses are not tied."""
    block_step_G: np.ndarray | None = None
    """|D[g r] - D[g]|, r the smallest rotation, any unit, (G,); None where poses are not tied."""
    gaps: tuple[Gap, ...] = ()
    """Orientations that its family leaves out."""
    label: str | None = None
    """Kind of the drawn stimulus that drives it most; None where none does, or none were shown."""
    stimulus: str = ""
    """That stimulus and how it was turned, in words; empty without a label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasPage:
    """One dictionary and what it was learned from."""

    title: str
    run_url: str
    crosscoder_name: str
    group_kind: str
    """One of "dihedral", "cyclic" and "trivial"; "table" for a group of the user's own."""
    group_n: int
    """Number of rotations, 1 for the trivial group; of elements for a group of the user's own."""
    backbone: str
    layer: str
    irrep_labels: list[str]
    facts: list[tuple[str, str]]
    """Pairs of name and value for the head of the page, e.g. ("held-out FVU", "0.42")."""
    notes: list[str]
    """Sentences a reader must know, e.g. what the trunk is not."""
    features: list[FeatureCard]
    element_labels: tuple[str, ...] = ()
    """Names of the elements of a group of the user's own, which may come from strangers; empty for others."""
    tied: bool = False
    """Whether the features are prototypes in tied poses, each of them a family."""

    @property
    def order(self) -> int:
        """Number of group elements, so of blocks a feature."""
        return self.group_n * _ELEMENTS_PER_TURN[self.group_kind]


def check_page(page: AtlasPage) -> None:
    """Raise ValueError, naming the field or the feature, where a page contradicts itself."""
    if page.group_kind not in _ELEMENTS_PER_TURN:
        raise ValueError(f"group_kind is {page.group_kind!r}, expected one of {', '.join(_ELEMENTS_PER_TURN)}.")
    if page.group_kind == "trivial" and page.group_n != 1:
        raise ValueError(f"group_n is {page.group_n}, expected 1 for the trivial group.")
    if page.group_kind == "table" and len(page.element_labels) != page.order:
        raise ValueError(f"element_labels are {len(page.element_labels)}, expected one of {page.order} elements each.")
    numbers = [card.feature for card in page.features]
    if len(set(numbers)) != len(numbers):
        repeated = min(number for number in numbers if numbers.count(number) > 1)
        raise ValueError(f"feature {repeated}: has more than one card, expected one; drop the copies.")
    for card in page.features:
        if card.alive:
            _check_curves(card, page)
            _check_patches(card)


def _check_curves(card: FeatureCard, page: AtlasPage) -> None:
    for name in ("curve_G", "self_similarity_G", "block_norm_G"):
        values_G = np.asarray(getattr(card, name))
        if values_G.shape != (page.order,):
            what = "elements" if page.group_kind == "table" else "rotations"
            expected = f"({page.order},) for the {page.group_kind} group with {page.group_n} {what}"
            raise ValueError(f"feature {card.feature}: {name} has shape {values_G.shape}, expected {expected}.")
        if not np.isfinite(values_G).all():
            raise ValueError(f"feature {card.feature}: {name} is not finite; fix it, or mark the feature dead.")
    if len(card.spectrum) != len(page.irrep_labels):
        found = f"{len(card.spectrum)} shares, irrep_labels has {len(page.irrep_labels)} names"
        raise ValueError(f"feature {card.feature}: spectrum has {found}; expected as many.")
    if not 0 <= card.pose < page.order:
        raise ValueError(f"feature {card.feature}: pose is {card.pose}, expected a group element 0..{page.order - 1}.")


def _check_patches(card: FeatureCard) -> None:
    shapes = {example.patch_HWC.shape for example in card.examples}
    if len(shapes) > 1:
        raise ValueError(f"feature {card.feature}: patches have shapes {sorted(shapes)}, expected one shape.")
    for example in card.examples:
        patch_HWC = example.patch_HWC
        if patch_HWC.dtype != np.uint8 or patch_HWC.ndim != 3 or patch_HWC.shape[2] != 3 or 0 in patch_HWC.shape:
            found = f"{patch_HWC.dtype} {patch_HWC.shape}"
            raise ValueError(f"feature {card.feature}: a patch is {found}, expected uint8 (H, W, 3).")
