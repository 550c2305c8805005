"""Floating point operations of a training step, two for a product with its sum.

Counted are the products of encoder and decoder, forward and backward. The Fourier transforms of samples and weights,
losses, norms and the optimiser are not.
"""

from gc_core.config import ResolvedTrainConfig
from gc_core.crosscoder.correlations import real_representations
from gc_core.groups import FiniteGroup


def step_flop(config: ResolvedTrainConfig, group: FiniteGroup, channels: int) -> int:
    """FLOP of one step on its whole batch, for a crosscoder over `group`.

    Every row is compared with every sample. With topk and batchtopk only active rows are decoded and get a gradient;
    with l1 and jumprelu all.
    """
    tied = config.tying == "orbit"
    compared = _products_of_all_poses(group) if tied else len(config.elements_read(group.order))
    read = group.order if tied else compared
    is_sparse = config.activation in ("topk", "batchtopk")
    active = config.k if is_sparse else config.num_rows
    judged = config.blocks_per_step
    encode = config.num_rows * compared
    back_to_encoder = active * read if is_sparse else encode
    decode = 3 * active * judged  # the reconstruction, its gradient by the codes and by the decoder
    return 2 * config.batch * channels * (encode + back_to_encoder + decode)


def _products_of_all_poses(group: FiniteGroup) -> int:
    """Products a prototype and channel that give its correlation in every pose (`gc_core.crosscoder.correlations`)."""
    return sum(each.matrices.shape[1] ** 3 for each in real_representations(group))
