"""Samples as training and scoring meet them: their order, and a reader that follows it."""

from gc_core.stream.order import LaneOrder, lane_order
from gc_core.stream.reader import batches, in_order, read_batches, read_rows

__all__ = ["LaneOrder", "batches", "in_order", "lane_order", "read_batches", "read_rows"]
