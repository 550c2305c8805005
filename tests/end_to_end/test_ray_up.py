"""`ray up`, `ray job submit`, `ray job stop` and `ray down`, as docs/cluster.md tells them, from
infra/cluster-onpremise.yaml on a machine that is reached over ssh: this one, in a network of its own.

The tests are steps of one session, in this order; a cluster for each of them would take minutes.
"""

import copy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gc_core.io.location import Location
from gc_core.train import checkpoint
from support import ssh_machine
from support.ssh_machine import Done, SshMachine

ROOT = Path(__file__).parents[2]
FILE = ROOT / "infra" / "cluster-onpremise.yaml"
RAY = Path(sys.executable).with_name("ray")
SECONDS = 500
"""For one command; on two idle cores the longest takes one minute."""

MISSING = ssh_machine.missing()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(3 * SECONDS),
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]

IMAGES = ["--images", "stimuli", "--max-stimuli", "60", "--group", "D1", "--layer", "conv1", "--shard-rows", "128"]
SIZES = {"dict-size": 32, "k": 4, "batch": 32, "checkpoint-every": 10, "steps": 1000}
PIPELINE = ["uv", "run", "--frozen", "python", "-m", "jobs.pipeline"]
OPTIONS = [*IMAGES, "--analyse.no-stimuli", *(f"--train.{name}={number}" for name, number in SIZES.items())]


@pytest.fixture(scope="module")
def machine() -> Iterator[SshMachine]:
    with SshMachine() as machine:
        machine.run(RAY, "get-auth-token", "--generate", cwd=ROOT, timeout_s=SECONDS)
        (machine.folder / "cluster.yaml").write_text(yaml.safe_dump(changed(yaml.safe_load(FILE.read_text()), machine)))
        yield machine


def changed(config: dict[str, Any], machine: SshMachine) -> dict[str, Any]:
    """The file with its lines marked CHANGE changed, and for the Python of these tests."""
    config = copy.deepcopy(config)
    config["provider"] |= {"head_ip": "127.0.0.1", "worker_ips": []}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(machine.key)}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("setup_commands", "head_start_ray_commands"):
        config[name] = [line.replace("3.11", python) for line in config[name]]
    return config


def ray(machine: SshMachine, *command: str) -> Done:
    return machine.run(RAY, *command, cwd=ROOT, timeout_s=SECONDS)


def job(machine: SshMachine, *command: str) -> Done:
    return ray(machine, "job", command[0], "--address", "http://127.0.0.1:8265", *command[1:])


def submit(machine: SshMachine, name: str, *options: str) -> Done:
    return job(machine, "submit", "--working-dir", ".", "--submission-id", name, *options)


def newest_step(machine: SshMachine) -> int:
    folder = Location.parse(f"{machine.folder}/run/crosscoders/topk-32/checkpoints")
    return max((each.step for each in checkpoint.checkpoints(folder)), default=0)


def test_ray_up_starts_the_head_over_ssh(machine: SshMachine) -> None:
    up = ray(machine, "up", "-y", str(machine.folder / "cluster.yaml"))
    assert up.code == 0, up.told
    assert any("gcs_server" in line for line in machine.processes().values())
    token = machine.folder / "host/.ray/auth_token"
    assert token.read_text() == (machine.folder / "laptop/.ray/auth_token").read_text()
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_job_that_fails_says_why_and_ends_with_another_code(machine: SshMachine) -> None:
    done = submit(machine, "fails", "--", *PIPELINE, "--images", "/nowhere", "--out", f"{machine.folder}/none")
    assert done.code == 1, done.told
    assert "/nowhere" in done.told
    assert "Traceback" not in done.told


def test_a_job_that_is_stopped_goes_on_when_it_is_submitted_again(machine: SshMachine) -> None:
    command = ["--", *PIPELINE, *OPTIONS, "--out", f"{machine.folder}/run"]
    assert submit(machine, "first", "--no-wait", *command).code == 0
    await_checkpoint(machine)
    assert job(machine, "stop", "first").code == 0
    assert "was stopped" in job(machine, "status", "first").told
    told = job(machine, "logs", "first").told
    assert "harvest  60/60 samples" in told, told
    step = newest_step(machine)
    assert step < SIZES["steps"]
    again = submit(machine, "second", *command)
    assert again.code == 0, again.told
    assert "samples" not in told_of("harvest  ", again.told), "the store is there"
    assert step < int(told_of("train    ", again.told).split("/")[0])
    assert (machine.folder / "run/atlas/topk-32/index.html").exists()


def await_checkpoint(machine: SshMachine) -> None:
    deadline = time.monotonic() + SECONDS
    while newest_step(machine) == 0:
        assert time.monotonic() < deadline, job(machine, "logs", "first").told
        time.sleep(0.2)


def told_of(stage: str, log: str) -> str:
    """What the first line of a stage says behind its name; nothing if there is none."""
    return next((line.removeprefix(stage) for line in log.splitlines() if line.startswith(stage)), "")


def test_ray_down_leaves_no_process(machine: SshMachine) -> None:
    down = ray(machine, "down", "-y", str(machine.folder / "cluster.yaml"))
    assert down.code == 0, down.told
    deadline = time.monotonic() + 60  # ssh itself keeps its connection for ten seconds
    while machine.processes():
        assert time.monotonic() < deadline, machine.processes()
        time.sleep(0.5)
