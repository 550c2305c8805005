"""SAELens' own top-k autoencoder, trained by its own trainer on samples that come through a pipe.

    PYTHON_WITH_SAE_LENS infra/bench/saelens_peer.py OPTIONS.json WEIGHTS.safetensors < float32 samples

Knows nothing of this project, so that it runs in an environment of its own (`uv venv PLACE`, `uv pip install --python
PLACE/bin/python sae-lens`). Options: channels, latents, k, batch, steps, learning_rate, seed, device.

Letters: B samples, C channels.
"""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor


def main(options_file: str, weights_file: str) -> None:
    """Train, and write W_enc (C, L), b_enc, W_dec (L, C) and b_dec of `z = topk(x W_enc + b_enc)`.

    Raises:
        RuntimeError: what is written does not do what SAELens' own `encode` and `decode` do.
    """
    options: dict[str, Any] = json.loads(Path(options_file).read_text())
    torch.set_num_threads(1)
    torch.manual_seed(options["seed"])
    sae, last_BC = _trained(options, _batches(sys.stdin.buffer, options))
    weights = plain_weights(sae)
    _check(weights, sae, last_BC, options["k"])
    save_file(weights, weights_file)


def _batches(pipe: BinaryIO, options: dict[str, Any]) -> Iterator[Tensor]:
    shape = (options["batch"], options["channels"])
    while len(content := pipe.read(4 * shape[0] * shape[1])) == 4 * shape[0] * shape[1]:
        samples_BC = np.frombuffer(content, np.float32).reshape(shape).copy()
        yield torch.from_numpy(samples_BC).to(options["device"])


def _trained(options: dict[str, Any], batches: Iterator[Tensor]) -> tuple[Any, Tensor]:
    saelens, config = import_module("sae_lens"), import_module("sae_lens.config")
    trainer_module = import_module("sae_lens.training.sae_trainer")
    device = options["device"]
    sae = saelens.TopKTrainingSAE(
        saelens.TopKTrainingSAEConfig(
            d_in=options["channels"], d_sae=options["latents"], k=options["k"], device=device, dtype="float32"
        )
    )
    trainer_config = config.SAETrainerConfig(
        total_training_samples=options["batch"] * options["steps"],
        train_batch_size_samples=options["batch"],
        lr=options["learning_rate"],
        lr_end=options["learning_rate"],
        lr_decay_steps=options["steps"] // 5,  # as ours: to zero over the last fifth
        lr_warm_up_steps=options["steps"] // 20,
        device=device,
        logger=config.LoggingConfig(log_to_wandb=False, eval_every_n_wandb_logs=2**31 - 1),
    )
    seen: list[Tensor] = []

    def watched() -> Iterator[Tensor]:
        for samples_BC in batches:
            seen[:] = [samples_BC]
            yield samples_BC

    trainer_module.SAETrainer(cfg=trainer_config, sae=sae, data_provider=watched()).fit()
    return sae, seen[0]


@torch.no_grad()
def plain_weights(sae: Any) -> dict[str, Tensor]:
    """The weights with decoder norms and the subtraction of the decoder's bias folded in."""
    norm_L = sae.W_dec.norm(dim=1).clamp(min=1e-8) if sae.cfg.rescale_acts_by_decoder_norm else 1
    weights = {
        "W_enc": sae.W_enc * norm_L,
        "b_enc": (sae.b_enc - (sae.b_dec @ sae.W_enc if sae.cfg.apply_b_dec_to_input else 0)) * norm_L,
        "W_dec": sae.W_dec / (norm_L[:, None] if isinstance(norm_L, Tensor) else 1),
        "b_dec": sae.b_dec,
    }
    return {name: tensor.detach().float().cpu().contiguous().clone() for name, tensor in weights.items()}


@torch.no_grad()
def _check(weights: dict[str, Tensor], sae: Any, samples_BC: Tensor, k: int) -> None:
    pre_BL = samples_BC.cpu() @ weights["W_enc"] + weights["b_enc"]
    value_BK, place_BK = pre_BL.topk(k, dim=1)
    code_BL = torch.zeros_like(pre_BL).scatter_(1, place_BK, value_BK.relu())
    recon_BC = code_BL @ weights["W_dec"] + weights["b_dec"]
    theirs_BC = sae.eval()(samples_BC).cpu()
    off = float((recon_BC - theirs_BC).norm() / theirs_BC.norm())
    if not off < 1e-3:
        raise RuntimeError(f"weights: reconstructions are off by {off:.1e}, expected those of SAELens")


if __name__ == "__main__":
    main(*sys.argv[1:])
