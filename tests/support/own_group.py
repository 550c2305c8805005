"""The second example of docs/groups.md."""

import torch

from gc_core import groups
from gc_core.actions import Action


def colours_permuted() -> Action:
    """All orders of red, green and blue."""
    orders = [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1), (2, 1, 0), (1, 0, 2)]
    place = {order: g for g, order in enumerate(orders)}
    table = [[place[h[g[0]], h[g[1]], h[g[2]]] for h in orders] for g in orders]
    group = groups.from_table(table, name="S3", labels=["".join("RGB"[c] for c in order) for order in orders])
    return Action(group=group, act=lambda windows, side: torch.stack([windows[:, list(o)] for o in orders], 1))
