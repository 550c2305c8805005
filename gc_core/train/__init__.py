"""Stage 2: stream the store into a group crosscoder. Plain torch; distributed when torch.distributed is initialised."""

from gc_core.parallel.worker import Worker
from gc_core.train.allocator import keep_freed_memory
from gc_core.train.data import TrainingData, open_data
from gc_core.train.loop import Report, stream_of, train
from gc_core.train.other_weights import check_other
from gc_core.train.recipe import resolve
from gc_core.train.trainer import Trainer

__all__ = [
    "Report",
    "Trainer",
    "TrainingData",
    "Worker",
    "check_other",
    "keep_freed_memory",
    "open_data",
    "resolve",
    "stream_of",
    "train",
]
