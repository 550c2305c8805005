"""How good a crosscoder is: on held-out samples, from seed to seed, and for the rest of the network."""

from gc_core.evaluate.downstream import Batch, Downstream, Rest, Trunk, mean_activation, measure_downstream
from gc_core.evaluate.held_out import HeldOut, Histogram, measure_held_out
from gc_core.evaluate.images import Images, choose_images
from gc_core.evaluate.record import Evaluation, file_name, read_evaluation, write_evaluation
from gc_core.evaluate.stability import Agreement, Stability, compare

__all__ = [
    "Agreement",
    "Batch",
    "Downstream",
    "Evaluation",
    "HeldOut",
    "Histogram",
    "Images",
    "Rest",
    "Stability",
    "Trunk",
    "choose_images",
    "compare",
    "file_name",
    "mean_activation",
    "measure_downstream",
    "measure_held_out",
    "read_evaluation",
    "write_evaluation",
]
