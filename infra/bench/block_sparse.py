"""A plain block-sparse featurizer, and an oracle that is given its blocks, beside which group crosscoders are judged.

After the description of the vanilla one in Fel et al. 2026 (arXiv 2606.25234): a linear encoder, the k blocks of
largest norm are kept with their signs, a linear decoder.

Letters: B samples, P blocks, D directions of a block, C channels, K blocks kept.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class BlockSparse(torch.nn.Module):
    """z_p = x W_p + b_p, kept where |z_p| is among the k largest; xhat = sum_p z_p D_p + b."""

    def __init__(self, blocks: int, directions: int, k: int, first_BC: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        self.k, channels = k, first_BC.shape[1]
        frame_PCD = torch.linalg.qr(torch.randn(blocks, channels, directions, generator=generator)).Q
        self.W_dec = torch.nn.Parameter(frame_PCD.transpose(1, 2).contiguous())
        self.W_enc = torch.nn.Parameter(frame_PCD.contiguous())
        self.b_enc = torch.nn.Parameter(torch.zeros(blocks, directions))
        self.b_dec = torch.nn.Parameter(first_BC.mean(0))

    def encode(self, acts_BC: Tensor) -> Tensor:
        """(B, P, D), zero where a block is not kept."""
        z_BPD = torch.einsum("bc,pcd->bpd", acts_BC - self.b_dec, self.W_enc) + self.b_enc
        norm_BP = z_BPD.square().sum(2)
        kept_BK = norm_BP.topk(self.k, dim=1).indices
        return z_BPD * torch.zeros_like(norm_BP).scatter_(1, kept_BK, 1.0)[:, :, None]

    def parts(self, z_BPD: Tensor) -> Tensor:
        """(B, P, C) what each block adds."""
        return torch.einsum("bpd,pdc->bpc", z_BPD, self.W_dec)

    def forward(self, acts_BC: Tensor) -> Tensor:
        """(B, C)."""
        return self.encode(acts_BC).flatten(1) @ self.W_dec.flatten(0, 1) + self.b_dec


def train_blocks(model: BlockSparse, batches: Iterable[Tensor], steps: int, learning_rate: float) -> None:
    """One Adam step a batch (B, C) on the squared error; directions keep norm 1, and the rate falls over the last
    fifth."""
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for step, acts_BC in enumerate(batches):
        optimiser.param_groups[0]["lr"] = learning_rate * min(1.0, 5 * (steps - step) / steps)
        optimiser.zero_grad()
        (model(acts_BC) - acts_BC).square().sum(1).mean().backward()
        optimiser.step()
        with torch.no_grad():
            model.W_dec.copy_(torch.nn.functional.normalize(model.W_dec, dim=2))


def pursue(acts_BC: Tensor, frame_PDC: Tensor, k: int) -> Tensor:
    """(B, P, C) what each of some known subspaces adds: k are chosen one after the other, each time the one that holds
    most of what is left, and all chosen ones are fitted together again."""
    left_BC, chosen_BK = acts_BC, acts_BC.new_zeros(len(acts_BC), 0, dtype=torch.int64)
    part_BKC = acts_BC.new_zeros(len(acts_BC), 0, acts_BC.shape[1])
    for _ in range(k):
        held_BP = torch.einsum("bc,pdc->bpd", left_BC, frame_PDC).square().sum(2)
        held_BP.scatter_(1, chosen_BK, -1.0)
        chosen_BK = torch.cat([chosen_BK, held_BP.argmax(1, keepdim=True)], 1)
        part_BKC = fitted(acts_BC, frame_PDC[chosen_BK])
        left_BC = acts_BC - part_BKC.sum(1)
    return placed(chosen_BK, part_BKC, len(frame_PDC))


def fitted(acts_BC: Tensor, frame_BKDC: Tensor) -> Tensor:
    """(B, K, C) least squares on the rows of K subspaces together; rows of zeros get nothing."""
    shape = frame_BKDC.shape
    rows_BNC = frame_BKDC.flatten(1, 2)
    gram_BNN = rows_BNC @ rows_BNC.transpose(1, 2)
    ridge_NN = 1e-6 * torch.eye(rows_BNC.shape[1])
    coefficient_BN1 = torch.linalg.solve(gram_BNN + ridge_NN, rows_BNC @ acts_BC[:, :, None])
    return (coefficient_BN1 * rows_BNC).view(shape).sum(2)


def placed(chosen_BK: Tensor, part_BKC: Tensor, num_blocks: int) -> Tensor:
    """(B, P, C) parts at the places of their blocks."""
    whole_BPC = part_BKC.new_zeros(len(part_BKC), num_blocks, part_BKC.shape[2])
    return whole_BPC.scatter_(1, chosen_BK[:, :, None].expand_as(part_BKC), part_BKC)
