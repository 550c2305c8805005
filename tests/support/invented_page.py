"""An invented dictionary of drawn shapes with known symmetries: the atlas page without a run, for tests and for a look.

`python tests/support/invented_page.py FOLDER` writes the page.

Letters: G group elements, C channels, P pixels, H W pixels.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gc_core.atlas.page import write_page
from gc_core.atlas.records import AtlasPage, Example, FeatureCard
from gc_core.groups import Group, dihedral

Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]

PATCH_PX = 59
_BLOCK_PX = 15


def _disc(x_P: np.ndarray, y_P: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x_P, y_P) - 0.5) - 0.13


def _bar(_: np.ndarray, y_P: np.ndarray) -> np.ndarray:
    return np.abs(y_P) - 0.16


def _arc(x_P: np.ndarray, y_P: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x_P, y_P + 0.55) - 0.75) - 0.13


def _cross(x_P: np.ndarray, y_P: np.ndarray) -> np.ndarray:
    return np.minimum(np.abs(x_P), np.abs(y_P)) - 0.13


def _spiral(x_P: np.ndarray, y_P: np.ndarray) -> np.ndarray:
    turn_P = np.arctan2(y_P, x_P) / (2 * np.pi) % 1
    return np.abs(np.hypot(x_P, y_P) - 0.15 - 0.5 * turn_P) - 0.1


LABELS = {"disc": "colour-spot", "bar": "bar", "arc": "curve", "spiral": "spiral"}
"""The stimuli that drive such features; no drawn one is a cross."""

SHAPES: dict[str, tuple[Shape, str, str, float | None]] = {
    "disc": (_disc, "invariant", "D_{n}", None),
    "bar": (_bar, "2-fold with mirrors", "D_2", 0.0),
    "arc": (_arc, "mirror", "D_1", 90.0),
    "cross": (_cross, "4-fold with mirrors", "D_4", 0.0),
    "spiral": (_spiral, "none", "C_1", None),
}
"""Signed distance (negative inside; coordinates right and up, -1..1), symmetry, stabiliser, mirror axis in degrees."""


def drawn_page(*, num_features: int = 40, num_rotations: int = 32, num_examples: int = 9, seed: int = 0) -> AtlasPage:
    """A page of `num_features` living features in families of mixed sizes, and one dead feature after them."""
    group = dihedral(num_rotations)
    rng = np.random.default_rng(seed)
    blocks = {name: _blocks(shape, group) for name, (shape, *_) in SHAPES.items()}
    plan = _plan(num_features, group, rng)
    cards = [_card(number, *row, blocks, group, num_examples, rng) for number, row in enumerate(plan)]
    return AtlasPage(
        title="Shapes that turn",
        run_url="drawn, without a run",
        crosscoder_name=f"drawn-{num_features}",
        group_kind="dihedral",
        group_n=num_rotations,
        backbone="none",
        layer="pixels",
        irrep_labels=[irrep.label for irrep in group.irreps()],
        facts=[("images", "drawn"), ("group", f"D{num_rotations}")],
        notes=["Every shape here is drawn and every curve computed from the drawing; no network was involved."],
        features=[*cards, _dead(num_features, group)],
    )


def _plan(num_features: int, group: Group, rng: np.random.Generator) -> list[tuple[str, int, int]]:
    """(shape, family, pose) of every feature; sizes vary, and every seventh group has no family."""
    plan: list[tuple[str, int, int]] = []
    names = list(SHAPES)
    family = 0
    while len(plan) < num_features:
        name = names[int(rng.integers(len(names)))] if family >= len(names) else names[family]
        size = 1 if name == "disc" else int(rng.integers(2, 14))
        poses = rng.choice(group.order, size=size, replace=False)
        plan += [(name, -1 if size == 1 or family % 7 == 6 else family, int(pose)) for pose in poses]
        family += 1
    return plan[:num_features]


def _blocks(shape: Shape, group: Group) -> np.ndarray:
    """The shape under every group element, as zero-mean windowed pixels; (G, C)."""
    x_P, y_P = _grid(_BLOCK_PX)
    window_P = np.exp(-2.5 * (x_P**2 + y_P**2))
    drawn = [_ink(shape, x_P, y_P, matrix) for matrix in group.matrices]
    blocks_GC = np.stack([(ink_P - ink_P.mean()) * window_P for ink_P in drawn])
    return blocks_GC / np.linalg.norm(blocks_GC, axis=1, keepdims=True)


def _card(
    number: int,
    name: str,
    family: int,
    pose: int,
    blocks: dict[str, np.ndarray],
    group: Group,
    num_examples: int,
    rng: np.random.Generator,
) -> FeatureCard:
    shape, symmetry, stabiliser, axis_deg = SHAPES[name]
    noise_GC = 0.35 * rng.uniform() * rng.normal(size=blocks[name].shape) / np.sqrt(blocks[name].shape[1])
    blocks_GC = blocks[name][group.cayley[:, pose]] * rng.uniform(0.85, 1.15, (group.order, 1)) + noise_GC
    products_GG = blocks_GC @ blocks_GC.T
    norm_G = np.sqrt(np.diag(products_GG))
    spectrum = _spectrum(blocks_GC, group)
    matrix = group.matrices[pose]
    values = np.sort(rng.gamma(9.0, 0.5, num_examples))[::-1]
    return FeatureCard(
        feature=number,
        alive=True,
        density=float(rng.beta(1, 60)),
        family=family,
        pose=pose,
        symmetry=symmetry,
        stabiliser=stabiliser.format(n=group.order // 2),
        axis_deg=None if axis_deg is None else _turned_axis(axis_deg, matrix),
        stabiliser_score=float(rng.uniform(0.8, 0.99)),
        stabiliser_weakest=0.75,
        changing_stabiliser=stabiliser.format(n=group.order // 2),
        invariant_share=spectrum[0],
        curve_G=products_GG[0] / (norm_G[0] * norm_G),
        self_similarity_G=_right_translations(products_GG, group),
        block_norm_G=norm_G,
        spectrum=spectrum,
        examples=[
            Example(image_name=f"{name}-{number}-{rank}.png", value=float(value), patch_HWC=_patch(shape, matrix, rng))
            for rank, value in enumerate(values)
        ],
        label=LABELS.get(name),
        stimulus=f"{LABELS[name]}: white on black, at {360 * pose / group.n % 360:.4g}°" if name in LABELS else "",
    )


def _dead(number: int, group: Group) -> FeatureCard:
    zeros_G = np.zeros(group.order)
    return FeatureCard(
        feature=number,
        alive=False,
        density=0.0,
        family=-1,
        pose=0,
        symmetry="none",
        stabiliser="C_1",
        axis_deg=None,
        stabiliser_score=0.0,
        stabiliser_weakest=0.0,
        changing_stabiliser="C_1",
        invariant_share=0.0,
        curve_G=zeros_G,
        self_similarity_G=zeros_G,
        block_norm_G=zeros_G,
        spectrum=tuple(0.0 for _ in group.irreps()),
        examples=[],
    )


def _spectrum(blocks_GC: np.ndarray, group: Group) -> tuple[float, ...]:
    """Plancherel energy shares, in the order of `group.irreps()`."""
    energies = [
        irrep.dim / group.order * np.sum(np.abs(np.einsum("gc,gij->cij", blocks_GC, irrep.matrices)) ** 2)
        for irrep in group.irreps()
    ]
    return tuple(float(energy / np.sum(blocks_GC**2)) for energy in energies)


def _patch(shape: Shape, matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The shape after `matrix`, in two random colours under a soft light; uint8 (H, W, 3)."""
    x_P, y_P = _grid(PATCH_PX)
    ground, ink = rng.uniform(60, 220, 3), rng.uniform(0, 255, 3)
    if abs(ground.mean() - ink.mean()) < 70:
        ink = np.where(ground > 128, ground - 95, ground + 95)
    coverage_P1 = _ink(shape, x_P, y_P, matrix)[:, None]
    light_P1 = 1 + 0.25 * (rng.uniform(-1, 1) * x_P + rng.uniform(-1, 1) * y_P)[:, None]
    colours_PC = (ground * (1 - coverage_P1) + ink * coverage_P1) * light_P1 + rng.normal(0, 7, (len(x_P), 3))
    return np.clip(colours_PC, 0, 255).astype(np.uint8).reshape(PATCH_PX, PATCH_PX, 3)


def _ink(shape: Shape, x_P: np.ndarray, y_P: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Coverage 0..1 of the shape after `matrix` moved it: the shape is asked where each point came from."""
    from_P2 = np.stack([x_P, y_P], axis=1) @ matrix
    return 1 / (1 + np.exp(np.clip(shape(from_P2[:, 0], from_P2[:, 1]) / 0.03, -30, 30)))


def _turned_axis(axis_deg: float, matrix: np.ndarray) -> float:
    x, y = matrix @ np.array([np.cos(np.deg2rad(axis_deg)), np.sin(np.deg2rad(axis_deg))])
    return float(np.rad2deg(np.arctan2(y, x)) % 180)


def _grid(side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Right and up coordinates -1..1 of every pixel, row by row."""
    steps = np.linspace(-1, 1, side_px)
    y_HW, x_HW = np.meshgrid(-steps, steps, indexing="ij")
    return x_HW.ravel(), y_HW.ravel()


def _right_translations(products_GG: np.ndarray, group: Group) -> np.ndarray:
    """cos(D, rho(h) D) of every h, from the products of the blocks with one another."""
    elements_G = np.arange(group.order)
    sums_G = np.array([products_GG[elements_G, group.cayley[:, h]].sum() for h in range(group.order)])
    return sums_G / np.trace(products_GG)


if __name__ == "__main__":
    sys.stdout.write(f"{write_page(drawn_page(num_features=120), Path(sys.argv[1]))}\n")
