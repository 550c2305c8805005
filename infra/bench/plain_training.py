"""The plain training step that ours is compared with: dense codes, dense products, Adam tensor by tensor.

It shares no code with the library: float32, `torch.topk` over all features, codes scattered into (B, F), the whole
decoder multiplied, and `torch.optim.Adam(foreach=False)` over all weights.

Letters: B samples, G group elements, E of them that the encoder reads, C channels, F features, K active features.
"""

import torch
from torch import Tensor


class PlainTraining:
    """A top-k crosscoder that reads the first blocks, as many as its encoder has, and its optimiser."""

    def __init__(self, weights: dict[str, Tensor], k: int, learning_rate: float) -> None:
        """`weights` are W_enc (F, E, C), b_enc (F,), W_dec (F, G, C) and b_dec (G, C), all changed in place."""
        self._k = k
        self._W_enc, self._b_enc, self._W_dec, self._b_dec = (
            weights[name].requires_grad_() for name in ("W_enc", "b_enc", "W_dec", "b_dec")
        )
        parameters = [self._W_enc, self._b_enc, self._W_dec, self._b_dec]
        self._optimiser = torch.optim.Adam(parameters, lr=learning_rate, foreach=False)

    def step(self, acts_BGC: Tensor) -> Tensor:
        """One step; the loss before it, 0-dim."""
        read_BEC = acts_BGC[:, : self._W_enc.shape[1]]
        pre_BF = read_BEC.flatten(1) @ self._W_enc.flatten(1).T + self._b_enc
        norm_F = self._W_dec.detach().flatten(1).norm(dim=1)
        index_BK = (pre_BF.detach() * norm_F).topk(self._k, dim=1).indices
        z_BF = torch.zeros_like(pre_BF).scatter(1, index_BK, pre_BF.gather(1, index_BK).relu())
        recon_BGC = (z_BF @ self._W_dec.flatten(1)).view_as(acts_BGC) + self._b_dec
        loss = (recon_BGC - acts_BGC).square().sum((1, 2)).mean()
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return loss.detach()
