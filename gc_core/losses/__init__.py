"""What training minimises, term by term: one function for each activation, with its equation."""

from gc_core.losses.penalty import JumpReLUPenalty, jumprelu_losses, l1_losses, penalty_norm
from gc_core.losses.reconstruction import Target
from gc_core.losses.terms import Losses, combined
from gc_core.losses.topk import AUX_COEFFICIENT, batchtopk_losses, topk_losses

__all__ = [
    "AUX_COEFFICIENT", "JumpReLUPenalty", "Losses", "Target",
    "batchtopk_losses", "combined", "jumprelu_losses", "l1_losses", "penalty_norm", "topk_losses",
]  # fmt: skip
