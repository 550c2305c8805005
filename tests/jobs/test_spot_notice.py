"""Notices of two clouds, from a metadata server on loopback, become one call of `ray drain-node`."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra/spot_notice.py"
ACTION, PREEMPTED = "/latest/meta-data/spot/instance-action", "/computeMetadata/v1/instance/preempted"

NO_HTTP = "no line of HTTP\r\n"


class Metadata(ThreadingHTTPServer):
    """Answers what it was told to; 404 on all else, and where the token or the flavour is missing."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers: dict[str, list[str]] = {}
        self.asked = threading.Semaphore(0)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        self._reply("token" if self.path == "/latest/api/token" else None)

    def do_GET(self) -> None:
        allowed = {ACTION: ("X-aws-ec2-metadata-token", "token"), PREEMPTED: ("Metadata-Flavor", "Google")}
        name, value = allowed.get(self.path, ("", ""))
        answers = self._metadata.answers.get(self.path, [])
        if answers and answers[0] == NO_HTTP:
            self.wfile.write(answers.pop(0).encode())
            return
        self._reply(answers.pop(0) if answers and self.headers.get(name) == value else None)
        self._metadata.asked.release()

    @property
    def _metadata(self) -> Metadata:
        assert isinstance(self.server, Metadata)
        return self.server

    def _reply(self, text: str | None) -> None:
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with Metadata() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def watch(metadata: Metadata, tmp_path: Path) -> Callable[[str], "subprocess.Popen[str]"]:
    """Start the script with a `ray` that writes down how it was called."""
    ray = tmp_path / "ray"
    ray.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/called\nmkdir {tmp_path}/failed 2> /dev/null && exit 1; exit 0\n'
    )
    ray.chmod(ray.stat().st_mode | stat.S_IXUSR)
    found = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{metadata.host}/", "GCE_METADATA_HOST": metadata.host}
    environment = {
        **os.environ,
        **found,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }

    def started(cloud: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(SCRIPT), cloud, "--every", "0.05"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    return started


def seconds_told(tmp_path: Path) -> int:
    *words, seconds = (tmp_path / "called").read_text().split()
    assert words == [
        "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "notice",
        "--deadline-remaining-seconds",
    ]  # fmt: skip
    return int(seconds)


def test_a_spot_notice_of_ec2_drains_the_node(
    metadata: Metadata, watch: Callable[[str], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=120)
    metadata.answers[ACTION] = ["no JSON", "{}", f'{{"action": "terminate", "time": "{ends:%Y-%m-%dT%H:%M:%SZ}"}}']
    process = watch("aws")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert 60 < seconds_told(tmp_path) <= 115
    assert said.startswith("this machine goes in 1")


def test_a_preemption_of_compute_engine_drains_the_node(
    metadata: Metadata, watch: Callable[[str], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    metadata.answers[PREEMPTED] = ["FALSE", NO_HTTP, "TRUE"]
    process = watch("gcp")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert seconds_told(tmp_path) == 25


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf"])
def test_an_interval_that_is_none_is_refused_in_one_line(seconds: str) -> None:
    command = [sys.executable, str(SCRIPT), "aws", "--every", seconds]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 2
    assert told.stderr.splitlines()[-1].endswith(f"--every: found {seconds}, expected seconds above 0")


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_without_a_notice_nothing_is_drained(
    metadata: Metadata, watch: Callable[[str], "subprocess.Popen[str]"], tmp_path: Path, cloud: str
) -> None:
    process = watch(cloud)
    for _ in range(5):
        assert metadata.asked.acquire(timeout=30)
    assert process.poll() is None
    process.kill()
    process.communicate()
    assert not (tmp_path / "called").exists()
