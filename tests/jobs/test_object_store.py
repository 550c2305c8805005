"""The local object store: no port of it takes what S3 would refuse."""

import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gc_core import objects

if TYPE_CHECKING:
    from infra.object_store import ObjectServer

TRIES = [("PUT", "evil.txt"), ("POST", "evil.txt"), ("GET", "theirs.txt"), ("DELETE", "theirs.txt"), ("GET", "")]


def ports_of(server: "ObjectServer") -> list[int]:
    """Those that speak HTTP, by what the server was started with."""
    command = Path(f"/proc/{server.process.pid}/cmdline").read_text()
    found = re.findall(r"-(?:master|volume|filer|s3)\.port=(\d+)", command)
    assert len(found) == 4
    return [int(port) for port in found]


@pytest.mark.s3
def test_no_port_reads_or_writes_a_bucket_without_credentials(object_server: "ObjectServer", s3_url: str) -> None:
    objects.write(s3_url, "theirs.txt", b"secret")
    below = "/".join(s3_url.removeprefix("s3://").split("/"))
    for port in ports_of(object_server):
        for method, name in TRIES:
            for prefix in ("buckets/", ""):
                url = f"http://127.0.0.1:{port}/{prefix}{below}/{name}"
                request = urllib.request.Request(url, method=method, data=b"evil" if method[0] == "P" else None)
                with pytest.raises((urllib.error.HTTPError, OSError)):
                    urllib.request.urlopen(request, timeout=5).close()
    assert objects.sizes(s3_url) == {"theirs.txt": 6}
    assert objects.read(s3_url, "theirs.txt") == b"secret", "the control: with credentials it is there"
