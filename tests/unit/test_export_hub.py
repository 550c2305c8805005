"""What goes to the hub comes back bit for bit, and says where it comes from without telling of anybody's disk."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from gc_core import groups
from gc_core.crosscoder import Crosscoder, CrosscoderShape, GroupCrosscoder
from gc_core.export import Story, identity_autoencoder, materialised, materialised_bytes, write_hub
from gc_core.io.location import Location
from gc_core.io.ownership import MARKER, ForeignError
from support.random_crosscoders import every_activation, random_crosscoder

STORY = Story(
    name="topk-12",
    trained={"train": {"activation": "topk", "steps": 30}, "results": {"fvu": 0.25, "dead_share": 0.5}},
    store={
        "backbone": "googlenet",
        "layer": "inception3b",
        "config": {"images": "/home/someone/photographs/", "weights": "/home/someone/net.pth", "seed": 0},
        "weights_sha256": "ab12",
        "resize": {"shorter_side_px": 256},
    },
    evaluation={"held_out": {"fvu": 0.375, "fvu_identity": 0.3, "num_rows": 20}},
)


def tied() -> Crosscoder:
    shape = CrosscoderShape(
        group=groups.parse("D3"),
        channels=5,
        dict_size=2 + 4 * 6,
        reads=tuple(range(6)),
        activation="topk",
        k=2,
        tying="orbit",
        invariant=2,
    )
    model = Crosscoder.of(shape)
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(generator=torch.Generator().manual_seed(0))
    model.keep_ties()
    return model


def test_tied_poses_are_written_with_weights_of_their_own_where_these_fit(tmp_path: Path) -> None:
    model = tied()
    needed = materialised_bytes(model.shape)
    write_hub(Location.parse(tmp_path), materialised(model, needed), STORY)
    found = Crosscoder.load(str(tmp_path))
    assert type(found) is GroupCrosscoder
    assert torch.equal(found.W_dec, model.decoder_of(torch.arange(26)))
    assert needed == 2 * sum(4 * getattr(found, name).numel() for name in ("W_enc", "b_enc", "W_dec"))
    assert materialised(found, 0) is found, "nothing to untie"
    with pytest.raises(ValueError, match=r"^export: 26 features with weights of their own take"):
        materialised(model, needed - 1)


def test_an_autoencoder_of_tied_poses_is_refused() -> None:
    with pytest.raises(ValueError, match="export it as --format hub, or train with --encoder-reads identity"):
        identity_autoencoder(tied())


@every_activation
def test_a_crosscoder_comes_back_bit_for_bit(activation: str, tmp_path: Path) -> None:
    model = random_crosscoder(activation=activation, reads=(0, 3)).float()
    write_hub(Location.parse(tmp_path), model, STORY)
    found = GroupCrosscoder.load(str(tmp_path))
    assert found.shape == model.shape
    for name, tensor in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "model.safetensors", MARKER}


def test_the_card_opens_with_front_matter_and_leaves_the_licence_open(tmp_path: Path) -> None:
    write_hub(Location.parse(tmp_path), random_crosscoder().float(), STORY)
    card = (tmp_path / "README.md").read_text()
    matter = yaml.safe_load(card.split("---")[1])
    assert matter["library_name"] == "group-crosscoders"
    assert {"crosscoder", "D_3", "googlenet"} <= set(matter["tags"])
    assert "license" not in matter


def test_the_card_tells_how_good_it_is_and_where_it_comes_from(tmp_path: Path) -> None:
    write_hub(Location.parse(tmp_path), random_crosscoder().float(), STORY)
    card = (tmp_path / "README.md").read_text()
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", card, flags=re.MULTILINE))
    assert rows["variance unexplained, held-out images"] == "0.375"
    assert rows["of the untransformed block alone"] == "0.3"
    assert rows["layer"] == "inception3b"
    assert rows["steps"] == "30"
    assert rows["resize"] == "shorter side px 256"


def test_no_folder_of_a_persons_disk_is_published(tmp_path: Path) -> None:
    write_hub(Location.parse(tmp_path), random_crosscoder().float(), STORY)
    assert not any(b"someone" in path.read_bytes() for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "config.json").read_text())["store"]["config"]["images"] == "photographs"


def test_a_folder_of_others_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("my thesis")
    with pytest.raises(ForeignError, match=r"holds other files \(such as 'README.md'\) and is no export"):
        write_hub(Location.parse(tmp_path), random_crosscoder().float(), STORY)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "my thesis"


def test_an_own_export_is_written_again_and_an_edited_card_is_not(tmp_path: Path) -> None:
    for activation in ("topk", "l1"):
        write_hub(Location.parse(tmp_path), random_crosscoder(activation=activation).float(), STORY)
    assert GroupCrosscoder.load(str(tmp_path)).shape.activation == "l1"
    (tmp_path / "README.md").write_text("edited by its owner")
    with pytest.raises(ForeignError, match=r"README\.md: was edited, or is not this program's"):
        write_hub(Location.parse(tmp_path), random_crosscoder().float(), STORY)
    assert GroupCrosscoder.load(str(tmp_path)).shape.activation == "l1"
