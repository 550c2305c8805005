"""The group crosscoder: one sparse code explains a layer's activations under every element of a group.

    z = sigma(W_enc . A_in + b_enc)          Ahat[g] = sum_i z_i W_dec[i, g] + b_dec[g]

With the one-element group this is a sparse autoencoder. Crosscoders: Lindsey et al. 2024; over a group: Gorton 2024.

Letters: B samples, G group elements, E elements that the encoder reads, C channels, F features, K active features.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from gc_core import groups, objects
from gc_core.groups import Group
from gc_core.run_folder import read_json, write_json

Activation = Literal["topk", "l1"]

SAMPLES_TO_MATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CrosscoderShape:
    """What a crosscoder is, apart from its weights."""

    group: str
    """Name that `groups.parse` reads."""
    channels: int
    dict_size: int
    reads: tuple[int, ...]
    """Group elements that the encoder sees; (0,) is the untransformed block."""
    activation: Activation
    k: int
    """Active features a sample (topk)."""


@dataclass(frozen=True, slots=True)
class SparseCode:
    """The active features of each sample, in no particular order."""

    value_BK: Tensor
    """Not negative; zero where fewer than K pre-activations are positive."""
    index_BK: Tensor
    """Which features, int64 in [0, F); K different ones."""


class GroupCrosscoder(nn.Module):
    """W_enc (F, E, C), b_enc (F,), W_dec (F, G, C), b_dec (G, C); blocks in the group's order."""

    def __init__(self, shape: CrosscoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.group: Group = groups.parse(shape.group)
        num_features, channels = shape.dict_size, shape.channels
        self.W_enc = nn.Parameter(torch.zeros(num_features, len(shape.reads), channels))
        self.b_enc = nn.Parameter(torch.zeros(num_features))
        self.W_dec = nn.Parameter(torch.zeros(num_features, self.group.order, channels))
        self.b_dec = nn.Parameter(torch.zeros(self.group.order, channels))

    @torch.no_grad()
    def initialise(self, acts_BGC: Tensor, generator: torch.Generator) -> None:
        """Start from data: the bias at the mean, decoder rows along random samples' deviations, the encoder transposed.

        A random direction of the identity block says nothing about the other blocks, and a short training on few
        samples never finds them; a sample's deviation names all blocks at once. A little noise keeps rows distinct
        where F exceeds the samples; more would stay in the decoder for long, and make every feature look less like
        itself under the group.
        """
        mean_GC = acts_BGC.mean(0)
        rows = torch.randint(len(acts_BGC), (self.shape.dict_size,), generator=generator)
        deviation = acts_BGC[rows] - mean_GC
        noise = (
            torch.randn(deviation.shape, generator=generator)
            * deviation.square().mean((1, 2), keepdim=True).sqrt()
            * 0.05
        )
        direction = deviation + noise.to(deviation)
        self.W_dec.copy_(direction / direction.flatten(1).norm(dim=1).clamp_min(1e-9)[:, None, None])
        self.b_dec.copy_(mean_GC)
        reads = list(self.shape.reads)
        read = self.W_dec[:, reads]
        self.W_enc.copy_(read / read.flatten(1).square().sum(1).clamp_min(1e-9)[:, None, None])
        self.b_enc.copy_(-torch.einsum("fec,ec->f", self.W_enc, mean_GC[reads]))
        self._match_size(acts_BGC[:SAMPLES_TO_MATCH], mean_GC)

    def _match_size(self, acts_BGC: Tensor, mean_GC: Tensor) -> None:
        """Scale the encoder so that reconstructions start at the best common size: overlapping features overshoot."""
        deviation, attempt = acts_BGC - mean_GC, self.decode(self.encode(acts_BGC)) - mean_GC
        best = (deviation * attempt).sum() / attempt.square().sum().clamp_min(1e-9)
        self.W_enc.mul_(best.clamp(1e-3, 1e3))
        self.b_enc.mul_(best.clamp(1e-3, 1e3))

    def pre_activations(self, acts_BGC: Tensor) -> Tensor:
        """W_enc . A_in + b_enc, shape (B, F)."""
        read = acts_BGC[:, list(self.shape.reads)].flatten(1)
        return F.linear(read, self.W_enc.flatten(1), self.b_enc)

    def sparse_code(self, pre_BF: Tensor, decoder_norm_F: Tensor) -> SparseCode:
        """The k positive pre-activations that would move the reconstruction most (value times decoder norm)."""
        index_BK = (pre_BF.detach() * decoder_norm_F).topk(self.shape.k, dim=1, sorted=False).indices
        return SparseCode(pre_BF.gather(1, index_BK).relu(), index_BK)

    def encode(self, acts_BGC: Tensor) -> Tensor:
        """Feature activations z (B, F), not negative, of activations (B, G, C)."""
        pre_BF = self.pre_activations(acts_BGC)
        if self.shape.activation == "l1":
            return pre_BF.relu()
        code = self.sparse_code(pre_BF, self.decoder_norm())
        return torch.zeros_like(pre_BF).scatter(1, code.index_BK, code.value_BK)

    def decode(self, z_BF: Tensor) -> Tensor:
        """Reconstruction (B, G, C) of dense codes (B, F)."""
        return (z_BF @ self.W_dec.flatten(1)).view(-1, *self.b_dec.shape) + self.b_dec

    def decode_sparse(self, code: SparseCode) -> Tensor:
        """What `decode` gives for the same code, (B, G, C), at a cost that follows the active features."""
        weights = self.W_dec.flatten(1)
        summed = F.embedding_bag(code.index_BK, weights, per_sample_weights=code.value_BK, mode="sum")
        return summed.view(-1, *self.b_dec.shape) + self.b_dec

    def decoder_norm(self) -> Tensor:
        """Frobenius norm of each feature's decoder, (F,), without gradient."""
        return self.W_dec.detach().flatten(1).norm(dim=1)

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """Turn weights for activations multiplied by `scale` into weights for raw activations; codes stay the same."""
        self.W_enc.mul_(scale)
        self.W_dec.div_(scale)
        self.b_dec.div_(scale)

    def save(self, url: str) -> None:
        """Write `model.safetensors` and `config.json` into a folder (path or URL); the JSON's other entries stay."""
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        write_json(url, "config.json", {**_known(url), "crosscoder": asdict(self.shape)})
        objects.write(url, "model.safetensors", save(weights))

    @classmethod
    def load(cls, url: str) -> "GroupCrosscoder":
        """Read what `save` wrote.

        Raises:
            ValueError: nothing is there, or it is not a crosscoder's.
        """
        try:
            shape = read_json(url, "config.json")["crosscoder"]
            model = cls(CrosscoderShape(**{**shape, "reads": tuple(shape["reads"])}))
            model.load_state_dict(load(objects.read(url, "model.safetensors")))
        except FileNotFoundError:
            raise ValueError(f"{url}: no finished crosscoder found; train one with `python -m jobs.train`") from None
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"{url}: not a crosscoder that this version reads ({reason}); train it again") from error
        return model


def _known(url: str) -> dict[str, Any]:
    try:
        return read_json(url, "config.json")
    except FileNotFoundError:
        return {}
