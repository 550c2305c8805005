"""A proxy before a local S3 server that loses, refuses or cuts off some requests, as busy object storage does."""

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

ANSWERS = {
    "expired": b"HTTP/1.1 400 Bad Request\r\n",
    "skewed": b"HTTP/1.1 403 Forbidden\r\n",
    "500": b"HTTP/1.1 500 Internal Server Error\r\n",
    "503": b"HTTP/1.1 503 Slow Down\r\n",
}
BODY = b"<Error><Code>%s</Code><Message>injected</Message></Error>"
CODES = {"500": b"InternalError", "503": b"SlowDown", "expired": b"ExpiredToken", "skewed": b"RequestTimeTooSkewed"}
FAULTS = ("500", "503", "reset before", "reset after", "timeout")
"""`reset after`: the server did what was asked, and the answer is lost."""


@dataclass
class FaultyProxy:
    """What it did so far."""

    endpoint: str
    requests: list[str] = field(default_factory=list)
    """Method and path of every request."""
    faults: list[str] = field(default_factory=list)


@contextlib.contextmanager
def faulty(endpoint: str, choose: Callable[[str], str | None], *, silence_s: float = 3) -> Iterator[FaultyProxy]:
    """A proxy on loopback; `choose` hears a request's method and path and names a fault, or None."""
    upstream = urlsplit(endpoint)
    assert upstream.hostname is not None
    where = (upstream.hostname, upstream.port or 80)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = FaultyProxy(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}")
        listener.settimeout(0.1)
        threads: list[threading.Thread] = []

        def accept() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    client, _ = listener.accept()
                    thread = threading.Thread(target=_serve, args=(client, where, proxy, choose, stop, silence_s))
                    threads.append(thread)
                    thread.start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield proxy
        finally:
            stop.set()
            for thread in [accepting, *threads]:
                thread.join()


def some_of(share: float, seed: int = 0) -> Callable[[str], str | None]:
    """A fault of any kind for this share of the requests."""
    rng = random.Random(seed)
    return lambda _: rng.choice(FAULTS) if rng.random() < share else None


def _serve(
    client: socket.socket,
    where: tuple[str, int],
    proxy: FaultyProxy,
    choose: Callable[[str], str | None],
    stop: threading.Event,
    silence_s: float,
) -> None:
    client.settimeout(0.2)
    with client, socket.create_connection(where) as server, contextlib.suppress(OSError):
        while (request := _message(client, stop)) is not None:
            line = request.split(b"\r\n", 1)[0].decode("latin-1").rsplit(" ", 1)[0]
            fault = choose(line)
            proxy.requests.append(line)
            if fault is not None:
                proxy.faults.append(fault)
            if fault in ANSWERS:
                body = b"" if line.startswith("HEAD") else BODY % CODES[fault]
                client.sendall(ANSWERS[fault] + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                continue
            if fault == "timeout":
                stop.wait(silence_s)
            if fault in ("timeout", "reset before"):
                return
            server.sendall(request)
            answer = _message(server, stop, of_head=line.startswith("HEAD"))
            if answer is None or fault == "reset after":
                return
            client.sendall(answer)


def _message(sender: socket.socket, stop: threading.Event, *, of_head: bool = False) -> bytes | None:
    """One whole HTTP message; None when the sender has closed, or all shall stop."""
    received = b""
    while b"\r\n\r\n" not in received:
        if (more := _some(sender, stop)) is None:
            return None
        received += more
    head, body = received.split(b"\r\n\r\n", 1)
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    status = head.split(b" ")[1]
    parts, size = [body], len(body)
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        while not b"".join(parts[-2:]).endswith(b"0\r\n\r\n"):
            if (more := _some(sender, stop)) is None:
                return None
            parts.append(more)
    elif not of_head and status not in (b"204", b"304"):
        while size < int(headers.get(b"content-length", b"0")):
            if (more := _some(sender, stop)) is None:
                return None
            parts.append(more)
            size += len(more)
    return head + b"\r\n\r\n" + b"".join(parts)


def _some(sender: socket.socket, stop: threading.Event) -> bytes | None:
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            return sender.recv(1 << 20) or None
    return None
