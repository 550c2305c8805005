"""What decides a crosscoder, as somebody asks for it: what is None is left to the data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gc_core import bounds, groups
from gc_core.config.record import Config


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """What decides a crosscoder. Sizes of activations are after scaling: a block's mean squared norm is C."""

    LATER: ClassVar[Mapping[str, Any]] = {
        "augment": False,
        "tying": "none",
        "prototypes": None,
        "poses": 1,
        "invariant_prototypes": 0,
        "init_from": None,
        "steps_before": 0,
    }
    BOUNDS: ClassVar[Mapping[str, bounds.Bound]] = {
        "dict_size": bounds.FEATURES,
        "prototypes": bounds.FEATURES,
        "poses": bounds.Bound(1, groups.MOST_ELEMENTS),
        "invariant_prototypes": bounds.Bound(0, bounds.FEATURES.most),
        "k": bounds.FEATURES,
        "aux_k": bounds.Bound(0, 2**26),
        "dead_after_samples": bounds.SAMPLES,
        "steps": bounds.STEPS,
        "steps_before": bounds.Bound(0, bounds.STEPS.most),
        "batch": bounds.BATCH,
        "accumulate": bounds.BATCH,
        "lanes": bounds.BATCH,
        "buffer_rows": bounds.SAMPLES,
        "checkpoint_every": bounds.STEPS,
        "blocks_per_step": bounds.Bound(1, groups.MOST_ELEMENTS),
        "l1_warmup_share": bounds.SHARE,
        "lr_warmup_share": bounds.SHARE,
        "lr_decay_share": bounds.SHARE,
        "average_decay": bounds.SHARE,
        "l1_coefficient": bounds.WEIGHT,
        "jumprelu_coefficient": bounds.WEIGHT,
        "pre_coefficient": bounds.WEIGHT,
        "clip_norm": bounds.WEIGHT,
        "learning_rate": bounds.POSITIVE,
        "bandwidth": bounds.POSITIVE,
        "tanh_scale": bounds.POSITIVE,
        "seed": bounds.SEED,
    }

    group: str | None = None
    """None for the store's group; a group inside it trains on those blocks only, `trivial` on the untransformed one (an
    SAE)."""
    tying: Literal["orbit", "none"] | None = None
    """`orbit`: features are prototypes turned by every element of the group, and share the prototype's weights; each
    sample teaches all poses. `none`: every feature has weights of its own, as in Gorton 2024. None for orbit, or none
    where dict_size, encoder_reads or blocks_per_step are given or the group is trivial."""
    prototypes: int | None = None
    """Number of prototypes P (tying orbit); the group's |G| times as many features F. None for the power of two next
    below a sixteenth of the samples, 64 to 1,024. On the command line one or several, such as 64,256."""
    poses: int = 1
    """Most poses of one prototype that are active at once (tying orbit), found by matching pursuit; k counts
    prototypes."""
    invariant_prototypes: int = 0
    """Number of prototypes, the first ones, whose blocks are all equal: one feature each in place of |G|, for what no
    element of the group changes."""
    dict_size: int | None = None
    """Number of features F; None for the power of two next below a quarter of the samples, 256 to 4,096, or what the
    prototypes give. On the command line several sizes, such as 1024,4096, train side by side on one pass over the
    data."""
    encoder_reads: str = "identity"
    """Blocks that the encoder sees: `identity` (the untransformed one), `all`, or numbers of group elements such as
    0,8,16. Tied poses are found in all."""
    activation: Literal["topk", "batchtopk", "jumprelu", "l1"] = "topk"
    """`topk` keeps the k largest features of a sample; `batchtopk` k a sample on average over a batch; `jumprelu` those
    above thresholds that are learned; `l1` is a ReLU with a penalty on active features."""
    k: int = 24
    """Active features a sample (topk), their mean (batchtopk), or their mean before training (jumprelu). On the command
    line one or several, such as 16,32."""
    matryoshka: str = "1"
    """Nested dictionaries that must each reconstruct alone, by their first features: a number n for F, F/2, F/4, ...;
    or sizes such as 64,256, to which F is added. 1 for the whole dictionary alone. Of prototypes, where poses are
    tied."""
    l1_coefficient: float | None = None
    """Weight of the penalty (l1); None for 0.04 sqrt(G C) with norm_over joint, 0.04 sqrt(C) with blocks. On the
    command line one or several."""
    jumprelu_coefficient: float | None = None
    """Weight of the tanh penalty (jumprelu): squared error of a sample that a feature must save to be active; None for
    0.003 G C, three thousandths of a sample's squared norm. On the command line one or several."""
    tanh_scale: float | None = None
    """How soon the penalty of an active feature saturates (jumprelu): c in tanh(c z norm), one over the size z norm
    where it is three quarters; None for 4 / sqrt(G C), with norm_over blocks 4 / (G sqrt(C))."""
    bandwidth: float | None = None
    """Width of the window around a threshold inside which samples move it (jumprelu); None for 0.03 sqrt(G C)."""
    pre_coefficient: float = 3e-6
    """Weight of the penalty on pre-activations below their threshold (jumprelu), which wakes dead features."""
    norm_over: Literal["blocks", "joint"] = "joint"
    """What a penalty multiplies a code by: the sum of its block norms (favours features on few blocks) or its whole
    norm."""
    l1_warmup_share: float = 0.1
    """Share of the steps over which the l1 penalty grows from zero; jumprelu's grows over the whole run."""
    aux_k: int | None = None
    """Dead features that the auxiliary loss revives a step (topk, batchtopk); None for min(512, F / 2), 0 for none."""
    dead_after_samples: int | None = None
    """A feature that has not fired for this many samples is dead; None for a tenth of the run, at most 10,000,000."""
    augment: bool = True
    """Show every sample, each time it is met, as of its image turned or mirrored at random, by any element of the
    store's group: that only reorders stored blocks. Without it a dictionary sees each image one way up, as in Gorton
    2024, and a small store is over-fitted far more. Held-out samples are left as they are. Tied poses need none: turned
    samples teach them the same."""
    init: Literal["data", "transpose"] = "data"
    """First decoder vectors: `data` takes samples' deviations from the mean, `transpose` random directions, as long as
    the data reach along them. Either way the encoder begins as the decoder's transpose."""
    bias_init: Literal["mean", "median", "zero"] = "mean"
    """First decoder bias: the samples' mean, their geometric median (few extreme samples do not move it), or zero."""
    init_from: str | None = None
    """Begin with the weights of another finished crosscoder: its name in this run, or the path or URL of its folder.
    Group, channels, size and activation must be the same, and the optimiser begins anew. An untied one that reads all
    blocks may begin with tied poses, each feature with weights of its own from then on; tied poses may begin with an
    untied one of any size: its families, the largest first, are their first prototypes (with `init` data)."""
    steps: int | None = None
    """Optimiser steps; None for 40 passes over the store, between 150 and 20,000; half as many with --no-augment. More
    than a finished crosscoder of the same name and options took: it goes on from its last checkpoint to that number in
    all, and over the steps added the learning rate, which had fallen to zero, warms up and falls once more."""
    steps_before: int = 0
    """Not for the command line: where steps were added to a finished training, the number it had taken, so that its
    schedule is known."""
    batch: int = 256
    """Samples a step, over all workers together."""
    accumulate: int = 1
    """Parts in which a batch is computed, one after the other: less memory, the same step (batchtopk chooses within a
    part)."""
    blocks_per_step: int | None = None
    """Blocks, drawn anew for each step, that the reconstruction is judged on: faster, unbiased, noisier; None for all.
    Tied poses are judged on all."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the large matrix products in training; sums, weights and results stay float32."""
    optimiser: Literal["adam", "lazy"] = "adam"
    """`adam` moves every feature at every step; `lazy` those that were active in the batch (topk, batchtopk): the cost
    of a step hardly grows with dict_size, and rare features move less between their turns."""
    optimiser_state: Literal["float32", "bfloat16"] = "float32"
    """Type of Adam's two moments; bfloat16 halves their memory, rounded stochastically."""
    learning_rate: float | None = None
    """None for 2e-4 / sqrt(F / 16384), the scaling of Gao et al. 2024, times 2 for small stores that need few steps,
    and times 2 again for tied poses.
    W_enc's is this over the square root of the number of blocks that the encoder reads."""
    lr_warmup_share: float = 0.05
    """Share of the steps over which the learning rate grows from zero."""
    lr_decay: Literal["linear", "cosine", "none"] = "linear"
    """How the learning rate falls to zero at the end."""
    lr_decay_share: float = 0.2
    """Share of the steps, at the end, over which it falls."""
    clip_norm: float = 10.0
    """The gradient's norm is cut to this times sqrt(G C), which only outliers reach; 0 never cuts."""
    average_decay: float = 0.0
    """Weights that are evaluated and kept are a running mean with this decay a step, such as 0.999; 0 for the last
    weights."""
    lanes: int = 8
    """Independent sample streams that a batch is dealt from; workers share them out, so results do not depend on their
    number."""
    buffer_rows: int = 4096
    """Samples held in memory by the shuffle buffers of all lanes together."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    seed: int = 0
    """Decides the initial weights, the order of samples, how each is turned, and the blocks drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group is not None:
            groups.from_text(self.group)
        if self.steps is not None and self.steps_before >= self.steps:
            raise ValueError(
                f"steps_before: found {self.steps_before}, expected fewer than steps ({self.steps}); leave it out"
            )
        if self.average_decay == 1:
            raise ValueError("average_decay: found 1.0, expected less than 1: the first weights would be kept for ever")
        self._check_sizes()

    def elements_read(self, order: int) -> tuple[int, ...]:
        """Group elements that the encoder of a crosscoder over `order` elements sees.

        Raises:
            ValueError: the group has no such element.
        """
        if self.tying == "orbit":
            return tuple(range(order))
        words = {"identity": (0,), "all": tuple(range(order))}
        elements = words.get(self.encoder_reads) or _numbers("encoder_reads", self.encoder_reads)
        if beyond := [element for element in elements if element >= order]:
            raise ValueError(f"encoder_reads: found element {beyond[0]}, expected 0 to {order - 1}")
        return elements

    def prefix_sizes(self, dict_size: int) -> tuple[int, ...]:
        """Features of each nested dictionary, ascending; the last is all of them.

        Raises:
            ValueError: a size is beyond the dictionary, or there are more halvings than its size allows.
        """
        if "," not in self.matryoshka:
            count = int(self.matryoshka)
            if count > dict_size.bit_length():
                raise ValueError(f"matryoshka: found {count} halvings, expected fewer for {dict_size} features")
            return tuple(dict_size >> halvings for halvings in reversed(range(count)))
        sizes = _numbers("matryoshka", self.matryoshka)
        if max(sizes) > dict_size:
            raise ValueError(f"matryoshka: found {max(sizes)} features, expected at most dict_size ({dict_size})")
        return tuple(sorted({*sizes, dict_size}))

    def _check_sizes(self) -> None:
        if self.encoder_reads not in ("identity", "all"):
            _numbers("encoder_reads", self.encoder_reads, "identity, all, or ")
        if 0 in _numbers("matryoshka", self.matryoshka):
            raise ValueError(f"matryoshka: found {self.matryoshka!r}, expected sizes of at least 1")
        self._check_tying()
        for name in ("dict_size", "prototypes"):
            most = getattr(self, name)
            if self.activation != "l1" and most is not None and self.k > most:
                raise ValueError(f"k: found {self.k}, expected at most {name} ({most})")
        if self.batch % (self.lanes * self.accumulate):
            product = f"lanes ({self.lanes})" + (
                f" times accumulate ({self.accumulate})" if self.accumulate > 1 else ""
            )
            raise ValueError(f"batch: found {self.batch}, expected a multiple of {product}")

    def _check_tying(self) -> None:
        usual = {"prototypes": None, "poses": 1, "invariant_prototypes": 0}
        others = [name for name, value in usual.items() if getattr(self, name) != value]
        if self.tying == "none" and others:
            option = others[0]
            raise ValueError(f"{option}: {getattr(self, option)} found with tying none, which has no prototypes")
        if self.prototypes is not None and self.invariant_prototypes > self.prototypes:
            found = f"found {self.invariant_prototypes:,}, expected at most prototypes ({self.prototypes:,})"
            raise ValueError(f"invariant_prototypes: {found}")
        if self.tying != "orbit":
            return
        if self.encoder_reads not in ("identity", "all"):
            raise ValueError(f"encoder_reads: found {self.encoder_reads!r}, but tied poses are found in all blocks")


def _numbers(name: str, text: str, otherwise: str = "") -> tuple[int, ...]:
    """Different whole numbers from text such as 0,8,16."""
    words = text.split(",")
    if not all(re.fullmatch(r"\s*[0-9]{1,12}\s*", word) for word in words) or len({int(word) for word in words}) < len(
        words
    ):
        raise ValueError(f"{name}: found {text[:80]!r}, expected {otherwise}different whole numbers such as 1,8,16")
    return tuple(int(word) for word in words)
