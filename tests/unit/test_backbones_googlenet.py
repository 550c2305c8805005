"""GoogLeNet is torchvision's, whatever its weights come from; weights that cannot be had say so in one line."""

import io
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import GoogLeNet

from gc_core.backbones import googlenet, load
from gc_core.backbones.weights import parse_state, sha256_of

MAPS = ["conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b"]
BRANCHES = ["conv1.bn", "inception3a.branch1", "inception3a.branch2.0", "inception3a.branch3", "inception3b.branch4.0"]


def torchvision_network() -> GoogLeNet:
    """Random weights and batch norms that are far from doing nothing; float64, frozen."""
    torch.manual_seed(0)
    network = GoogLeNet(aux_logits=False, init_weights=False).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, dtype=torch.float64)
            module.running_var = 0.5 + torch.rand(module.num_features, dtype=torch.float64)
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    return network.requires_grad_(False)


def torchvision_map(network: GoogLeNet, layer: str, pixels: Tensor) -> Tensor:
    """What a hook on `layer` sees when the whole network runs on normalised pixels."""
    seen: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: seen.append(output.clone())
    )
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    network((pixels / 255 - mean) / std)
    handle.remove()
    return seen[0]


@pytest.fixture(scope="module")
def network() -> GoogLeNet:
    return torchvision_network()


@pytest.fixture(scope="module")
def saved_network(network: GoogLeNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("googlenet") / "network.pth"
    torch.save({name: t for name, t in network.state_dict().items() if name.startswith(tuple(MAPS))}, path)
    return path


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return 255 * torch.rand(1, 3, 74, 81, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("layer", MAPS + BRANCHES)
def test_folded_network_is_torchvisions(layer: str, network: GoogLeNet, pixels: Tensor, saved_network: Path) -> None:
    backbone = load("googlenet", layer=layer, weights=str(saved_network), dtype=torch.float64)
    expected = torchvision_map(network, layer, pixels)
    torch.testing.assert_close(backbone.whole(pixels), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_bundled_weights_in_torchvisions_network(dtype: torch.dtype, tolerance: float, pixels: Tensor) -> None:
    network = torchvision_network()
    state = load_file(Path(googlenet.__file__).parent / "data" / googlenet.BUNDLED_FILE)
    unused = network.load_state_dict({name: tensor.double() for name, tensor in state.items()}, strict=False)
    assert not [name for name in unused.missing_keys if name.startswith(tuple(MAPS)) and "num_batches" not in name]
    backbone = load("googlenet", dtype=dtype)
    assert backbone.weights_sha256 == googlenet.BUNDLED_SHA256
    expected = torchvision_map(network, "inception3b", pixels)
    torch.testing.assert_close(backbone.whole(pixels).double(), expected, rtol=tolerance, atol=tolerance)


def test_published_weights_see_the_pixels_that_transform_input_makes(
    network: GoogLeNet, pixels: Tensor, saved_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(googlenet, "PUBLISHED_SHA256_START", sha256_of(saved_network.read_bytes())[:8])
    backbone = load("googlenet", weights=saved_network.as_uri(), dtype=torch.float64)
    monkeypatch.setattr(network, "transform_input", True)
    expected = torchvision_map(network, "inception3b", pixels)
    torch.testing.assert_close(backbone.whole(pixels), expected, rtol=1e-9, atol=1e-9)


def test_published_weights_are_taken_from_torchs_cache_without_network(
    saved_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hub" / "checkpoints" / "googlenet-1378be20.pth"
    path.parent.mkdir(parents=True)
    shutil.copy(saved_network, path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"SHA-256 does not start with 1378be20; delete the file"):
        load("googlenet", weights="torchvision")
    monkeypatch.setattr(googlenet, "PUBLISHED_SHA256_START", sha256_of(path.read_bytes())[:8])
    assert load("googlenet", weights="torchvision").weights_sha256 == sha256_of(path.read_bytes())


@pytest.mark.parametrize("failure", [URLError("no route to host"), RuntimeError("invalid hash value")])
def test_failed_download_names_the_alternatives(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*args: object, **options: object) -> None:
        raise failure

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(
        ValueError, match=r'could not be downloaded .*give its path as weights, or use weights="bundled"'
    ) as e:
        load("googlenet", weights="torchvision")
    assert "\n" not in str(e.value)


def test_changed_bundled_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(googlenet, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"SHA-256 is 7f8527bb.*, expected 0000.*reinstall"):
        load("googlenet")


def test_weights_of_another_network_are_refused_by_name_or_shape(network: GoogLeNet, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(tuple(MAPS))}
    save_file(
        {name: tensor for name, tensor in state.items() if name != "conv3.bn.bias"}, tmp_path / "short.safetensors"
    )
    with pytest.raises(ValueError, match=r"has no conv3\.bn\.bias, expected torchvision's parameter names"):
        load("googlenet", weights=str(tmp_path / "short.safetensors"))
    save_file(state | {"conv3.conv.weight": torch.zeros(192, 64, 5, 5)}, tmp_path / "wide.safetensors")
    with pytest.raises(ValueError, match=r"conv3 has weights \(192, 64, 5, 5\).*expected \(192, 64, 3, 3\)"):
        load("googlenet", weights=str(tmp_path / "wide.safetensors"))
    save_file(state | {"conv3.bn.bias": torch.full((192,), torch.nan)}, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=r"conv3 holds values that are not finite"):
        load("googlenet", weights=str(tmp_path / "nan.safetensors"))


@pytest.mark.parametrize("kept_bytes", [0, 5, 100, -1])
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_cut_short_file_is_refused_in_one_line(kind: str, kept_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{kind}"
    state = {"conv1.conv.weight": torch.zeros(64, 3, 7, 7)}
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(ValueError, match=r"neither a safetensors file nor a torch state dict") as error:
        load("googlenet", weights=str(path))
    assert "\n" not in str(error.value)


def test_any_file_that_holds_no_weights_is_refused_in_one_line() -> None:
    """Such as /etc/passwd, whose first letters torch takes for a program: it ended in an IndexError."""
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(3), "b": [1, "x"]}, plain, _use_new_zipfile_serialization=False)
    rng = random.Random(0)
    codes = b"()]}{.quehsRbcitoX\x80\x02\x8a0123\n:/abc\x93\x8c\x94"
    others = [bytes(rng.choices(codes, k=rng.randrange(60))) for _ in range(500)]
    lines = [
        refusal(content)
        for content in [b"root:x:0:0:root:/root:/bin/bash\n", *others, *mutants(plain.getvalue(), 500, rng)]
    ]
    refused = [line for line in lines if line]
    assert len(refused) > 700
    assert not any("\n" in line or not line.startswith("here: ") for line in refused)


def refusal(content: bytes) -> str:
    """The line, or nothing where the file is read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of programs that it does not know
        try:
            parse_state(content, "here")
        except ValueError as error:
            return str(error)
    return ""


def mutants(content: bytes, count: int, rng: random.Random) -> Iterator[bytes]:
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        yield bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.3 else changed)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"conv1.conv.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match=r"neither a safetensors file nor a torch state dict of tensors alone"):
        load("googlenet", weights=str(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("weights", "line"),
    [("/no/such/file", r"/no/such/file: no such weight file"), ("s3://bucket/w", r"a path or a file:// URL")],
)
def test_weights_that_are_not_there_are_refused(weights: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        load("googlenet", weights=weights)
