"""The group crosscoder: one sparse code explains a layer's activations under every element of a group.

    z = sigma(W_enc . A_in + b_enc)          Ahat[g] = sum_i z_i W_dec[i, g] + b_dec[g]

With the one-element group this is a sparse autoencoder. Crosscoders: Lindsey et al. 2024; over a group: Gorton 2024.

A worker may hold some of the features alone (`Shards`): its tensors then have F rows for its own, and what is summed or
compared over features is summed or compared over all shards.

Letters: B samples, G group elements, E elements that the encoder reads, C channels, F features, K active features.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from gc_core import groups
from gc_core.activations import (
    ALONE,
    Choice,
    Peers,
    Shards,
    SparseCode,
    best_of_shards,
    choose_above,
    choose_per_batch,
    choose_per_sample,
)
from gc_core.crosscoder.files import entries, read_crosscoder, write_crosscoder
from gc_core.crosscoder.shape import CrosscoderShape
from gc_core.groups import Group
from gc_core.sparse import choose_with_scores, select_rows, sparse_decode, sparse_encode


class GroupCrosscoder(nn.Module):
    """The untied one, and what both kinds share: what a caller may ask of a crosscoder without knowing its kind.

    W_enc (F, E, C), b_enc (F,), W_dec (F, G, C), b_dec (G, C); blocks in the group's order.

    `jumprelu` has log_threshold (F,) besides, the logarithm of the pre-activation that a feature must exceed;
    `batchtopk` has threshold (), the score (value times decoder norm) that it must reach outside training.
    """

    _kinds: ClassVar[dict[str, type["GroupCrosscoder"]]] = {}

    def __init_subclass__(cls, *, tying: str) -> None:
        super().__init_subclass__()
        GroupCrosscoder._kinds[tying] = cls

    def __init__(self, shape: CrosscoderShape, shards: Shards = ALONE) -> None:
        super().__init__()
        self.shape, self.shards = shape, shards
        self.features = shards.features(shape.num_rows)
        """Numbers, in the whole dictionary, of the features that are here; of prototypes where poses are tied."""
        self.group: Group = groups.parse(shape.group)
        num_features, channels = len(self.features), shape.channels
        self.threshold: Tensor | None
        self.log_threshold: nn.Parameter | None
        self.W_enc = nn.Parameter(torch.zeros(num_features, len(shape.reads), channels))
        self.b_enc = nn.Parameter(torch.zeros(num_features))
        self.W_dec = nn.Parameter(torch.zeros(num_features, self.group.order, channels))
        self.b_dec = nn.Parameter(torch.zeros(self.group.order, channels))
        self.log_threshold = nn.Parameter(torch.zeros(num_features)) if shape.activation == "jumprelu" else None
        # Not a number until training knows it; then the k largest of each sample are taken.
        threshold = torch.tensor(torch.nan) if shape.activation == "batchtopk" else None
        self.register_buffer("threshold", threshold)
        self.product_dtype: torch.dtype | None = None
        """Arithmetic of the dense matrix products, where it is not the weights' own."""
        self.gradients_by_row = False
        """Whether gradients of sparse products stay in factors with W_enc, b_enc and W_dec (`gc_core.sparse`), for an
        optimiser that reads them there."""

    def pre_activations(self, acts_BGC: Tensor, features: Tensor | None = None) -> Tensor:
        """W_enc . A_in + b_enc, shape (B, F), or of some features (n,) alone, shape (B, n)."""
        if features is None:
            weights, bias = self.W_enc, self.b_enc
        else:
            weights, bias = (self._rows(parameter, features) for parameter in (self.W_enc, self.b_enc))
        return self._product(self._read(acts_BGC).flatten(1), weights.flatten(1).T) + bias

    def best_pre_activations(self, acts_BGC: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Pre-activations (B, n) of what has a row of weights, all or some (n,); where poses are tied, each at its best
        pose (B, n)."""
        return self.pre_activations(acts_BGC, features), None

    def as_code(self, z_BF: Tensor, pose_BF: Tensor | None) -> SparseCode | Tensor:
        """What `gc_core.losses` judge: dense codes of all rows, at these poses where poses are tied."""
        return z_BF

    def decoder_rows(self, features: Tensor, blocks: Tensor | None = None) -> Tensor:
        """W_dec of some features (n,), of some `blocks` (S,) alone; (n, G, C), or (n, S, C)."""
        return _some_blocks(self._rows(self.W_dec, features), blocks)

    def encode_sparse(self, acts_BGC: Tensor, index_BK: Tensor) -> Tensor:
        """Pre-activations (B, K) of the features chosen for each sample, with gradient."""
        read, dense = self._read(acts_BGC), not self.gradients_by_row
        return sparse_encode(read, self.W_enc, self.b_enc, index_BK, dense_grad=dense)

    def sparse_code(self, acts_BGC: Tensor, peers: Peers | None = None) -> tuple[SparseCode, Choice]:
        """The features that would move the reconstruction most (pre-activation times decoder norm): `topk` and
        `batchtopk` in training, where a batch is known whole.

        All pre-activations are computed to choose, without gradient; only the chosen ones get one.
        """
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

    def reconstruct(self, acts_BGC: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, F) as `encode` gives it, or of prototypes (B, P) over their poses together, and the reconstruction
        (B, G, C), at a cost that follows the active features where these are few."""
        z_BF, _, recon_BGC = self.reconstruct_with_poses(acts_BGC)
        return z_BF, recon_BGC

    @torch.no_grad()
    def reconstruct_with_poses(self, acts_BGC: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """The same, with the pose (B, P, int64) in which each prototype is most active between them; None where poses
        are not tied."""
        if self.shape.activation not in ("topk", "batchtopk"):
            z_BF = self.encode(acts_BGC)
            return z_BF, None, self.decode(z_BF)
        code = self._code_outside_training(acts_BGC)
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
        """Reconstruction (B, G, C) of dense codes (B, F).

        Of codes of some `features` alone, counted among those here, of some `blocks` (S,) alone, and added `onto_BGC`
        in place of the bias.
        """
        weights = _some_blocks(self.W_dec if features is None else self.W_dec[features], blocks)
        summed = self._product(z_BF, weights.flatten(1)).view(-1, *weights.shape[1:])
        return self.shards.total(summed) + self._base(onto_BGC, blocks)

    def decode_sparse(
        self, code: SparseCode, *, blocks: Tensor | None = None, onto_BGC: Tensor | None = None
    ) -> Tensor:
        """What `decode` gives for the same code, (B, G, C), at a cost that follows the active features."""
        by_row = self.gradients_by_row and blocks is None
        weights = _some_blocks(self.W_dec, blocks)
        summed = sparse_decode(code.value_BK, code.index_BK, weights, dense_grad=not by_row)
        return self.shards.total(summed) + self._base(onto_BGC, blocks)

    def decode_rows(
        self, z_BN: Tensor, pose_BN: Tensor | None, features: Tensor, blocks: Tensor | None = None
    ) -> Tensor:
        """The part (B, G, C) that some features (n,) with these values add to the reconstruction, of some `blocks`
        alone (B, S, C)."""
        rows_NSC = self.decoder_rows(features, blocks)
        return self.shards.total(z_BN @ rows_NSC.flatten(1)).view(-1, *rows_NSC.shape[1:])

    def decoder_norm(self) -> Tensor:
        """Frobenius norm of each feature's decoder, (F,), without gradient."""
        return self.W_dec.detach().flatten(1).norm(dim=1)

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """Turn weights for activations multiplied by `scale` into weights for raw activations; codes stay the same."""
        self.W_enc.mul_(scale)
        self.W_dec.div_(scale)
        self.b_dec.div_(scale)
        if self.threshold is not None:  # a score: it shrinks with the decoder's norm
            self.threshold.div_(scale)

    def save(self, url: str) -> None:
        """Write `model.safetensors` and `config.json` into a folder (path or URL); the JSON's other entries stay.

        Raises:
            ValueError: a weight is not finite.
        """
        content = self.weights_file()
        write_crosscoder(url, content, self.about(content))

    def weights_file(self) -> bytes:
        """The bytes of `model.safetensors`; ValueError if a weight is not finite."""
        assert self.shards.count == 1, "a part of a dictionary is no crosscoder"
        if name := self.not_finite():
            raise ValueError(f"crosscoder: {name} is not finite; train again with a lower learning rate")
        return save({name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()})

    def about(self, weights_file: bytes) -> dict[str, Any]:
        """Entries of `config.json` that `load` needs: the shape, and the weights' hash."""
        return entries(self.shape, weights_file)

    def not_finite(self) -> str | None:
        """The first parameter with a value that is not finite; None if all are."""
        for name, parameter in self.named_parameters():
            if not torch.stack(parameter.detach().aminmax()).isfinite().all():
                return name
        return None

    @staticmethod
    def of(shape: CrosscoderShape, shards: Shards = ALONE) -> "GroupCrosscoder":
        """A crosscoder of the kind that the shape says, all weights zero."""
        return GroupCrosscoder._kinds.get(shape.tying, GroupCrosscoder)(shape, shards)

    @staticmethod
    def load(url: str) -> "GroupCrosscoder":
        """Read what `save` wrote, of either kind.

        Raises:
            ValueError: nothing is there, or it is not a crosscoder's, or damaged.
        """
        return read_crosscoder(url, GroupCrosscoder.of_tensors)

    @staticmethod
    def of_tensors(shape: CrosscoderShape, tensors: Mapping[str, Tensor]) -> "GroupCrosscoder":
        """A crosscoder with these parameters and buffers, by name; they are taken as they are, not copied.

        Raises:
            ValueError: they do not fit the shape, or are not finite.
        """
        _check_size(tensors, shape)
        model = GroupCrosscoder.of(shape)  # zeros that nobody touches take no memory
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
        if name := model.not_finite():
            raise ValueError(f"{name} has values that are not finite")
        return model

    def _code_outside_training(self, acts_BGC: Tensor) -> SparseCode:
        """`topk` and `batchtopk`: what `encode` gives, as active features."""
        if self.threshold is None:
            return self.sparse_code(acts_BGC)[0]
        score_BF = self.pre_activations(acts_BGC) * self.decoder_norm()
        known = not self.threshold.isnan()
        choice = (
            choose_above(score_BF, self.threshold) if known else choose_per_sample(score_BF, self.shape.k, self.shards)
        )
        value_BK = self.encode_sparse(acts_BGC, choice.index_BK)
        return SparseCode(torch.where(choice.active_BK, value_BK, 0).relu(), choice.index_BK)

    def _choose(self, acts_BGC: Tensor, peers: Peers | None) -> Choice:
        norm_F = self.decoder_norm()
        if self.shape.activation == "topk" and self.product_dtype is None:
            most = min(self.shape.k, len(self.features))
            index_BK, score_BK = choose_with_scores(self._read(acts_BGC), self.W_enc, self.b_enc, norm_F, most)
            return best_of_shards(score_BK, index_BK, self.shape.k, self.shards)  # what is not positive becomes zero
        score_BF = self.pre_activations(acts_BGC) * norm_F
        if self.shape.activation == "batchtopk":
            return choose_per_batch(score_BF, self.shape.k, peers or Peers(), self.shards)
        return choose_per_sample(score_BF, self.shape.k, self.shards)

    def _rows(self, parameter: Tensor, features: Tensor) -> Tensor:
        return select_rows(parameter, features, dense_grad=not self.gradients_by_row)

    def _read(self, acts_BGC: Tensor) -> Tensor:
        return acts_BGC[:, list(self.shape.reads)]

    def _base(self, onto_BGC: Tensor | None, blocks: Tensor | None) -> Tensor:
        if onto_BGC is not None:
            return onto_BGC
        return self.b_dec if blocks is None else self.b_dec[blocks]

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        if self.product_dtype is None:
            return left @ right
        return (left.to(self.product_dtype) @ right.to(self.product_dtype)).to(left.dtype)


def _check_size(tensors: Mapping[str, Tensor], shape: CrosscoderShape) -> None:
    """ValueError unless the decoder is of this shape: before memory is taken for one that a damaged record tells of."""
    expected = (shape.num_rows, groups.parse(shape.group).order, shape.channels)
    if (found := tuple(tensors["W_dec"].shape)) != expected:
        raise ValueError(f"W_dec: {found} found, expected {expected} as config.json says")


def _some_blocks(weights_FGC: Tensor, blocks: Tensor | None) -> Tensor:
    return weights_FGC if blocks is None else weights_FGC.index_select(1, blocks)
