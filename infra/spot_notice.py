#!/usr/bin/env python3
"""Tells Ray that this machine is about to be taken away, as soon as the cloud says so.

    python spot_notice.py aws      watches EC2's spot notices, two minutes ahead
    python spot_notice.py gcp      watches Compute Engine's preemption, 30 seconds ahead

Runs beside `ray start` on spot workers, alone: it needs Python's standard library and the `ray` command. Ray drains the
node, starts nothing more there, and a training that hears of it writes a checkpoint after its next tenth step.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.client import HTTPException

EVERY_S = 5
TIMEOUT_S = 2
GCP_NOTICE_S = 30
SPARE_S = 5
"""Seconds before the end by which all should be done."""


def main(args: list[str] | None = None) -> int:
    """Watch until there is a notice, and drain, again where it fails; the exit status of the last `ray drain-node`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cloud", choices=sorted(NOTICES), help="whose machine this is")
    parser.add_argument("--every", type=float, default=EVERY_S, metavar="SECONDS", help="how often to ask")
    options = parser.parse_args(args)
    if not 0 < options.every < float("inf"):
        parser.error(f"--every: found {options.every:g}, expected seconds above 0")
    while (seconds_left := NOTICES[options.cloud]()) is None:
        time.sleep(options.every)
    ends = time.monotonic() + seconds_left - SPARE_S
    while (status := drain(max(1, round(ends - time.monotonic())))) and time.monotonic() < ends:
        time.sleep(options.every)
    return status


def aws_notice() -> float | None:
    """Seconds until EC2 takes the machine; None where it has not said so."""
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
    token = _asked(f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
    found = token and _asked(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    if not found:
        return None
    try:
        ends = datetime.strptime(json.loads(found)["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (ValueError, KeyError, TypeError):
        return None  # no notice of a form that is known
    return ends.timestamp() - time.time()


def gcp_notice() -> float | None:
    """Seconds until Compute Engine takes the machine; None where it has not said so."""
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    preempted = _asked(f"http://{host}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return GCP_NOTICE_S if preempted and preempted.strip() == "TRUE" else None


NOTICES: Mapping[str, Callable[[], float | None]] = {"aws": aws_notice, "gcp": gcp_notice}


def drain(seconds: int) -> int:
    """Ask Ray to drain this node, which will be gone after so many seconds; the exit status."""
    print(f"this machine goes in {seconds} s; draining", flush=True)
    why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot notice"]
    return subprocess.run(["ray", "drain-node", *why, "--deadline-remaining-seconds", str(seconds)]).returncode


def _asked(url: str, headers: Mapping[str, str], *, method: str = "GET") -> str | None:
    """The answer; None where there is none, which is how no notice is told, or nobody answers."""
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=TIMEOUT_S) as answer:
            return answer.read().decode()
    except (OSError, HTTPException, UnicodeDecodeError):
        return None


if __name__ == "__main__":
    sys.exit(main())
