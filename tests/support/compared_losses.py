"""What losses are compared by: samples, gradients by the name of a parameter, and equality to eight digits.

Letters: B samples, G group elements, C channels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gc_core.crosscoder import GroupCrosscoder


def samples(count: int = 8) -> Tensor:
    """(B, 4, 6) random activations."""
    return torch.randn(count, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def gradients(model: GroupCrosscoder, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    names, weights = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss(), weights), strict=True))


def same(left: object, right: object) -> None:
    torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-8)
