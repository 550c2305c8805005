"""A process that is one of several training workers on this machine."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist


@contextlib.contextmanager
def member(rank: int, num_workers: int, meeting: Path) -> Iterator[None]:
    """In the block, this new process is worker `rank`; all meet at a file that is not there yet."""
    warnings.simplefilter("error")  # a new process does not know pytest's rule
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=num_workers)
    yield
    dist.destroy_process_group()
