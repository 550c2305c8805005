"""The invented page as if its group were a user's own: elements have labels and no angles."""

from dataclasses import replace

from gc_core.atlas.records import AtlasPage
from support.invented_page import drawn_page

WORDS = {"none": "none", "invariant": "invariant"}


def table_page(*, num_rotations: int = 8, labels: tuple[str, ...] | None = None, num_features: int = 20) -> AtlasPage:
    """The page of `drawn_page` over a table of the same products; `labels` of its elements, or r0, r1, ..., m0, ..."""
    page = drawn_page(num_features=num_features, num_rotations=num_rotations)
    named = labels or tuple(f"{'m' if g >= num_rotations else 'r'}{g % num_rotations}" for g in range(page.order))
    cards = [
        replace(
            card,
            axis_deg=None,
            stabiliser="H_2a",
            changing_stabiliser="H_2a",
            symmetry=WORDS.get(card.symmetry, "subgroup of order 2"),
            label=None,
            stimulus="",
        )
        for card in page.features
    ]
    return replace(page, group_kind="table", group_n=page.order, element_labels=named, features=cards)
