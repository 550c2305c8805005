"""The neighbours of a dictionary's features: ours, and every pair at every pose.

Both find those of some features among all; seconds are for all features, so many times those for some. The features are
turned copies of others with noise, smooth over rotation and with few strong directions of channels, as learned ones
are; or, `random`, without any structure, where no bound is tight and every pair is compared.

Letters: F features, G group elements, C channels, B some features.
"""

import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from gc_core.crosscoder import StoredDecoder
from gc_core.crosscoder.correlations import real_representations
from gc_core.families import MOST_NEIGHBOURS, Source, blocks, family_similarity, nearest, sketched
from gc_core.groups import Group
from gc_core.symmetry import translate
from infra.bench.visits import Peak

LEAST, INVARIANT_SHARE = 0.5, 0.9
PLAIN_ROWS, PLAIN_COLUMNS, AT_ONCE = 16, 512, 512
MEMBERS, NOISE = 16, 0.5
"""Members of a family; and norm of a member's own part, where what it shares has 1."""


def write_decoder(path: Path, group: Group, channels: int, num_features: int, *, random: bool) -> None:
    """Write a decoder in half precision, made a few features at a time."""
    generator = torch.Generator().manual_seed(0)
    decoder = torch.empty(num_features, group.order, channels, dtype=torch.float16)
    order = torch.randperm(num_features, generator=generator)
    for some in order.split(AT_ONCE):
        decoder[some] = _features(group, channels, len(some), generator, random).half()
    save_file({"W_dec": decoder}, path)


def ours(path: Path, group: Group, peak: Peak) -> float:
    """Seconds for all features, from one block of them; reading all and sketching them, once, among these."""
    source = _source(path, group)
    start = time.perf_counter()
    known = sketched(source)
    middle = time.perf_counter()
    rows = blocks(len(source.features))[0]
    nearest(rows, known, least_similarity=LEAST, most=MOST_NEIGHBOURS)
    peak.look()
    return middle - start + (time.perf_counter() - middle) * len(source.features) / len(rows)


def plainly(path: Path, group: Group, peak: Peak) -> float:
    """The same, every pose of a few features times all others."""
    source = _source(path, group)
    start = time.perf_counter()
    mine_BGC = source.read(source.features[:PLAIN_ROWS])
    posed = torch.cat([translate(mine_BGC, int(h), group) for h in group.inverse]).flatten(1)
    for first in range(0, len(source.features), PLAIN_COLUMNS):
        others = source.read(source.features[first : first + PLAIN_COLUMNS]).flatten(1)
        (posed @ others.T).view(group.order, len(mine_BGC), -1).max(0)
    peak.look()
    return (time.perf_counter() - start) * len(source.features) / len(mine_BGC)


def share_kept(path: Path, group: Group) -> float:
    """Share of similar enough pairs, of one block's first features with all others, that ours finds."""
    source = _source(path, group)
    rows = range(min(64, len(source.features)))
    neighbours = nearest(rows, sketched(source), least_similarity=LEAST, most=len(source.features))
    kept = set(zip(neighbours.first_E.tolist(), neighbours.second_E.tolist(), strict=True))
    true = [pair for first in range(0, len(source.features), PLAIN_COLUMNS) for pair in _true(source, rows, first)]
    return sum(pair in kept for pair in true) / max(len(true), 1)


def _true(source: Source, rows: range, first: int) -> list[tuple[int, int]]:
    mine_BGC, others = source.read(source.features[: len(rows)]), source.features[first : first + PLAIN_COLUMNS]
    similarity, _ = family_similarity(mine_BGC, source.read(others), source.group, invariant_share=INVARIANT_SHARE)
    pairs = torch.nonzero(similarity > LEAST).tolist()
    return [(one, place + first) for one, place in pairs if one != place + first]


def _source(path: Path, group: Group) -> Source:
    stored = StoredDecoder(path)
    return Source(group=group, read=stored.rows, features=np.arange(stored.shape[0]), invariant_share=INVARIANT_SHARE)


def _features(group: Group, channels: int, count: int, generator: torch.Generator, random: bool) -> Tensor:
    """(count, G, C), `MEMBERS` of each family."""
    if random:
        return torch.randn(count, group.order, channels, generator=generator)
    originals = _smooth(group, channels, -(-count // MEMBERS), generator)
    pose = torch.randint(group.order, (MEMBERS,), generator=generator).tolist()
    copies = torch.cat([translate(originals, h, group) for h in pose])[:count]
    return copies + NOISE * _smooth(group, channels, count, generator)


def _smooth(group: Group, channels: int, count: int, generator: torch.Generator) -> Tensor:
    """Features of norm one: less of a representation the faster it turns, of a channel direction the later it is."""
    white = torch.randn(count, group.order, channels, generator=generator)
    directions = torch.linalg.qr(torch.randn(channels, channels, generator=torch.Generator().manual_seed(1))).Q
    white = (white / torch.arange(1, channels + 1) ** 0.75) @ directions
    smooth_FGC = torch.zeros_like(white)
    for number, each in enumerate(real_representations(group), 1):
        matrices = torch.from_numpy(each.matrices).float().flatten(1)
        smooth_FGC += (each.weight / number) * (matrices @ (matrices.T @ white))
    return torch.nn.functional.normalize(smooth_FGC.flatten(1), dim=1).view_as(smooth_FGC)
