"""What the machine is and what it could do at best."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So much in so many seconds."""

    amount: float
    seconds: float
    cpu_seconds: float
    """Processor time of this process, which does not pass while others use the core."""

    @property
    def per_s(self) -> float:
        return self.amount / self.seconds

    @property
    def per_cpu_s(self) -> float:
        return self.amount / self.cpu_seconds


def rate(work: Callable[[], float], seconds: float, device: str) -> Rate:
    """How much `work`, which returns how much it did, does in that time; it runs at least once."""
    _wait_for(device)
    start, cpu_start, amount = time.perf_counter(), time.process_time(), 0.0
    while True:
        amount += work()
        _wait_for(device)
        if (taken := time.perf_counter() - start) >= seconds:
            return Rate(amount=amount, seconds=taken, cpu_seconds=time.process_time() - cpu_start)


def matmul_gflop(device: str, dtype: torch.dtype) -> Callable[[], float]:
    """A square matrix product; each call says how many GFLOP it was."""
    side = MATMUL_SIDE[device]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def multiply() -> float:
        torch.mm(left, right)
        return 2 * side**3 / 1e9

    return multiply


def device_name(device: str) -> str:
    """`NVIDIA H100 80GB HBM3`, or `AMD EPYC, 2 cores`."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{_cpu_model()}, {os.cpu_count()} cores"


def load_average() -> float:
    """Mean number of threads that wanted a core over the last minute, of all processes."""
    return os.getloadavg()[0]


def _cpu_model() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _wait_for(device: str) -> None:
    """Wait for work that an accelerator is still doing."""
    if device == "cuda":
        torch.cuda.synchronize()
