"""Encoding and decoding are the plain formulas; what is saved comes back; what is not a crosscoder is refused.

Letters: B samples, G group elements, E elements that the encoder reads, C channels, F features, K active features.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import Arithmetic, CrosscoderShape, GroupCrosscoder
from gc_core.io import objects
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.location import Location
from support.random_crosscoders import samples

READS = [(0,), tuple(range(6)), (4, 1)]
every_encoder = pytest.mark.parametrize("reads", READS, ids=["identity", "all", "some"])
every_activation = pytest.mark.parametrize("activation", ["topk", "batchtopk", "jumprelu", "l1"])


def crosscoder(*, group: str = "D_3", **changes: Any) -> GroupCrosscoder:
    """Random float64 weights, decoder rows of very different norms."""
    options = {"channels": 5, "dict_size": 12, "reads": (0,), "activation": "topk", "k": 4}
    model = GroupCrosscoder(CrosscoderShape(group=groups.parse(group), **options | changes)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.randn(weights.shape, dtype=torch.float64, generator=generator))
        model.W_dec.mul_(torch.logspace(-1, 1, model.shape.dict_size)[:, None, None])
    return model


def plain_pre_activations(model: GroupCrosscoder, acts_BGC: Tensor) -> Tensor:
    return torch.einsum("fec,bec->bf", model.W_enc, acts_BGC[:, list(model.shape.reads)]) + model.b_enc


@every_encoder
def test_an_l1_code_is_the_rectified_linear_map_of_the_blocks_read(reads: tuple[int, ...]) -> None:
    model = crosscoder(activation="l1", reads=reads)
    acts_BGC = samples(model, 9)
    torch.testing.assert_close(model.encode(acts_BGC), plain_pre_activations(model, acts_BGC).clamp_min(0))


@every_encoder
def test_a_topk_code_keeps_the_k_values_that_move_the_reconstruction_most(reads: tuple[int, ...]) -> None:
    model = crosscoder(reads=reads)
    acts_BGC = samples(model, 9)
    pre_BF = plain_pre_activations(model, acts_BGC)
    weight_BF = pre_BF * model.W_dec.square().sum((1, 2)).sqrt()
    least_B1 = weight_BF.sort(dim=1, descending=True).values[:, 3:4]
    expected = torch.where((weight_BF >= least_B1) & (pre_BF > 0), pre_BF, 0)
    torch.testing.assert_close(model.encode(acts_BGC), expected)


def test_the_decoder_norm_takes_part_in_the_choice() -> None:
    model = crosscoder()
    acts_BGC = samples(model, 9)
    by_value = plain_pre_activations(model, acts_BGC).topk(4, dim=1).indices
    assert (model.encode(acts_BGC).gather(1, by_value) == 0).any()


@every_encoder
def test_a_jumprelu_code_keeps_what_exceeds_its_threshold(reads: tuple[int, ...]) -> None:
    model = crosscoder(activation="jumprelu", reads=reads)
    acts_BGC = samples(model, 9)
    pre_BF = plain_pre_activations(model, acts_BGC)
    expected = pre_BF * (pre_BF > torch.exp(model.log_threshold))
    torch.testing.assert_close(model.encode(acts_BGC), expected)
    assert not expected.equal(pre_BF.clamp_min(0))


@every_encoder
def test_a_batchtopk_code_keeps_scores_from_the_threshold_on(reads: tuple[int, ...]) -> None:
    model, plain = crosscoder(activation="batchtopk", reads=reads), crosscoder(reads=reads)
    acts_BGC = samples(model, 9)
    torch.testing.assert_close(model.encode(acts_BGC), plain.encode(acts_BGC))  # while none is known
    model.threshold.fill_(3.0)
    pre_BF = plain_pre_activations(model, acts_BGC)
    score_BF = pre_BF * model.W_dec.square().sum((1, 2)).sqrt()
    expected = torch.where(score_BF >= 3.0, pre_BF, 0)
    torch.testing.assert_close(model.encode(acts_BGC), expected)
    torch.testing.assert_close(model.encode(acts_BGC[:1]), expected[:1])
    assert (expected > 0).sum(1).unique().numel() > 1, "samples differ in their number of features"


def test_some_features_are_encoded_as_among_all() -> None:
    model = crosscoder()
    acts_BGC, features = samples(model, 9), torch.tensor([7, 2, 2])
    torch.testing.assert_close(model.pre_activations(acts_BGC, features), model.pre_activations(acts_BGC)[:, features])


@pytest.mark.parametrize("sparse", [True, False])
def test_some_blocks_are_decoded_as_among_all(sparse: bool) -> None:
    model = crosscoder()
    acts_BGC, blocks = samples(model, 9), torch.tensor([4, 0])
    code = model.sparse_code(acts_BGC)[0] if sparse else model.encode(acts_BGC)
    decode = model.decode_sparse if sparse else model.decode
    torch.testing.assert_close(decode(code, blocks=blocks), decode(code)[:, blocks])
    torch.testing.assert_close(decode(code, onto_BGC=acts_BGC), decode(code) - model.b_dec + acts_BGC)


def test_bfloat16_products_are_near_and_never_stored() -> None:
    model = crosscoder(activation="l1").float()
    acts_BGC = samples(model, 9).float()
    exact = model.decode(model.encode(acts_BGC))
    in_halves = model.computing(Arithmetic(product_dtype=torch.bfloat16))
    rough = in_halves.decode(in_halves.encode(acts_BGC))
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() / exact.norm() < 0.02


@every_encoder
def test_only_the_blocks_read_change_the_code(reads: tuple[int, ...]) -> None:
    model = crosscoder(reads=reads)
    acts_BGC = samples(model, 9)
    for g in range(6):
        changed = acts_BGC.clone()
        changed[:, g] += 1
        assert model.encode(changed).equal(model.encode(acts_BGC)) == (g not in reads)


def test_decoding_is_the_sum_of_features_and_bias() -> None:
    model = crosscoder()
    z_BF = torch.rand(7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = torch.einsum("bf,fgc->bgc", z_BF, model.W_dec) + model.b_dec
    torch.testing.assert_close(model.decode(z_BF), expected)


@every_activation
@pytest.mark.parametrize("known", [True, False])
def test_reconstructing_at_once_is_encoding_and_decoding(activation: str, known: bool) -> None:
    model = crosscoder(activation=activation)
    if model.threshold is not None:
        model.threshold.fill_(2.0 if known else torch.nan)
    acts_BGC = samples(model, 9)
    z_BF, recon_BGC = model.reconstruct(acts_BGC)
    torch.testing.assert_close(z_BF, model.encode(acts_BGC).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(recon_BGC, model.decode(z_BF).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [1, 4, 12])
def test_sparse_and_dense_decoding_agree_in_value_and_gradient(k: int) -> None:
    model = crosscoder(k=k)
    acts_BGC = samples(model, 9)
    probe_BGC = torch.linspace(-1, 1, acts_BGC.numel(), dtype=torch.float64).view_as(acts_BGC)

    def sparse() -> Tensor:
        return model.decode_sparse(model.sparse_code(acts_BGC)[0])

    def dense() -> Tensor:
        return model.decode(model.encode(acts_BGC))

    def gradients(decode: Callable[[], Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad((decode() * probe_BGC).sum(), list(model.parameters())))

    torch.testing.assert_close(sparse(), dense(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients(sparse), gradients(dense), rtol=1e-10, atol=1e-10)
    assert all(gradient.any() for gradient in gradients(sparse))


@every_activation
def test_folding_the_scale_keeps_codes_and_unscales_reconstructions(activation: str) -> None:
    model, folded = crosscoder(activation=activation), crosscoder(activation=activation)
    for each in (model, folded):
        if each.threshold is not None:
            each.threshold.fill_(2.0)
    folded.fold_scale(2.5)
    raw_BGC = samples(model, 9)
    z_BF = model.encode(2.5 * raw_BGC)
    assert ((z_BF == 0) & (plain_pre_activations(model, 2.5 * raw_BGC) > 0)).any() or activation == "l1"
    torch.testing.assert_close(folded.encode(raw_BGC), z_BF)
    torch.testing.assert_close(folded.decode(z_BF), model.decode(z_BF) / 2.5)


@every_activation
def test_the_trivial_group_gives_a_plain_autoencoder(activation: str) -> None:
    model = crosscoder(group="trivial", activation=activation)
    acts_B1C = samples(model, 9)
    assert model.W_dec.shape == (12, 1, 5)
    assert model.decode(model.encode(acts_B1C)).shape == acts_B1C.shape


def saved(folder: Path, **changes: Any) -> GroupCrosscoder:
    model = crosscoder(**changes).float()
    model.save(str(folder))
    return model


@every_encoder
@every_activation
def test_what_is_saved_comes_back(tmp_path: Path, reads: tuple[int, ...], activation: str) -> None:
    model = saved(tmp_path / "new", reads=reads, activation=activation)
    found = GroupCrosscoder.load(str(tmp_path / "new"))
    assert found.shape == model.shape
    for name, weights in model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], weights, rtol=0, atol=0, equal_nan=True)


def test_saving_keeps_what_else_the_json_says(tmp_path: Path) -> None:
    write_json(Location.parse(tmp_path), "config.json", {"train": {"steps": 3}, "crosscoder": "older"})
    saved(tmp_path)
    assert read_json(Location.parse(tmp_path), "config.json")["train"] == {"steps": 3}
    assert GroupCrosscoder.load(str(tmp_path)).shape.dict_size == 12


@pytest.mark.parametrize("missing", [["config.json", "model.safetensors"], ["config.json"]])
def test_an_unfinished_crosscoder_is_refused_with_the_remedy(tmp_path: Path, missing: list[str]) -> None:
    saved(tmp_path)
    for name in missing:
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"no finished crosscoder found; train one with `python -m jobs.train`$"):
        GroupCrosscoder.load(str(tmp_path))


def test_weights_that_are_gone_are_told_from_a_crosscoder_that_was_never_trained(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"its model\.safetensors is missing; the command that trained it"):
        GroupCrosscoder.load(str(tmp_path))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path: Path, value: float) -> None:
    model = crosscoder()
    with torch.no_grad():
        model.W_dec[3, 2, 1] = value
    with pytest.raises(ValueError, match="W_dec is not finite"):
        model.save(str(tmp_path))
    saved(tmp_path)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    objects.write(Location.parse(tmp_path), "model.safetensors", save(weights))
    config = read_json(Location.parse(tmp_path), "config.json")
    write_json(Location.parse(tmp_path), "config.json", {name: config[name] for name in ("crosscoder",)})
    with pytest.raises(ValueError, match="W_dec has values that are not finite"):
        GroupCrosscoder.load(str(tmp_path))


DAMAGE = {
    "other weights": ("model.safetensors", lambda other: objects.read(other, "model.safetensors")),
    "cut weights": ("model.safetensors", lambda other: objects.read(other, "model.safetensors")[:-9]),
    "no weights": ("model.safetensors", lambda other: b""),
    "no JSON": ("config.json", lambda other: b"<html>"),
    "no crosscoder in it": ("config.json", lambda other: b'{"train": {}}'),
    "a list": ("config.json", lambda other: b"[]"),
    "unknown field": ("config.json", lambda other: b'{"crosscoder": {"reads": [0], "colour": 1}}'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_crosscoder_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    saved(tmp_path / "intact")
    saved(tmp_path / "other", dict_size=13)
    name, content = DAMAGE[damage]
    objects.write(Location.parse(tmp_path / "intact"), name, content(Location.parse(tmp_path / "other")))
    named = (
        r"not a crosscoder that this version reads|SHA-256 .* was recorded|not readable as JSON|expected a JSON object"
    )
    with pytest.raises(ValueError, match=named) as caught:
        GroupCrosscoder.load(str(tmp_path / "intact"))
    assert "\n" not in str(caught.value)


def test_loading_maps_the_file_and_copies_nothing(tmp_path: Path) -> None:
    shape = CrosscoderShape(group=groups.parse("D_8"), channels=64, dict_size=16384, reads=(0,), activation="topk", k=8)
    model = GroupCrosscoder(shape)
    torch.nn.init.normal_(model.W_dec)
    model.save(str(tmp_path))
    weights_bytes = model.W_dec.nbytes
    before = anonymous_bytes()
    loaded = GroupCrosscoder.load(str(tmp_path))
    assert torch.equal(loaded.W_dec, model.W_dec)
    assert anonymous_bytes() - before < weights_bytes / 8
    with torch.no_grad():
        loaded.W_dec.zero_()  # of this process alone
    assert torch.equal(GroupCrosscoder.load(str(tmp_path)).W_dec, model.W_dec)


def anonymous_bytes() -> int:
    """Memory of this process that no file stands for."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))
