"""What every crosscoder has, whatever its kind: parameters, a folder, and what callers may ask of it.

With the one-element group a crosscoder is a sparse autoencoder. Crosscoders: Lindsey et al. 2024; over a group: Gorton
2024.

A worker may hold some of the features alone (`Shards`): its tensors then have rows for its own, and what is summed or
compared over features is summed or compared over all shards.

Letters: B samples, G group elements, S some of them, E elements that the encoder reads, C channels, F features,
R rows of the weights (features, or prototypes where poses are tied), K active features, n some rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from gc_core.crosscoder.activation_functions import Choice, SparseCode
from gc_core.crosscoder.files import entries, read_crosscoder, write_crosscoder
from gc_core.crosscoder.shape import CrosscoderShape
from gc_core.groups import FiniteGroup
from gc_core.io.location import Location
from gc_core.parallel.collectives import ALONE, Peers, Shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """How a crosscoder computes, which is no part of what it is and never stored."""

    product_dtype: torch.dtype | None = None
    """Type of the dense matrix products, where it is not the weights' own."""
    gradients_by_row: bool = False
    """Whether gradients of sparse products stay in factors with W_enc, b_enc and W_dec (`gc_core.sparse`), for an
    optimiser that reads them there."""


PLAIN = Arithmetic()


class Crosscoder(nn.Module, ABC):
    """W_enc (R, E, C), b_enc (R,), W_dec (R, G, C), and b_dec as the kind has it; blocks in the group's order.

    `jumprelu` has log_threshold (R,) besides, the logarithm of the pre-activation that must be exceeded; `batchtopk`
    has threshold (), the score (value times decoder norm) that must be reached outside training.
    """

    _kinds: ClassVar[dict[str, type["Crosscoder"]]] = {}

    def __init_subclass__(cls, *, tying: str) -> None:
        super().__init_subclass__()
        Crosscoder._kinds[tying] = cls

    def __init__(self, shape: CrosscoderShape, shards: Shards = ALONE, arithmetic: Arithmetic = PLAIN) -> None:
        super().__init__()
        self.shape, self.shards, self.arithmetic = shape, shards, arithmetic
        self.features = shards.features(shape.num_rows)
        """Numbers, in the whole dictionary, of the features that are here; of prototypes where poses are tied."""
        self.group: FiniteGroup = shape.group
        num_rows, channels = len(self.features), shape.channels
        self.threshold: Tensor | None
        self.log_threshold: nn.Parameter | None
        self.W_enc = nn.Parameter(torch.zeros(num_rows, len(shape.reads), channels))
        self.b_enc = nn.Parameter(torch.zeros(num_rows))
        self.W_dec = nn.Parameter(torch.zeros(num_rows, self.group.order, channels))
        self.b_dec = nn.Parameter(torch.zeros(self._bias_shape))
        self.log_threshold = nn.Parameter(torch.zeros(num_rows)) if shape.activation == "jumprelu" else None
        # Not a number until training knows it; then the k largest of each sample are taken.
        threshold = torch.tensor(torch.nan) if shape.activation == "batchtopk" else None
        self.register_buffer("threshold", threshold)

    @staticmethod
    def of(shape: CrosscoderShape, shards: Shards = ALONE, arithmetic: Arithmetic = PLAIN) -> "Crosscoder":
        """A crosscoder of the kind that the shape says, all weights zero."""
        return Crosscoder._kinds[shape.tying](shape, shards, arithmetic)

    @staticmethod
    def load(place: str | Path | Location) -> "Crosscoder":
        """Read what `save` wrote into a folder (path or URL), of either kind.

        Raises:
            ValueError: nothing is there, or it is not a crosscoder's, or damaged.
        """
        return read_crosscoder(Location.parse(place), Crosscoder.of_tensors)

    @staticmethod
    def of_tensors(shape: CrosscoderShape, tensors: Mapping[str, Tensor]) -> "Crosscoder":
        """A crosscoder with these parameters and buffers, by name; they are taken as they are, not copied.

        Raises:
            ValueError: they do not fit the shape, or are not finite.
        """
        _check_size(tensors, shape)
        model = Crosscoder.of(shape)  # zeros that nobody touches take no memory
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
        if name := model.not_finite():
            raise ValueError(f"{name} has values that are not finite")
        return model

    def computing(self, arithmetic: Arithmetic) -> "Crosscoder":
        """A crosscoder of the same weights, which are shared, not copied, that computes so."""
        model = Crosscoder.of(self.shape, self.shards, arithmetic)
        model.load_state_dict(self.state_dict(), assign=True)
        return model.to(self.b_enc.device)  # tables of the group lie in no state

    @abstractmethod
    def encode(self, acts_BGC: Tensor) -> Tensor:
        """Feature activations z (B, F), not negative, of activations (B, G, C)."""

    @abstractmethod
    def code(self, acts_BGC: Tensor) -> SparseCode:
        """Value, row and pose of what is active in each sample, as `encode` has them."""

    @abstractmethod
    def decoder_of(self, features: Tensor) -> Tensor:
        """Decoder (n, G, C) of some features (n, int64 in [0, F)), turned as theirs are where poses are tied."""

    @abstractmethod
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
        in place of the bias. Where poses are tied, of all features and blocks.
        """

    @abstractmethod
    def best_pre_activations(self, acts_BGC: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Pre-activations (B, n) of what has a row of weights, all or some (n,); where poses are tied, each at the pose
        (B, n) where it is largest."""

    @abstractmethod
    def as_code(self, z_BR: Tensor, pose_BR: Tensor | None) -> SparseCode | Tensor:
        """What `gc_core.losses` judge: dense codes of all rows, at these poses where poses are tied."""

    @abstractmethod
    def sparse_code(self, acts_BGC: Tensor, peers: Peers | None = None) -> tuple[SparseCode, Choice]:
        """The rows that would move the reconstruction most (pre-activation times decoder norm): `topk` and `batchtopk`
        in training, where a batch is known whole.

        All pre-activations are computed to choose, without gradient; only the chosen ones get one.
        """

    @abstractmethod
    def decode_sparse(
        self, code: SparseCode, *, blocks: Tensor | None = None, onto_BGC: Tensor | None = None
    ) -> Tensor:
        """What `decode` gives for the same code, (B, G, C), at a cost that follows the active features."""

    @abstractmethod
    def decode_rows(
        self, z_BN: Tensor, pose_BN: Tensor | None, features: Tensor, blocks: Tensor | None = None
    ) -> Tensor:
        """The part (B, G, C) that some rows (n,) with these values add to the reconstruction, of some `blocks` alone
        (B, S, C); where poses are tied, of all blocks, at these poses."""

    @abstractmethod
    def reconstruct_with_poses(self, acts_BGC: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """How strongly each row is active (B, R), over its poses together; the pose (B, R, int64) in which it is most
        active, None where poses are not tied; and the reconstruction (B, G, C). Without gradient."""

    @abstractmethod
    def materialised(self) -> "Crosscoder":
        """Untie the poses: the same features, each with weights of its own; an untied crosscoder is returned as is."""

    def reconstruct(self, acts_BGC: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, F) as `encode` gives it, or of prototypes (B, P) over their poses together, and the reconstruction
        (B, G, C), at a cost that follows the active features where these are few."""
        z_BR, _, recon_BGC = self.reconstruct_with_poses(acts_BGC)
        return z_BR, recon_BGC

    def decoder_norm(self) -> Tensor:
        """Frobenius norm of each row's decoder, (R,), without gradient."""
        return self.W_dec.detach().flatten(1).norm(dim=1)

    def keep_ties(self) -> None:
        """Make tied weights equal again after a step, since rounding moves them apart; nothing where all are free."""

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """Turn weights for activations multiplied by `scale` into weights for raw activations; codes stay the same."""
        self.W_enc.mul_(scale)
        self.W_dec.div_(scale)
        self.b_dec.div_(scale)
        if self.threshold is not None:  # a score: it shrinks with the decoder's norm
            self.threshold.div_(scale)

    def save(self, place: str | Path | Location) -> None:
        """Write `model.safetensors` and `config.json` into a folder (path or URL); the JSON's other entries stay.

        Raises:
            ValueError: a weight is not finite.
        """
        content = self.weights_file()
        write_crosscoder(Location.parse(place), content, self.about(content))

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

    @property
    @abstractmethod
    def _bias_shape(self) -> tuple[int, ...]:
        """Shape of b_dec."""

    def _base(self, onto_BGC: Tensor | None, blocks: Tensor | None) -> Tensor:
        """What a reconstruction is added onto."""
        if onto_BGC is not None:
            return onto_BGC
        return self.b_dec if blocks is None else self.b_dec[blocks]


def _check_size(tensors: Mapping[str, Tensor], shape: CrosscoderShape) -> None:
    """ValueError unless the decoder is of this shape: before memory is taken for one that a damaged record tells of."""
    expected = (shape.num_rows, shape.group.order, shape.channels)
    if (found := tuple(tensors["W_dec"].shape)) != expected:
        raise ValueError(f"W_dec: {found} found, expected {expected} as config.json says")
