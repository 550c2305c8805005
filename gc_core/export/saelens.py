"""A crosscoder's identity block as a sparse autoencoder that SAELens reads: it reconstructs plain activations alike.

    SAELens:  z = act(x W_enc + b_enc),  xhat = z W_dec + b_dec,  W_enc (C, F), W_dec (F, C)

| here      | there    | its code                                                             |
| --------- | -------- | -------------------------------------------------------------------- |
| l1        | standard | z                                                                    |
| jumprelu  | jumprelu | z; the learned thresholds                                            |
| batchtopk | jumprelu | z; thresholds are that of the scores over each feature's decoder norm |
| topk      | topk     | z times the decoder norm                                             |

A crosscoder's top-k ranks by z times the decoder norm, a SAELens top-k by the very code it returns. The decoder norm is
that of *all* blocks, so `rescale_acts_by_decoder_norm`, which knows the identity block's norm alone, would choose other
features. Encoder rows are multiplied and decoder rows divided by it instead.

Letters: F features, C channels.
"""

import json
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from gc_core.crosscoder import Crosscoder
from gc_core.export.folder import write_files
from gc_core.io.location import Location

ARCHITECTURE = {"l1": "standard", "topk": "topk", "jumprelu": "jumprelu", "batchtopk": "jumprelu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityAutoencoder:
    """The identity block alone, in SAELens' terms."""

    architecture: str
    """One of SAELens' names."""
    weights: dict[str, Tensor]
    """W_enc (C, F), b_enc (F,), W_dec (F, C), b_dec (C,), and for jumprelu threshold (F,)."""
    k: int | None
    """Active features (topk)."""
    code_scale_F: Tensor
    """Its code is the crosscoder's times this."""


def write_saelens(folder: Location, model: Crosscoder, about: dict[str, Any]) -> None:
    """Write `cfg.json` and `sae_weights.safetensors`, for `sae_lens.SAE.load_from_disk`; `about` becomes the metadata.

    Raises:
        ValueError: the crosscoder has no such form (see `identity_autoencoder`).
    """
    autoencoder = identity_autoencoder(model)
    num_features, channels = autoencoder.weights["W_dec"].shape
    config = {
        "architecture": autoencoder.architecture,
        "d_in": channels,
        "d_sae": num_features,
        "dtype": str(autoencoder.weights["W_dec"].dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": about,
    }
    if autoencoder.k is not None:
        config |= {"k": autoencoder.k, "rescale_acts_by_decoder_norm": False}
    weights = {name: tensor.contiguous() for name, tensor in autoencoder.weights.items()}
    write_files(folder, {"cfg.json": json.dumps(config, indent=1).encode(), "sae_weights.safetensors": save(weights)})


@torch.no_grad()
def identity_autoencoder(model: Crosscoder) -> IdentityAutoencoder:
    """The autoencoder of the untransformed block that the crosscoder contains.

    Raises:
        ValueError: its encoder reads other blocks too, or its threshold was never learned.
    """
    if model.shape.reads != (0,):
        raise ValueError(
            "export: an encoder that reads transformed blocks found, expected one that reads the identity block alone: "
            "a SAELens autoencoder sees nothing else; export it as --format hub, or train with --encoder-reads identity"
        )
    norm_F, activation = model.decoder_norm(), model.shape.activation
    scale_F = norm_F if activation == "topk" else torch.ones_like(norm_F)
    divisor_F = scale_F.where(scale_F > 0, 1)  # a decoder of zeros stays one
    weights = {
        "W_enc": (model.W_enc[:, 0] * scale_F[:, None]).T,
        "b_enc": model.b_enc * scale_F,
        "W_dec": model.W_dec[:, 0] / divisor_F[:, None],
        "b_dec": model.b_dec[0].clone(),
    }
    if ARCHITECTURE[activation] == "jumprelu":
        weights["threshold"] = _thresholds(model.state_dict(), norm_F)
    return IdentityAutoencoder(
        architecture=ARCHITECTURE[activation],
        weights=weights,
        k=model.shape.k if activation == "topk" else None,
        code_scale_F=scale_F,
    )


def _thresholds(state: dict[str, Tensor], norm_F: Tensor) -> Tensor:
    """(F,) what a pre-activation must exceed to count."""
    if "log_threshold" in state:
        return state["log_threshold"].exp()
    if not (state["threshold"] > 0):
        raise ValueError(
            "export: a batchtopk crosscoder without its threshold found, expected one that training finished; train it "
            "again, or export it as --format hub"
        )
    at_least_F = state["threshold"] / norm_F  # never for a decoder of zeros
    return torch.nextafter(at_least_F, torch.zeros_like(at_least_F))  # a score must reach it here, exceed it there
