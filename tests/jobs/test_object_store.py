"""The local object store: no port of it takes what S3 would refuse."""

import re
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gc_core.io import objects
from gc_core.io.location import Location
from infra import certificates

if TYPE_CHECKING:
    from infra.object_store import ObjectServer

TRIES = [("PUT", "evil.txt"), ("POST", "evil.txt"), ("GET", "theirs.txt"), ("DELETE", "theirs.txt"), ("GET", "")]


def ports_of(server: "ObjectServer", kind: str = "") -> list[int]:
    """Those that speak HTTP, or another kind, by what the server was started with."""
    command = Path(f"/proc/{server.process.pid}/cmdline").read_text()
    found = re.findall(rf"-(?:master|volume|filer|s3)\.port{re.escape(kind)}=(\d+)", command)
    assert len(found) == 4
    return [int(port) for port in found]


@pytest.mark.s3
def test_no_port_reads_or_writes_a_bucket_without_credentials(object_server: "ObjectServer", s3_url: str) -> None:
    objects.write(Location.parse(s3_url), "theirs.txt", b"secret")
    below = "/".join(s3_url.removeprefix("s3://").split("/"))
    for port in ports_of(object_server):
        for method, name in TRIES:
            for prefix in ("buckets/", ""):
                url = f"http://127.0.0.1:{port}/{prefix}{below}/{name}"
                request = urllib.request.Request(url, method=method, data=b"evil" if method[0] == "P" else None)
                with pytest.raises((urllib.error.HTTPError, OSError)):
                    urllib.request.urlopen(request, timeout=5).close()
    assert objects.sizes(Location.parse(s3_url)) == {"theirs.txt": 6}
    assert objects.read(Location.parse(s3_url), "theirs.txt") == b"secret", "the control: with credentials it is there"


def master_of(server: "ObjectServer") -> int:
    """The port of the part that knows where everything lies."""
    command = Path(f"/proc/{server.process.pid}/cmdline").read_text()
    return int(re.findall(r"-master\.port=(\d+)", command)[0])


@pytest.mark.s3
def test_nobody_deletes_a_bucket_or_gets_a_token_from_the_master(object_server: "ObjectServer", s3_url: str) -> None:
    """A single GET did both, as any page in a browser may send it."""
    objects.write(Location.parse(s3_url), "theirs.txt", b"secret")
    for path in ("dir/assign?collection=runs", "dir/lookup?fileId=1,01deadbeef", "col/delete?collection=runs"):
        with pytest.raises((urllib.error.HTTPError, OSError)):
            urllib.request.urlopen(f"http://127.0.0.1:{master_of(object_server)}/{path}", timeout=5).close()
    assert objects.read(Location.parse(s3_url), "theirs.txt") == b"secret"


HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a gRPC client begins; a server that wants it answers with its settings."""


HTTP1 = b"GET /cluster/status HTTP/1.0\r\n\r\n"


def answer(port: int, hello: bytes, *, pair: tuple[Path, Path] | None = None, encrypted: bool = True) -> bytes:
    """What the port sends to one who shows that certificate, or none; nothing where it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            if not encrypted:
                plain.sendall(hello)
                return plain.recv(12)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2" if hello == HTTP2 else "http/1.1"])
            if pair:
                context.load_cert_chain(*pair)
            with context.wrap_socket(plain) as inside:
                inside.sendall(hello)
                return inside.recv(12)
        except (ssl.SSLError, ConnectionError):
            return b""


@pytest.mark.s3
def test_no_inner_port_listens_to_one_without_the_certificate_of_this_start(
    object_server: "ObjectServer", tmp_path: Path
) -> None:
    """By gRPC the filer would read and delete whatever it holds."""
    hellos = {**dict.fromkeys(ports_of(object_server, ".grpc"), HTTP2), master_of(object_server): HTTP1}
    strangers = certificates.write_pair(tmp_path, "inner")
    for port, hello in hellos.items():
        assert answer(port, hello, encrypted=False) in (b"", b"HTTP/1.0 400")
        assert answer(port, hello) == b""
        assert answer(port, hello, pair=strangers) == b""
    command = Path(f"/proc/{object_server.process.pid}/cmdline").read_text()
    folder = Path(re.findall(r"-dir=([^\0]+)", command)[0])
    own = folder / "inner.crt", folder / "inner.key"
    answers = [answer(port, hello, pair=own) for port, hello in hellos.items()]
    assert all(each[3:4] == b"\x04" or each == b"HTTP/1.0 200" for each in answers), "the control: they speak"
    assert [path.stat().st_mode & 0o777 for path in own] == [0o600, 0o600]
