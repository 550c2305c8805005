"""What a training does where its config says None: every number, once. The help texts quote these, and a test
compares."""

import math
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualSize:
    """A number of features, or of prototypes, that follows from the number of samples."""

    samples_each: int
    least: int
    most: int

    def of(self, num_samples: int, *, k: int) -> int:
        """The power of two next below that share of the samples, within the bounds, and never below k."""
        below = 2 ** (num_samples // self.samples_each or 1).bit_length() // 2
        return max(k, min(self.most, max(self.least, below)))


DICT_SIZE: Final = UsualSize(samples_each=4, least=256, most=4096)
PROTOTYPES: Final = UsualSize(samples_each=16, least=64, most=1024)

FEWEST_STEPS, MOST_STEPS = 150, 20_000
PASSES: Final = 20
"""Times that a run of default length meets each sample."""
AUGMENTED_PASSES: Final = 40
"""Times where samples are turned at random: meeting one again tells something new."""
MOST_REVIVED: Final = 512
"""Dead features that the auxiliary loss revives a step: half of all, and no more than these."""
DEAD_SHARE: Final = 10
"""A feature is dead after one part in so many of the run."""
MOST_SAMPLES_TO_DEATH: Final = 10_000_000

RATE: Final = 2e-4
RATE_FEATURES: Final = 2**14
"""The features of which that is the learning rate (Gao et al. 2024)."""
FASTER_IN_FEW_STEPS: Final = 2
FASTER_IF_TIED: Final = 2
"""A prototype meets every pose of its features, and may move further."""
L1_SHARE: Final = 0.04
BANDWIDTH_SHARE: Final = 0.03
"""L1 coefficient and width of the thresholds' window, as shares of a sample's root mean squared norm."""
JUMPRELU_SHARE: Final = 0.003
"""JumpReLU coefficient, what a feature costs whatever its size, as a share of a sample's mean squared norm."""
TANH_SCALE: Final = 4.0
"""tanh scale times a sample's root mean squared norm: an active feature's size is about a quarter of that norm."""


def steps(num_samples: int, *, batch: int, turned: bool) -> int:
    """So many that each sample is met often enough; `turned` where each meeting shows another pose."""
    passes = AUGMENTED_PASSES if turned else PASSES
    return min(MOST_STEPS, max(FEWEST_STEPS, round(passes * num_samples / batch)))


def learning_rate(num_features: int, *, tied: bool) -> float:
    """Default learning rate of a dictionary of so many features; `tied`: in tied poses."""
    rate = RATE * FASTER_IN_FEW_STEPS * (FASTER_IF_TIED if tied else 1)
    return rate / math.sqrt(num_features / RATE_FEATURES)


def aux_k(num_rows: int) -> int:
    """Default number of dead rows revived a step, in a dictionary of so many rows of weights."""
    return min(MOST_REVIVED, max(1, num_rows // 2))


def dead_after_samples(steps: int, *, batch: int) -> int:
    """Samples without activity after which a feature counts as dead, in a run of so many steps."""
    return min(MOST_SAMPLES_TO_DEATH, max(batch, steps * batch // DEAD_SHARE))
