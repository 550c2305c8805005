"""What training minimises, term by term: one function for each activation, with its equation."""

from gc_core.losses.chosen import AUX_COEFFICIENT, batchtopk_losses, topk_losses
from gc_core.losses.penalised import JumpReLUPenalty, jumprelu_losses, l1_losses, penalty_norm
from gc_core.losses.reconstruction import Target
from gc_core.losses.record import Losses, combined

__all__ = [
    "AUX_COEFFICIENT", "JumpReLUPenalty", "Losses", "Target",
    "batchtopk_losses", "combined", "jumprelu_losses", "l1_losses", "penalty_norm", "topk_losses",
]  # fmt: skip
