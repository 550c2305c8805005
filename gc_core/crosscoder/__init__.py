"""Group crosscoders: one sparse code explains a layer's activations under every element of a group."""

from gc_core.crosscoder.base import Arithmetic, Crosscoder
from gc_core.crosscoder.files import WEIGHTS, fault_of_weights, open_decoder, read_shape
from gc_core.crosscoder.orbit import OrbitCrosscoder
from gc_core.crosscoder.shape import Activation, CrosscoderShape
from gc_core.crosscoder.stored import StoredDecoder
from gc_core.crosscoder.untied import GroupCrosscoder

__all__ = [
    "WEIGHTS", "Activation", "Arithmetic", "Crosscoder", "CrosscoderShape", "GroupCrosscoder", "OrbitCrosscoder",
    "StoredDecoder", "fault_of_weights", "open_decoder", "read_shape",
]  # fmt: skip
