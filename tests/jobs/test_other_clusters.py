"""The cluster files beside cluster.yaml: Ray accepts them, and they promise what cluster.yaml promises."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
FILES = ["cluster-onpremise.yaml", "cluster-gcp.yaml"]

Config = dict[str, Any]


def text_of(name: str) -> str:
    return (ROOT / "infra" / name).read_text()


@pytest.fixture(params=FILES)
def text(request: pytest.FixtureRequest) -> str:
    return text_of(request.param)


@pytest.fixture
def config(text: str) -> Config:
    return yaml.safe_load(text)


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token, and with the files that are copied from the project's root."""
    (tmp_path / ".ray").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("own_home")
def test_ray_accepts_the_file(config: Config) -> None:
    validate_config(prepare_config(config))


def test_the_dashboard_is_closed_and_clients_show_a_token(text: str, config: Config) -> None:
    start = config["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    assert "0.0.0.0" not in text
    assert "RAY_AUTH_MODE=token" in start + str(config.get("docker"))
    assert config["file_mounts"]["~/.ray"] == "~/.ray"


def test_both_ends_use_the_same_ports(config: Config) -> None:
    head, worker = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][1]
    assert re.findall(r" --port=(\d+)", head) == re.findall(r"RAY_HEAD_IP:(\d+)", worker) == ["6379"]
    assert re.findall(r"--object-manager-port=\d+", head) == re.findall(r"--object-manager-port=\d+", worker)


def test_uv_is_that_of_the_image(text: str) -> None:
    (version,) = re.findall(r"uv==(\S+)", text_of("Dockerfile"))
    assert set(re.findall(r"(?:uv==|astral\.sh/uv/)(\d+\.\d+\.\d+)", text)) == {version}


def test_machines_of_ones_own_get_a_python_that_the_project_takes() -> None:
    bounds = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    named = re.findall(r"(?:--python |UV_PYTHON=)(\S+?)[;\s]", text_of("cluster-onpremise.yaml"))
    assert len(named) == 3
    assert set(named) == {bounds.split(",")[0].removeprefix(">=")}


def test_workers_over_ssh_are_started_by_the_autoscaler_that_can() -> None:
    start = yaml.safe_load(text_of("cluster-onpremise.yaml"))["head_start_ray_commands"][-1]
    assert start.index("RAY_enable_autoscaler_v2=0") < start.index("ray start")


def test_the_images_on_google_cloud_carry_the_locked_ray() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    (version,) = (package["version"] for package in lock["package"] if package["name"] == "ray")
    tags = re.findall(r"^[^#\n]*rayproject/ray:(\S+)", text_of("cluster-gcp.yaml"), re.MULTILINE)
    assert len(tags) == 3
    assert {tag.split("-py")[0] for tag in tags} == {version}


def test_workers_on_google_cloud_are_spot_and_start_from_zero() -> None:
    kinds = yaml.safe_load(text_of("cluster-gcp.yaml"))["available_node_types"]
    models = {name: kind["node_config"].get("scheduling", {}).get("provisioningModel") for name, kind in kinds.items()}
    assert models == {"head": None, "gpu": "SPOT", "cpu": "SPOT"}
    assert {kind["min_workers"] for kind in kinds.values()} == {0}
    assert kinds["head"]["resources"] == {"CPU": 0}
    assert kinds["gpu"]["resources"]["GPU"] == 1


def test_every_node_on_google_cloud_is_an_account_of_ours() -> None:
    kinds = yaml.safe_load(text_of("cluster-gcp.yaml"))["available_node_types"]
    accounts = {name: kind["node_config"]["serviceAccounts"][0]["email"].split("@")[0] for name, kind in kinds.items()}
    worker = "group-crosscoders-worker"
    assert accounts == {"head": "group-crosscoders-head", "gpu": worker, "cpu": worker}
