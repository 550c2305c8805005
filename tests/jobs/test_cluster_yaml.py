"""cluster.yaml: Ray accepts it, a make-believe EC2 launches every node type from it, and it keeps what it promises."""

import copy
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from botocore.exceptions import ParamValidationError
from moto.server import ThreadedMotoServer
from ray.autoscaler._private import commands, providers
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "cluster.yaml").read_text()

SECRET = re.compile(
    r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|PRIVATE KEY|(secret|password|access_key|auth_token)\w*\s*[=:]\s*\S", re.IGNORECASE
)

Config = dict[str, Any]


@pytest.fixture
def config() -> Config:
    return yaml.safe_load(TEXT)


@pytest.fixture(scope="module", autouse=True)
def pretend_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home with a token and nobody's keys (Ray writes ~/.ssh), and moto's server on a free loopback port for AWS."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("made-up token")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-west-2")
        yield
    server.stop()


@pytest.fixture(scope="module")
def ready(pretend_account: None) -> Config:
    """The configuration as `ray up` makes it ready at EC2: key pair, subnets, security group, resources looked up."""
    iam = boto3.client("iam")
    for role in ("head", "worker"):
        iam.create_instance_profile(InstanceProfileName=f"group-crosscoders-{role}")
    return commands._bootstrap_config(yaml.safe_load(TEXT), no_config_cache=True)


def _launch(ready: Config, name: str) -> Config:
    """Starts one node of a type as the autoscaler does, and returns what EC2 says of it."""
    provider = providers._get_node_provider(ready["provider"], ready["cluster_name"], use_cache=False)
    node_config = copy.deepcopy(ready["available_node_types"][name]["node_config"])
    ids = list(provider.create_node(node_config, {"ray-user-node-type": name}, 1))
    (reservation,) = boto3.client("ec2").describe_instances(InstanceIds=ids)["Reservations"]
    (instance,) = reservation["Instances"]
    return instance


def test_ray_accepts_the_file(config: Config) -> None:
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["head_node_type"] == "head"


def test_ray_refuses_a_misspelt_key(config: Config) -> None:
    config["idle_timeout"] = config.pop("idle_timeout_minutes")
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize(
    ("name", "lifecycle", "role"), [("head", None, "head"), ("gpu", "spot", "worker"), ("cpu", "spot", "worker")]
)
def test_ec2_launches_every_node_type(ready: Config, name: str, lifecycle: str | None, role: str) -> None:
    instance = _launch(ready, name)
    assert instance["InstanceType"] == ready["available_node_types"][name]["node_config"]["InstanceType"]
    assert instance.get("InstanceLifecycle") == lifecycle  # None is on demand
    assert instance["IamInstanceProfile"]["Arn"].endswith(f"group-crosscoders-{role}")
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert {"Key": "ray-cluster-name", "Value": "group-crosscoders"} in instance["Tags"]


@pytest.mark.parametrize(
    ("path", "typo"),
    [
        (("InstanceMarketOptions",), "InstanceMarketOption"),
        (("MetadataOptions", "HttpTokens"), "HttpToken"),
        (("BlockDeviceMappings", 0, "Ebs", "VolumeType"), "VolumeKind"),
    ],
)
def test_ec2_refuses_a_misspelt_node_setting(ready: Config, path: tuple[str | int, ...], typo: str) -> None:
    misspelt = copy.deepcopy(ready)
    inner = misspelt["available_node_types"]["gpu"]["node_config"]
    for step in path[:-1]:
        inner = inner[step]
    inner[typo] = inner.pop(path[-1])
    with pytest.raises(ParamValidationError, match=f'Unknown parameter in .*"{typo}"'):
        _launch(misspelt, "gpu")


def test_what_the_nodes_bring_matches_their_instance_types(ready: Config) -> None:
    """EC2's own figures do not contradict the resources that the file states."""
    types = {kind["node_config"]["InstanceType"]: kind["resources"] for kind in ready["available_node_types"].values()}
    found = boto3.client("ec2").describe_instance_types(InstanceTypes=["g6.xlarge", "m6i.2xlarge"])["InstanceTypes"]
    cpus = {kind["InstanceType"]: kind["VCpuInfo"]["DefaultVCpus"] for kind in found}
    assert cpus == {kind: types[kind]["CPU"] for kind in cpus}
    assert types["g6.xlarge"]["GPU"] == types["g6.xlarge"]["accelerator_type:L4"] == 1


def _limit_faults(config: Config) -> list[str]:
    """Node types whose numbers of workers contradict each other or the cluster's ceiling; Ray itself does not look."""
    return [
        name
        for name, kind in config["available_node_types"].items()
        if not 0 <= kind["min_workers"] <= kind["max_workers"] <= config["max_workers"]
    ]


def test_numbers_of_workers_agree_and_start_from_zero(config: Config) -> None:
    assert _limit_faults(config) == []
    assert {kind["min_workers"] for kind in config["available_node_types"].values()} == {0}
    config["available_node_types"]["gpu"]["min_workers"] = 9
    assert _limit_faults(config) == ["gpu"]


def test_no_secret_in_the_file() -> None:
    assert SECRET.search(TEXT) is None
    assert SECRET.search("AWS_SECRET_ACCESS_KEY=abc") is not None
    assert SECRET.search("-e X=AKIA" + "Z" * 16) is not None


def test_every_account_number_is_the_marked_placeholder() -> None:
    lines = [line for line in TEXT.splitlines() if re.search(r"\b\d{12}\b", line)]
    assert len(lines) == 2
    assert all(":123456789012:" in line and "# CHANGE" in line for line in lines)


def test_nothing_but_the_cluster_reaches_the_dashboard(config: Config) -> None:
    start = config["head_start_ray_commands"][1]
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    assert "0.0.0.0" not in TEXT
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"~/.ray": "~/.ray", "~/spot_notice.py": "infra/spot_notice.py"}


def test_both_ends_use_the_same_port(config: Config) -> None:
    head, worker = config["head_start_ray_commands"][1], config["worker_start_ray_commands"][1]
    assert re.findall(r"--port=(\d+)", head) == re.findall(r"RAY_HEAD_IP:(\d+)", worker) == ["6379"]
    assert re.findall(r"--object-manager-port=\d+", head) == re.findall(r"--object-manager-port=\d+", worker)


def test_the_head_takes_no_work_and_zones_lie_in_the_region(config: Config) -> None:
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}
    region, zones = config["provider"]["region"], config["provider"]["availability_zone"].split(",")
    assert len(zones) == 2
    assert all(re.fullmatch(region + "[a-z]", zone) for zone in zones)
    assert f"-e AWS_DEFAULT_REGION={region}" in config["docker"]["run_options"]


def test_images_carry_the_locked_ray_and_one_uv() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    (ray_version,) = (package["version"] for package in lock["package"] if package["name"] == "ray")
    both = TEXT + (ROOT / "infra" / "Dockerfile").read_text()
    tags = re.findall(r"^[^#\n]*rayproject/ray:(\S+)", both, re.MULTILINE)
    assert len(tags) == 4
    assert {tag.split("-py")[0] for tag in tags} == {ray_version}
    assert len(set(re.findall(r"uv==(\S+)", both))) == 1
