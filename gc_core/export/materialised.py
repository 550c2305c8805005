"""Tied poses as an ordinary crosscoder, for programs that know no prototypes: every feature with weights of its own."""

from gc_core.crosscoder import Crosscoder, CrosscoderShape

COPIES = 2
"""Copies of the weights in memory at once: the crosscoder, and the bytes of its file."""


def materialised(model: Crosscoder, available_bytes: int) -> Crosscoder:
    """Untie the features; an untied crosscoder is returned as it is.

    Raises:
        ValueError: it does not fit into so many bytes.
    """
    needed = materialised_bytes(model.shape)
    if needed > available_bytes:
        raise ValueError(
            f"export: {model.shape.dict_size:,} features with weights of their own take {needed / 1e9:.2f} GB, found "
            f"{available_bytes / 1e9:.2f} GB; leave --materialised out, or export on a machine with more memory"
        )
    return model.materialised()


def materialised_bytes(shape: CrosscoderShape) -> int:
    """What untying takes besides the tied weights; nothing where poses are not tied."""
    if shape.tying == "none":
        return 0
    blocks = shape.group.order + len(shape.reads)
    return COPIES * 4 * shape.dict_size * (blocks * shape.channels + 1)
