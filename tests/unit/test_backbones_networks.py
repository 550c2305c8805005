"""Where networks come from, and what is said where one cannot be had or its layer cannot be read."""

import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gc_core import backbones
from gc_core.backbones import ModuleBackbone
from gc_core.backbones.layer_table import layer_table
from gc_core.backbones.networks import load_network
from gc_core.backbones.preprocessing import asked_for
from support.networks import network

SQUEEZENET = "torchvision:squeezenet1_1"


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(6, 4, 3))


class Returning(nn.Module):
    """A network whose layer `inner` puts out what a function makes of a map."""

    def __init__(self, make: Callable[[Tensor], object]) -> None:
        super().__init__()

        class Inner(nn.Module):
            def forward(self, x: Tensor) -> object:
                return make(x)

        self.conv, self.inner = nn.Conv2d(3, 4, 3), Inner()

    def forward(self, images: Tensor) -> object:
        return self.inner(self.conv(images))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.unused = nn.Conv2d(3, 3, 3), nn.ReLU(), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.conv(self.act(self.conv(images))))


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, whose modules can be imported while the test runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_random_weights_follow_from_the_seed() -> None:
    hashes = [
        backbones.load(SQUEEZENET, layer="features.2", weights=f"random:{seed}").weights_sha256 for seed in (1, 1, 2)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_file_of_weights_gives_its_numbers(tmp_path: Path) -> None:
    source = load_network(SQUEEZENET, "random:4").module
    save_file(source.state_dict(), str(tmp_path / "weights.safetensors"))
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    patches = torch.rand(2, 3, 7, 7) * 255
    expected = backbones.load(SQUEEZENET, layer="features.2", weights="random:4")
    for name in ("weights.safetensors", "weights.pth"):
        found = backbones.load(SQUEEZENET, layer="features.2", weights=str(tmp_path / name))
        assert found.weights_sha256 == expected.weights_sha256
        assert torch.equal(found.unit(patches), expected.unit(patches))


def test_weights_of_another_network_are_told_both_ways(tmp_path: Path) -> None:
    state = {**load_network(SQUEEZENET, "random:0").module.state_dict(), "other.weight": torch.zeros(1)}
    del state["features.0.bias"]
    save_file(state, str(tmp_path / "weights.safetensors"))
    with pytest.raises(ValueError, match=r"features\.0\.bias missing in the file, other\.weight unknown") as told:
        backbones.load(SQUEEZENET, layer="features.2", weights=str(tmp_path / "weights.safetensors"))
    assert "\n" not in str(told.value)
    shapes = {**load_network(SQUEEZENET, "random:0").module.state_dict(), "features.0.bias": torch.zeros(3)}
    save_file(shapes, str(tmp_path / "shapes.safetensors"))
    with pytest.raises(ValueError, match=r"features\.0\.bias \(3,\) for \(64,\) of another shape"):
        backbones.load(SQUEEZENET, layer="features.2", weights=str(tmp_path / "shapes.safetensors"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("torchvision:resnet5", "near it are .*resnet50"),
        ("torchvision:fcn_resnet50", "torchvision has no network"),
        ("timm:resnet500", "near it are .*resnet50"),
        ("hf:no/such-model", "cannot be had"),
        ("no_such_package:function", "No module named"),
        ("math:sqrt", "TypeError: .*takes exactly one"),
        ("alexnet", "expected one of googlenet, inceptionv1, efficientnet-lite0, torchvision:NAME"),
        ("nowhere.pt2", "no such weight file"),
        ("nowhere.pt", "no such weight file"),
    ],
)
def test_a_network_that_is_not_there_is_told_in_one_line(name: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=told) as error:
        backbones.load(name, layer="x", weights=None if name.startswith(("no", "math", "alex")) else "random:0")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["timm:resnet18", "hf:resnet"])
def test_networks_of_libraries_have_a_field(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    layer = {"timm:resnet18": "maxpool", "hf:resnet": "embedder"}[name]
    backbone = backbones.load(name, layer=layer, weights="random:0")
    assert (backbone.channels, backbone.receptive_field_px, backbone.stride_px) == (64, 11, 4)


def test_a_function_of_ones_own_is_imported_from_the_current_folder(importable: Path) -> None:
    (importable / "mine_to_import.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()).train()\n\n"
        "def wrong():\n    return 3\n\nnumber = 4\n"
    )
    backbone = backbones.load("mine_to_import:make", layer="1", weights="random:7")
    again = backbones.load("mine_to_import:make", layer="1", weights="random:7")
    assert (backbone.channels, backbone.receptive_field_px) == (5, 3)
    assert backbone.weights_sha256 == again.weights_sha256
    assert not backbone.training
    assert "ASSUMED" in backbone.preprocessing
    for name, told in (
        ("wrong", "returned a int"),
        ("number", "not callable"),
        ("none", "no attribute"),
    ):
        with pytest.raises(ValueError, match=told):
            backbones.load(f"mine_to_import:{name}", layer="1")


def test_an_exported_network_keeps_its_layers_and_numbers(tmp_path: Path) -> None:
    module = small().eval()
    images = torch.rand(2, 3, 32, 32)
    batch = torch.export.Dim("batch", min=1, max=64)
    for name, shapes in (("any.pt2", {"input": {0: batch}}), ("two.pt2", None)):
        program = torch.export.export(module, (images,), dynamic_shapes=shapes)
        torch.export.save(program, tmp_path / name)
        backbone = backbones.load(str(tmp_path / name), layer="0")
        assert isinstance(backbone, ModuleBackbone)
        pixels = images * 255
        with torch.no_grad():
            expected = module[0](backbone.normalised(pixels))
        torch.testing.assert_close(backbone.whole(pixels), expected, atol=1e-5, rtol=1e-5)
        patches = torch.rand(3, 3, backbone.receptive_field_px, backbone.receptive_field_px) * 255
        with torch.no_grad():
            unit = nn.functional.conv2d(backbone.normalised(patches), module[0].weight, module[0].bias)
        torch.testing.assert_close(backbone.unit(patches), unit[:, :, 0, 0], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="holds its own"):
        backbones.load(str(tmp_path / "any.pt2"), layer="0", weights="random:0")


def test_a_scripted_network_has_its_output_as_layer(tmp_path: Path) -> None:
    module = small().eval()
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.save(torch.jit.trace(module, torch.rand(1, 3, 16, 16)), str(tmp_path / "net.pt"))
    backbone = backbones.load(str(tmp_path / "net.pt"), layer="output")
    assert (backbone.channels, backbone.receptive_field_px, backbone.stride_px) == (4, 5, 1)
    patches = torch.rand(3, 3, 5, 5) * 255
    with torch.no_grad():
        expected = module(nn.functional.pad(backbone.normalised(patches), (1, 1, 1, 1)))[:, :, 2, 2]
    torch.testing.assert_close(backbone.unit(patches), expected, atol=1e-5, rtol=1e-5)


class _Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("import pathlib; pathlib.Path('harmed').touch()",)


def test_a_pickle_in_an_exported_file_is_never_run(importable: Path) -> None:
    program = torch.export.export(small().eval(), (torch.rand(2, 3, 32, 32),))
    torch.export.save(program, importable / "good.pt2")
    with zipfile.ZipFile(importable / "good.pt2") as good, zipfile.ZipFile(importable / "bad.pt2", "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            bad.writestr(name, pickle.dumps(_Harmful()) if name.endswith(".pt") else content)
    with pytest.raises(ValueError, match="holds a pickle"):
        backbones.load(str(importable / "bad.pt2"), layer="0")
    with zipfile.ZipFile(importable / "good.pt2") as good, zipfile.ZipFile(importable / "flag.pt2", "w") as flag:
        for name in good.namelist():
            content = good.read(name)
            flag.writestr(name, content.replace(b'"use_pickle": false', b'"use_pickle": true'))
    with pytest.raises(ValueError, match="stored as a pickle"):
        backbones.load(str(importable / "flag.pt2"), layer="0")
    assert not (importable / "harmed").exists()


def test_layers_that_cannot_be_read_are_refused_in_one_line() -> None:
    cases: list[tuple[nn.Module, str, str]] = [
        (Twice(), "act", "computed 2 times"),
        (Twice(), "unused", "computed never"),
        (Returning(lambda x: (x, x)), "inner", "a tuple with 2 tensors"),
        (Returning(lambda x: {"a": 3}), "inner", "a dict with 0 tensors"),
        (Returning(lambda x: x.flatten(2)[:, :3]), "inner", "3 tokens"),
        (small(), "3", "near it are"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), "1", "give its input size as --input-px"),
    ]
    for module, layer, told in cases:
        with pytest.raises(ValueError, match=told) as error:
            ModuleBackbone("test", network(lambda module=module: module, 32), layer=layer)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="--layer: name one"):
        ModuleBackbone("test", network(small, 32))


def test_one_tensor_in_a_tuple_or_dict_is_taken() -> None:
    for make in (lambda x: (x, 3), lambda x: {"map": x}, lambda x: [x]):
        backbone = ModuleBackbone("test", network(lambda make=make: Returning(make), 32), layer="inner")
        assert (backbone.channels, backbone.receptive_field_px) == (4, 3)


def test_work_in_place_after_the_layer_does_not_reach_it() -> None:
    backbone = ModuleBackbone("test", network(small, 32), layer="0", dtype=torch.float64)
    patches = torch.rand(50, 3, 3, 3, dtype=torch.float64) * 255
    assert backbone.unit(patches).min() < 0
    assert backbone.whole(patches).min() < 0


def test_weights_in_half_precision_are_computed_in_the_type_asked_for() -> None:
    found = network(lambda: small().half(), 32)
    found.module.half()
    assert ModuleBackbone("test", found, layer="0").unit(torch.rand(2, 3, 3, 3) * 255).dtype == torch.float32


@pytest.mark.parametrize(
    ("option", "mean", "std", "order"),
    [
        ("clip", 0.48145466, 0.26862954, "RGB"),
        ("0.5/0.25", 0.5, 0.25, "RGB"),
        ("0.4,0.5,0.6/1,2,3/bgr", 0.4, 1.0, "BGR"),
        ("bytes/BGR", 0.0, 1 / 255, "BGR"),
    ],
)
def test_preprocessing_by_name_or_by_numbers(option: str, mean: float, std: float, order: str) -> None:
    found = asked_for(option)
    assert found is not None
    assert (found.mean_RGB[0], found.std_RGB[0], found.order) == (mean, std, order)


@pytest.mark.parametrize(
    "option", ["", "imagnet", "0.5", "0.5/0", "0.5,0.5/1", "a/b", "0.5/0.5/rgb", "nan/1", "0.5/inf"]
)
def test_other_preprocessing_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match="expected auto, imagenet"):
        asked_for(option)


def test_the_table_says_of_each_layer_what_loading_it_finds() -> None:
    rows, left_out = layer_table(load_network(SQUEEZENET, "random:0"))
    assert "features.3.squeeze" in {row.name for row in rows}
    assert not left_out
    for row in rows[3:30:9]:
        backbone = backbones.load(SQUEEZENET, layer=row.name, weights="random:0")
        assert (row.channels, row.field_px, row.stride_px) == (
            backbone.channels,
            None if backbone.sees_disc else backbone.receptive_field_px,
            backbone.stride_px,
        )
    first = next(row for row in rows if row.name == "features.0")
    assert first.mflop == pytest.approx(2 * 64 * 27 / 1e6)
