"""The policies in infra/: they parse, name one prefix, and allow nothing by wildcard."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
PREFIX = "group-crosscoders"

# EC2 knows no resource to limit these to: each only looks.
ONLY_LOOKS = {"ec2:DescribeInstances", "ec2:DescribeInstanceStatus", "ec2:DescribeInstanceTypes"}

RIGHTS = {
    "list_objects_v2": "s3:ListBucket",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_parts": "s3:ListMultipartUploadParts",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
}
"""By the call of botocore that needs it."""


def _load(name: str) -> dict[str, Any]:
    return json.loads((INFRA / name).read_text())


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _wildcards(policy: dict[str, Any]) -> list[str]:
    """Statements that allow an action by wildcard, or something on every resource."""
    faults = []
    for statement in policy["Statement"]:
        actions = set(_listed(statement["Action"]))
        if any("*" in action for action in actions) or "NotAction" in statement:
            faults.append(f"{statement['Sid']}: action")
        everywhere = {"*", "arn:aws:s3:::*", "arn:aws:s3:::*/*"} & set(_listed(statement["Resource"]))
        if everywhere and not actions <= ONLY_LOOKS:
            faults.append(f"{statement['Sid']}: resource")
    return faults


@pytest.mark.parametrize("name", ["iam-policy.json", "iam-head-policy.json"])
def test_policies_allow_nothing_by_wildcard(name: str) -> None:
    assert _wildcards(_load(name)) == []


@pytest.mark.parametrize(("key", "value"), [("Action", "s3:*"), ("Action", ["s3:Get*"]), ("Resource", "*")])
def test_a_wildcard_would_be_found(key: str, value: str | list[str]) -> None:
    policy = _load("iam-policy.json")
    policy["Statement"][2][key] = value
    assert _wildcards(policy) == [f"ReadAndWriteOnePrefix: {key.lower()}"]


def test_storage_policy_names_one_bucket_and_one_prefix() -> None:
    listing, uploads, objects = _load("iam-policy.json")["Statement"]
    assert listing["Condition"]["StringLike"]["s3:prefix"] == [PREFIX, f"{PREFIX}/*"]
    assert objects["Resource"] == f"{listing['Resource']}/{PREFIX}/*"
    assert uploads["Resource"] == listing["Resource"]
    assert "Condition" not in uploads, "S3 knows no prefix for it: a condition on one would never hold"


def test_nodes_may_do_what_the_jobs_ask_of_s3_and_no_more() -> None:
    """What botocore is called for, and what obstore does to read, write and delete."""
    source = (ROOT / "gc_core" / "io" / "s3.py").read_text()
    called = set(re.findall(r'get_paginator\("(\w+)"\)|client\.(\w+)\(Bucket', source))
    rights = {RIGHTS[first or second] for first, second in called}
    allowed = {each for one in _load("iam-policy.json")["Statement"] for each in _listed(one["Action"])}
    assert allowed == rights | {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}


def test_only_instances_may_take_the_roles() -> None:
    (statement,) = _load("iam-trust-policy.json")["Statement"]
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"


def test_uploads_of_lost_workers_are_cleared_in_the_same_prefix() -> None:
    (rule,) = _load("bucket-lifecycle.json")["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["Filter"] == {"Prefix": f"{PREFIX}/"}
    assert 1 <= rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] <= 7


def test_the_head_may_launch_exactly_the_worker_types_of_the_cluster() -> None:
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    workers = {
        kind["node_config"]["InstanceType"]
        for name, kind in cluster["available_node_types"].items()
        if name != cluster["head_node_type"]
    }
    statements = {statement["Sid"]: statement for statement in _load("iam-head-policy.json")["Statement"]}
    conditions = statements["LaunchWorkers"]["Condition"]["StringEquals"]
    assert set(conditions["ec2:InstanceType"]) == workers
    assert conditions["aws:RequestTag/ray-cluster-name"] == cluster["cluster_name"]
    own = statements["TagAndEndOwnInstances"]["Condition"]["StringEquals"]
    assert own == {"ec2:ResourceTag/ray-cluster-name": cluster["cluster_name"]}


def test_the_image_runs_unprivileged_from_a_pinned_base() -> None:
    lines = (INFRA / "Dockerfile").read_text().splitlines()
    (base,) = (line.split()[1] for line in lines if line.startswith("FROM "))
    assert base.partition(":")[2] not in ("", "latest")
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert not {"root", "0"} & set(users)
    assert any("uv sync --frozen" in line for line in lines)
