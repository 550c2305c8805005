"""The untied group crosscoder: every feature has weights of its own, as in Gorton 2024.

    z = sigma(W_enc . A_in + b_enc)          Ahat[g] = sum_i z_i W_dec[i, g] + b_dec[g]

Letters: B samples, G group elements, E elements that the encoder reads, C channels, F features, K active features.
"""

from functools import lru_cache

import torch
from torch import Tensor

from gc_core.crosscoder.activation_functions import (
    Choice,
    SparseCode,
    best_of_shards,
    choose_above,
    choose_per_batch,
    choose_per_sample,
    gathered_left,
)
from gc_core.crosscoder.base import Crosscoder
from gc_core.parallel.collectives import Peers
from gc_core.sparse import choose_with_scores, select_rows, sparse_decode, sparse_encode


class GroupCrosscoder(Crosscoder, tying="none"):
    """W_enc (F, E, C), b_enc (F,), W_dec (F, G, C), b_dec (G, C)."""

    def pre_activations(self, acts_BGC: Tensor, features: Tensor | None = None) -> Tensor:
        """W_enc . A_in + b_enc, shape (B, F), or of some features (n,) alone, shape (B, n)."""
        if features is None:
            weights, bias = self.W_enc, self.b_enc
        else:
            weights, bias = (self._rows(parameter, features) for parameter in (self.W_enc, self.b_enc))
        return self._product(self._read(acts_BGC).flatten(1), weights.flatten(1).T) + bias

    def best_pre_activations(self, acts_BGC: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Pre-activations (B, n) of all or some features (n,), which have no poses."""
        return self.pre_activations(acts_BGC, features), None

    def as_code(self, z_BR: Tensor, pose_BR: Tensor | None) -> Tensor:
        """The dense codes as they are."""
        return z_BR

    def decoder_rows(self, features: Tensor, blocks: Tensor | None = None) -> Tensor:
        """W_dec of some features (n,), of some `blocks` (S,) alone; (n, G, C), or (n, S, C)."""
        return _some_blocks(self._rows(self.W_dec, features), blocks)

    def encode_sparse(self, acts_BGC: Tensor, index_BK: Tensor) -> Tensor:
        """Pre-activations (B, K) of the features chosen for each sample, with gradient."""
        read, dense = self._read(acts_BGC), not self.arithmetic.gradients_by_row
        return sparse_encode(read, self.W_enc, self.b_enc, index_BK, dense_grad=dense)

    def sparse_code(self, acts_BGC: Tensor, peers: Peers | None = None) -> tuple[SparseCode, Choice]:
        """The features that would move the reconstruction most, as in the base."""
        with torch.no_grad():
            choice = self._choose(acts_BGC, peers)
        value_BK = self.encode_sparse(acts_BGC, choice.index_BK)
        return SparseCode(torch.where(choice.active_BK, value_BK, 0).relu(), choice.index_BK), choice

    def encode(self, acts_BGC: Tensor) -> Tensor:
        """Feature activations z (B, F), not negative, of activations (B, G, C)."""
        pre_BF = self.pre_activations(acts_BGC)
        if self.log_threshold is not None:
            return torch.where(pre_BF > self.log_threshold.exp(), pre_BF, 0)
        if self.shape.activation == "l1":
            return pre_BF.relu()
        score_BF = pre_BF.detach() * self.decoder_norm()
        if self.threshold is not None and not self.threshold.isnan():
            return torch.where(score_BF >= self.threshold, pre_BF, 0)
        choice = choose_per_sample(score_BF, self.shape.k, self.shards)
        kept_BK = torch.where(choice.active_BK, pre_BF.gather(1, choice.index_BK), 0)
        return torch.zeros_like(pre_BF).scatter(1, choice.index_BK, kept_BK.relu())

    def code(self, acts_BGC: Tensor) -> SparseCode:
        """Value and feature of what is active in each sample, as `encode` has them."""
        if self.shape.activation not in ("topk", "batchtopk"):
            z_BF = self.encode(acts_BGC)
            place_BK = gathered_left(z_BF > 0)
            return SparseCode(z_BF.gather(1, place_BK), place_BK)
        if self.threshold is None:
            return self.sparse_code(acts_BGC)[0]
        score_BF = self.pre_activations(acts_BGC) * self.decoder_norm()
        known = not self.threshold.isnan()
        choice = (
            choose_above(score_BF, self.threshold) if known else choose_per_sample(score_BF, self.shape.k, self.shards)
        )
        value_BK = self.encode_sparse(acts_BGC, choice.index_BK)
        return SparseCode(torch.where(choice.active_BK, value_BK, 0).relu(), choice.index_BK)

    @torch.no_grad()
    def reconstruct_with_poses(self, acts_BGC: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """z (B, F) as `encode` gives it, no poses, and the reconstruction (B, G, C)."""
        if self.shape.activation not in ("topk", "batchtopk"):
            z_BF = self.encode(acts_BGC)
            return z_BF, None, self.decode(z_BF)
        code = self.code(acts_BGC)
        z_BF = acts_BGC.new_zeros(len(acts_BGC), len(self.features))
        return z_BF.scatter_(1, code.index_BK, code.value_BK), None, self.decode_sparse(code)

    def decode(
        self,
        z_BF: Tensor,
        *,
        features: slice | None = None,
        blocks: Tensor | None = None,
        onto_BGC: Tensor | None = None,
    ) -> Tensor:
        """Reconstruction (B, G, C) of dense codes (B, F), as in the base."""
        weights = _some_blocks(self.W_dec if features is None else self.W_dec[features], blocks)
        summed = self._product(z_BF, weights.flatten(1)).view(-1, *weights.shape[1:])
        return self.shards.total(summed) + self._base(onto_BGC, blocks)

    def decode_sparse(
        self, code: SparseCode, *, blocks: Tensor | None = None, onto_BGC: Tensor | None = None
    ) -> Tensor:
        """What `decode` gives for the same code, (B, G, C), at a cost that follows the active features."""
        by_row = self.arithmetic.gradients_by_row and blocks is None
        weights = _some_blocks(self.W_dec, blocks)
        summed = sparse_decode(code.value_BK, code.index_BK, weights, dense_grad=not by_row)
        return self.shards.total(summed) + self._base(onto_BGC, blocks)

    def decoder_of(self, features: Tensor) -> Tensor:
        """Decoder (n, G, C) of some features (n,)."""
        return self.W_dec[features]

    def decode_rows(
        self, z_BN: Tensor, pose_BN: Tensor | None, features: Tensor, blocks: Tensor | None = None
    ) -> Tensor:
        """The part (B, G, C) that some features (n,) with these values add to the reconstruction, of some `blocks`
        alone (B, S, C)."""
        rows_NSC = self.decoder_rows(features, blocks)
        return self.shards.total(z_BN @ rows_NSC.flatten(1)).view(-1, *rows_NSC.shape[1:])

    def _choose(self, acts_BGC: Tensor, peers: Peers | None) -> Choice:
        norm_F = self.decoder_norm()
        if self.shape.activation == "topk" and self.arithmetic.product_dtype is None:
            most = min(self.shape.k, len(self.features))
            index_BK, score_BK = choose_with_scores(self._read(acts_BGC), self.W_enc, self.b_enc, norm_F, most)
            return best_of_shards(score_BK, index_BK, self.shape.k, self.shards)  # what is not positive becomes zero
        score_BF = self.pre_activations(acts_BGC) * norm_F
        if self.shape.activation == "batchtopk":
            return choose_per_batch(score_BF, self.shape.k, peers or Peers(), self.shards)
        return choose_per_sample(score_BF, self.shape.k, self.shards)

    def materialised(self) -> "GroupCrosscoder":
        """This very crosscoder."""
        return self

    @property
    def _bias_shape(self) -> tuple[int, ...]:
        return self.group.order, self.shape.channels

    def _rows(self, parameter: Tensor, features: Tensor) -> Tensor:
        return select_rows(parameter, features, dense_grad=not self.arithmetic.gradients_by_row)

    def _read(self, acts_BGC: Tensor) -> Tensor:
        return acts_BGC.index_select(1, _numbers(self.shape.reads, acts_BGC.device))

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        if self.arithmetic.product_dtype is None:
            return left @ right
        return (left.to(self.arithmetic.product_dtype) @ right.to(self.arithmetic.product_dtype)).to(left.dtype)


@lru_cache(maxsize=16)
def _numbers(elements: tuple[int, ...], device: torch.device) -> Tensor:
    """int64 on a device, which waits for a list of Python's once and not at every step."""
    with torch.inference_mode(False):
        return torch.tensor(elements, device=device)


def _some_blocks(weights_FGC: Tensor, blocks: Tensor | None) -> Tensor:
    return weights_FGC if blocks is None else weights_FGC.index_select(1, blocks)
