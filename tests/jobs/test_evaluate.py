"""jobs.evaluate on a real local Ray, and jobs.export: numbers end in their files, wrong options in one clear line."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.models import googlenet

from gc_core import groups
from gc_core.config import HarvestConfig
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.io.json_objects import write_json
from gc_core.io.run_folder import RunFolder
from jobs import evaluate, export
from jobs.common.options import Workers
from jobs.harvest import run_harvest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A whole GoogLeNet with random weights, whose trunk is harvested."""
    path = tmp_path_factory.mktemp("weights") / "googlenet.safetensors"
    torch.manual_seed(0)
    network = googlenet(weights=None, num_classes=5, aux_logits=False, init_weights=False)
    save_file(network.state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None, classifier: str) -> RunFolder:
    """A harvest of drawn stimuli, and untrained crosscoders on it: two seeds, one that reads all blocks, an SAE."""
    found = RunFolder.at(str(tmp_path_factory.mktemp("run")))
    config = HarvestConfig(images="stimuli", max_stimuli=200, group="D1", weights=classifier, dtype="float32")
    run_harvest(found, config, Workers(num_workers=1))
    for name, group, reads, seed in (
        ("seed-0", "D_1", (0,), 0),
        ("seed-1", "D_1", (0,), 1),
        ("reader", "D_1", (0, 1), 2),
        ("sae", "trivial", (0,), 3),
    ):
        shape = CrosscoderShape(
            group=groups.parse(group), channels=480, dict_size=16, reads=reads, activation="topk", k=4
        )
        model = GroupCrosscoder(shape)
        torch.manual_seed(seed)
        for weights in model.parameters():
            torch.nn.init.normal_(weights, std=0.01)
        write_json(found.crosscoder(name), "config.json", {"train": {"k": 4}, "results": {"fvu": 1.0}})
        model.save(found.crosscoder(name))
    return found


def evaluation_of(run: RunFolder, name: str) -> dict[str, dict[str, float]]:
    return json.loads((run.crosscoder(name).local_path / "evaluation.json").read_text())


def test_every_number_is_in_its_file_and_in_the_table(
    run: RunFolder, classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--run", run.url, "--name", "seed-0", "seed-1", "--against", "seed-1", "--up-to-pose"]
    evaluate.main([*args, "--classifier", classifier, "--images", "photographs", "--max-images", "4"])
    said = capsys.readouterr().out
    first, second = evaluation_of(run, "seed-0"), evaluation_of(run, "seed-1")
    assert second["stability"]["seed-1"]["as_is"]["mean"] == pytest.approx(1, abs=1e-5)
    assert first["stability"]["seed-1"]["as_is"]["mean"] < 0.3
    assert first["downstream"]["loss"] == "kl_to_original"
    assert 1 <= first["downstream"]["num_images"] <= 4
    assert first["held_out"]["num_rows"] == first["held_out"]["num_images"] >= 2
    for name, found in (("seed-0", first), ("seed-1", second)):
        line, of_features = [line for line in said.splitlines() if line.strip().startswith(name)]
        assert f"{found['held_out']['fvu']:.3f}" in line
        assert f"{found['downstream']['recovered']:.3f}" in line
        assert found["held_out"]["l0"] <= 4
        assert f"{found['held_out']['hoyer']:.3f}" in of_features
        assert f"{found['held_out']['max_decoder_cosine']:.3f}" in of_features
        probing = found["held_out"]["probing"]
        told = "-" if probing is None else f"{probing['mean_auc']:.2f} (chance {probing['chance_mean_auc']:.2f})"
        assert of_features.rstrip().endswith(told)
    evaluate.main(["--run", run.url, "--figure", str(tmp_path / "new" / "fvu.png")])
    with Image.open(tmp_path / "new" / "fvu.png") as image:
        assert image.format == "PNG"
    assert evaluation_of(run, "seed-0")["downstream"] == first["downstream"]
    sae = evaluation_of(run, "sae")["held_out"]
    assert sae["fvu"] == sae["fvu_identity"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--name", "nobody"], "no finished crosscoder 'nobody' found, expected one of reader, sae, seed-0, seed-1"),
        (["--name", "reader", "--classifier", "CLASSIFIER"], "every position has only its untransformed activation"),
        (["--name", "seed-0", "--classifier", "bundled"], "differ from those that were harvested"),
        (["--name", "seed-0", "--classifier", "CLASSIFIER"], "no usable image found"),  # stimuli are small
        (["--name", "seed-0", "--against", "sae"], "features of different blocks cannot be matched"),
        (["--labels", "labels.txt"], "given without --classifier"),
        (["--figure", "fvu.gif"], "expected a file name that ends in .png, .svg or .pdf"),
    ],
)
def test_a_wrong_option_ends_with_one_clear_line(
    run: RunFolder, classifier: str, args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [classifier if arg == "CLASSIFIER" else arg for arg in args]
    with pytest.raises(SystemExit) as end:
        evaluate.main(["--run", run.url, *given])
    said = "".join(capsys.readouterr())
    assert end.value.code not in (0, None)
    assert message in " ".join(said.replace("│", " ").split())
    assert "Traceback" not in said
    assert "ray::" not in said


def test_an_export_to_the_hub_is_the_crosscoder(run: RunFolder, tmp_path: Path) -> None:
    export.main(["--run", run.url, "--name", "reader", "--format", "hub", "--out", str(tmp_path / "hub")])
    model, found = (GroupCrosscoder.load(folder) for folder in (run.crosscoder("reader"), str(tmp_path / "hub")))
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert "inception3b" in (tmp_path / "hub" / "README.md").read_text()


def test_an_export_to_saelens_names_the_layer(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export.main(["--run", run.url, "--name", "seed-0", "--format", "saelens", "--out", str(tmp_path / "sae")])
    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert (config["architecture"], config["k"], config["d_sae"]) == ("topk", 4, 16)
    assert config["metadata"]["hook_name"] == "inception3b"
    assert load_file(tmp_path / "sae" / "sae_weights.safetensors")["W_enc"].shape == (480, 16)
    with pytest.raises(SystemExit):
        export.main(["--run", run.url, "--name", "reader", "--format", "saelens", "--out", str(tmp_path / "no")])
    assert "a SAELens autoencoder sees nothing else" in capsys.readouterr().out
