"""A feature that never fires begins anew, along what the dictionary leaves unexplained of one sample.

Letters: N features and a sample for each, G group elements, E elements that the encoder reads, C channels.
"""

import torch
from torch import Tensor

from gc_core.crosscoder import GroupCrosscoder

SHARE_EXPLAINED = 0.25
"""How much of its sample's residual a feature explains at first. With a whole one it also fires in every sample that is
a little like its own, in place of features that explain these better, and training diverges."""
LEAST_NORM = 1e-9


@torch.no_grad()
def begin_anew(
    model: GroupCrosscoder, features_N: Tensor, acts_NGC: Tensor, residual_NGC: Tensor, norm: Tensor
) -> None:
    """Give features (numbers of those here) the direction of a residual each, to decode to and to encode by.

    `norm` () is the decoder's, as large as others' are. The encoder reads a sample's deviation from the bias, with such
    a size that the feature explains SHARE_EXPLAINED of the residual of its own.
    """
    reads = list(model.shape.reads)
    direction_NGC = _unit(residual_NGC)
    read_NEC = _unit(residual_NGC[:, reads])
    met_N = (read_NEC * (acts_NGC - model.b_dec)[:, reads]).flatten(1).sum(1)
    # What is explained may lie against the residual in the blocks read: then the feature begins weaker, not as a giant.
    met_N = met_N.maximum(residual_NGC[:, reads].flatten(1).norm(dim=1) / 2).clamp_min(LEAST_NORM)
    wanted_N = SHARE_EXPLAINED * residual_NGC.flatten(1).norm(dim=1) / norm
    W_enc_NEC = read_NEC * (wanted_N / met_N)[:, None, None]
    model.W_dec[features_N] = direction_NGC * norm
    model.W_enc[features_N] = W_enc_NEC
    model.b_enc[features_N] = -(W_enc_NEC * model.b_dec[reads]).flatten(1).sum(1)


def _unit(rows_NGC: Tensor) -> Tensor:
    return rows_NGC / rows_NGC.flatten(1).norm(dim=1).clamp_min(LEAST_NORM)[:, None, None]
