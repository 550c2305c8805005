"""The orbit-tied crosscoder from its equations: Python loops over samples, prototypes and poses, no Fourier transform.

It shares no code with the project but the group's table of products.

Letters: B samples, G group elements, C channels, P prototypes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from gc_core.crosscoder import OrbitCrosscoder


def turned(blocks_GC: Tensor, h: int, model: OrbitCrosscoder) -> Tensor:
    """rho(h) D: block g is D's block g h."""
    return torch.stack([blocks_GC[model.group.cayley[g, h]] for g in range(model.group.order)])


def rows(model: OrbitCrosscoder, name: str) -> list[Tensor]:
    """(G, C) of each prototype; an invariant one has the mean of its blocks in all of them."""
    number = model.shape.invariant
    return [
        row.mean(0).repeat(model.group.order, 1) if p < number else row for p, row in enumerate(getattr(model, name))
    ]


def pre_activations(model: OrbitCrosscoder, acts_GC: Tensor) -> Tensor:
    """(P, H) of one sample: <rho(h) E_p, A - b> + b_p."""
    found = [
        torch.stack([(turned(E, h, model) * (acts_GC - model.b_dec)).sum() + b for h in range(model.group.order)])
        for E, b in zip(rows(model, "W_enc"), model.b_enc, strict=True)
    ]
    return torch.stack(found)


def best(model: OrbitCrosscoder, pre_PH: Tensor) -> Iterator[tuple[int, int]]:
    """Each prototype and its best pose; an invariant one has none but the first."""
    for p, pre_H in enumerate(pre_PH):
        yield p, 0 if p < model.shape.invariant else int(pre_H.argmax())


def chosen(model: OrbitCrosscoder, pre_PH: Tensor) -> list[tuple[int, int]]:
    """The k prototypes of the largest positive pre-activation times decoder norm, with their poses."""
    scores = [((pre_PH[p, h] * model.W_dec[p].norm()).item(), p, h) for p, h in best(model, pre_PH)]
    return [(p, h) for score, p, h in sorted(scores, reverse=True)[: model.shape.k] if score > 0]


def pursued(model: OrbitCrosscoder, pre_PH: Tensor, p: int) -> list[tuple[int, Tensor]]:
    """Poses of one prototype and their values: what one explains is taken off all before the next is chosen."""
    unit = model.W_dec[p].detach() / model.W_dec[p].detach().norm()
    left_H, found = pre_PH[p], []
    for number in range(1 if p < model.shape.invariant else model.shape.poses):
        h = int(left_H.argmax()) if number or p >= model.shape.invariant else 0
        value = left_H[h].relu()
        if found and value <= 1e-3 * found[0][1]:
            break
        found.append((h, value))
        alike_H = torch.stack(
            [(turned(unit, other, model) * turned(unit, h, model)).sum() for other in range(model.group.order)]
        )
        others_H = torch.arange(model.group.order) != h
        left_H = torch.where(others_H, left_H - value * alike_H, -torch.inf)
    return found


def code(model: OrbitCrosscoder, acts_GC: Tensor) -> list[tuple[int, int, Tensor]]:
    """Prototype, pose and value of what is active (topk)."""
    pre_PH = pre_activations(model, acts_GC)
    return [(p, h, value) for p, _ in chosen(model, pre_PH) for h, value in pursued(model, pre_PH, p)]


def decoded(model: OrbitCrosscoder, active: list[tuple[int, int, Tensor]]) -> Tensor:
    """(G, C), without the bias."""
    decoders = rows(model, "W_dec")
    parts = [value * turned(decoders[p], h, model) for p, h, value in active]
    return torch.stack(parts).sum(0) if parts else torch.zeros_like(model.W_dec[0])


def reconstruction(model: OrbitCrosscoder, active: list[tuple[int, int, Tensor]]) -> Tensor:
    """(G, C)"""
    return model.b_dec + decoded(model, active)
