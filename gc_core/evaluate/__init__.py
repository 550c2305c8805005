"""How good a crosscoder is: on held-out samples, from seed to seed, and for the rest of the network."""

from gc_core.evaluate.classes import Classes, classes_of
from gc_core.evaluate.downstream import Batch, Downstream, Rest, Trunk, mean_activation, measure_downstream
from gc_core.evaluate.geometry import hoyer_sparsity, largest_cosines
from gc_core.evaluate.held_out import HeldOut, measure_held_out
from gc_core.evaluate.histograms import Histogram, density_histogram, histogram
from gc_core.evaluate.images import Images, choose_images
from gc_core.evaluate.probing import ClassProbe, Probing, one_feature_auc, probe, purity
from gc_core.evaluate.record import Evaluation, file_name, read_evaluation, write_evaluation
from gc_core.evaluate.scaling import LatentScaling, ScalingSums, latent_scaling
from gc_core.evaluate.stability import Agreement, Stability, compare

__all__ = [
    "Agreement",
    "Batch",
    "ClassProbe",
    "Classes",
    "Downstream",
    "Evaluation",
    "HeldOut",
    "Histogram",
    "Images",
    "LatentScaling",
    "Probing",
    "Rest",
    "ScalingSums",
    "Stability",
    "Trunk",
    "choose_images",
    "classes_of",
    "compare",
    "density_histogram",
    "file_name",
    "histogram",
    "hoyer_sparsity",
    "largest_cosines",
    "latent_scaling",
    "mean_activation",
    "measure_downstream",
    "measure_held_out",
    "one_feature_auc",
    "probe",
    "purity",
    "read_evaluation",
    "write_evaluation",
]
