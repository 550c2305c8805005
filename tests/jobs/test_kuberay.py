"""infra/kuberay/: the manifests hold only fields that KubeRay has, and say what the cluster files say.

The schema here is ours, of the fields in use alone; their names are those of KubeRay's API reference (v1.6).
"""

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "kuberay"

Manifest = dict[str, Any]


def record(required: str, **fields: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {"type": "object", "required": required.split(), "properties": fields, "additionalProperties": False}


def listed(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1}


TEXT, COUNT, YES_NO = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = record(
    "name image resources",
    name=TEXT,
    image=TEXT,
    env=listed(record("name value", name=TEXT, value=TEXT)),
    resources=record("requests limits", requests=TEXTS, limits=TEXTS),
)
POD = record(
    "containers",
    serviceAccountName=TEXT,
    tolerations=listed(record("key operator effect", key=TEXT, operator=TEXT, effect=TEXT)),
    containers=listed(CONTAINER),
)
TEMPLATE = record("spec", spec=POD)
WORKERS = record(
    "groupName minReplicas maxReplicas rayStartParams template",
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
CLUSTER = record(
    "rayVersion headGroupSpec",
    rayVersion=TEXT,
    authOptions=record("mode", mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=YES_NO,
    autoscalerOptions=record("", version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=COUNT),
    headGroupSpec=record("rayStartParams template", rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs=listed(WORKERS),
)
JOB = record(
    "entrypoint rayClusterSpec",
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
    backoffLimit=COUNT,
    shutdownAfterJobFinishes=YES_NO,
    ttlSecondsAfterFinished=COUNT,
    rayClusterSpec=CLUSTER,
)


def load(name: str) -> Manifest:
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.fixture
def cluster() -> Manifest:
    return load("raycluster.yaml")


@pytest.fixture
def job() -> Manifest:
    return load("rayjob.yaml")


def test_the_manifests_hold_only_fields_that_there_are(cluster: Manifest, job: Manifest) -> None:
    jsonschema.validate(cluster["spec"], CLUSTER)
    jsonschema.validate(job["spec"], JOB)
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")


def test_a_misspelt_field_is_found(cluster: Manifest) -> None:
    cluster["spec"]["workerGroupSpecs"][0]["minReplica"] = 0
    with pytest.raises(jsonschema.ValidationError, match="minReplica"):
        jsonschema.validate(cluster["spec"], CLUSTER)


def test_a_job_s_cluster_is_that_of_the_other_file(cluster: Manifest, job: Manifest) -> None:
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


def test_images_carry_the_locked_ray(cluster: Manifest) -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    (ray_version,) = (package["version"] for package in lock["package"] if package["name"] == "ray")
    assert cluster["spec"]["rayVersion"] == ray_version
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    images = {one["image"] for group in groups for one in group["template"]["spec"]["containers"]}
    assert {image.partition(":")[2] for image in images} == {f"{ray_version}-py311"}


def test_the_head_takes_no_work_and_one_kind_of_worker_has_gpus(cluster: Manifest) -> None:
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    gpus = {
        group["groupName"]: group["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
        for group in cluster["spec"]["workerGroupSpecs"]
    }
    assert gpus == {"gpu": "1", "cpu": None}
    assert {group["minReplicas"] for group in cluster["spec"]["workerGroupSpecs"]} == {0}


def test_clients_show_a_token_and_pods_are_an_account_without_keys(cluster: Manifest) -> None:
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    account = load("service-account.yaml")["metadata"]["name"]
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    assert {group["template"]["spec"]["serviceAccountName"] for group in groups} == {account}


def test_a_job_runs_in_the_locked_environment(job: Manifest) -> None:
    assert job["spec"]["entrypoint"].startswith("uv run --frozen python -m jobs.pipeline ")
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"]).keys() == {"working_dir"}


def test_the_operator_keeps_to_its_namespace() -> None:
    assert load("operator-values.yaml") == {"singleNamespaceInstall": True}
