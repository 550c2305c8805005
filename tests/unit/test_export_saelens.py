"""The exported autoencoder, by SAELens' own equations, is the crosscoder's identity block.

Letters: B samples, G group elements, C channels, F features.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gc_core.crosscoder import GroupCrosscoder
from gc_core.export import identity_autoencoder, write_saelens
from gc_core.io.location import Location
from support.random_crosscoders import every_activation, random_crosscoder, samples


def sae_encode(config: dict[str, object], weights: dict[str, Tensor], x_BC: Tensor) -> Tensor:
    """SAELens 6's `encode` for the three architectures, from its documentation."""
    pre_BF = x_BC @ weights["W_enc"] + weights["b_enc"]
    if config["architecture"] == "topk":
        values, index = pre_BF.topk(config["k"], dim=1)
        return torch.zeros_like(pre_BF).scatter(1, index, values.relu())
    if config["architecture"] == "jumprelu":
        return pre_BF.relu() * (pre_BF > weights["threshold"])
    return pre_BF.relu()


def exported(folder: Path, model: GroupCrosscoder) -> tuple[dict[str, object], dict[str, Tensor]]:
    write_saelens(Location.parse(folder), model, {"model_name": "googlenet", "hook_name": "inception3b"})
    return json.loads((folder / "cfg.json").read_text()), load_file(folder / "sae_weights.safetensors")


@every_activation
def test_the_autoencoder_reconstructs_what_the_identity_block_does(activation: str, tmp_path: Path) -> None:
    model = random_crosscoder(activation=activation)
    config, weights = exported(tmp_path, model)
    acts_BGC = samples(model)
    z_BF = model.encode(acts_BGC)
    code_BF = sae_encode(config, weights, acts_BGC[:, 0])
    assert 0 < (z_BF > 0).double().mean() < 0.6
    torch.testing.assert_close(code_BF, z_BF * identity_autoencoder(model).code_scale_F)
    torch.testing.assert_close(code_BF @ weights["W_dec"] + weights["b_dec"], model.decode(z_BF)[:, 0])


@every_activation
def test_only_a_topk_code_is_rescaled(activation: str) -> None:
    model = random_crosscoder(activation=activation)
    expected = model.decoder_norm() if activation == "topk" else torch.ones(12, dtype=torch.float64)
    torch.testing.assert_close(identity_autoencoder(model).code_scale_F, expected)


def test_ranking_by_the_identity_blocks_own_norm_would_choose_other_features() -> None:
    """The control: what `rescale_acts_by_decoder_norm` over plain weights would do."""
    model = random_crosscoder()
    acts_BGC = samples(model)
    pre_BF, norm_F = model.pre_activations(acts_BGC), model.W_dec[:, 0].norm(dim=1)
    chosen = (pre_BF * norm_F).topk(4, dim=1).indices
    z_BF = torch.zeros_like(pre_BF).scatter(1, chosen, pre_BF.gather(1, chosen).relu())
    assert not torch.equal(z_BF > 0, model.encode(acts_BGC) > 0)


@every_activation
def test_a_feature_whose_decoder_is_zero_stays_harmless(activation: str, tmp_path: Path) -> None:
    model = random_crosscoder(activation=activation)
    model.W_dec.data[3] = 0
    config, weights = exported(tmp_path, model)
    x_BC = samples(model)[:, 0]
    recon_BC = sae_encode(config, weights, x_BC) @ weights["W_dec"] + weights["b_dec"]
    torch.testing.assert_close(recon_BC, model.decode(model.encode(samples(model)))[:, 0])


def test_an_encoder_that_reads_transformed_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reads transformed blocks found, expected one that reads the identity block"):
        write_saelens(Location.parse(tmp_path), random_crosscoder(reads=(0, 1)), {})


@every_activation
def test_a_threshold_that_training_never_found_is_refused(activation: str) -> None:
    model = random_crosscoder(activation=activation)
    state = model.state_dict()
    if "threshold" not in state:
        assert identity_autoencoder(model).weights["W_enc"].isfinite().all()
        return
    model.load_state_dict({**state, "threshold": torch.tensor(torch.nan)})
    with pytest.raises(ValueError, match="without its threshold found"):
        identity_autoencoder(model)


@every_activation
def test_sae_lens_reads_it(activation: str, tmp_path: Path) -> None:
    sae_lens = pytest.importorskip("sae_lens", reason="sae_lens is not installed: pip install sae-lens")
    model = random_crosscoder(activation=activation).float()
    exported(tmp_path, model)
    sae = sae_lens.SAE.load_from_disk(str(tmp_path))
    acts_BGC = samples(model).float()
    z_BF = model.encode(acts_BGC)
    code_BF = sae.encode(acts_BGC[:, 0])
    torch.testing.assert_close(code_BF, z_BF * identity_autoencoder(model).code_scale_F, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(code_BF), model.decode(z_BF)[:, 0], rtol=1e-5, atol=1e-5)
