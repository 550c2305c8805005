"""Products with the few dictionary rows that a sparse code names: cost and gradients follow the active features."""

from gc_core.sparse.factors import RowGradient, Turns, drop_row_gradient, keep_row_gradient, row_gradient
from gc_core.sparse.functions import select_rows, sparse_decode, sparse_encode
from gc_core.sparse.over_workers import average_over_workers
from gc_core.sparse.topk import choose, choose_with_scores, largest
from gc_core.sparse.turned import turned_decode, turned_encode

__all__ = [
    "RowGradient",
    "Turns",
    "average_over_workers",
    "choose",
    "choose_with_scores",
    "drop_row_gradient",
    "keep_row_gradient",
    "largest",
    "row_gradient",
    "select_rows",
    "sparse_decode",
    "sparse_encode",
    "turned_decode",
    "turned_encode",
]
