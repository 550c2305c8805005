"""How often a training step waits for the device: each number, or length, that the host asks for stops it until all
that was queued is done."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from support.small_trainings import new_trainer

ASKS_FOR_A_LENGTH = ("nonzero", "unique_consecutive", "_unique2", "bincount", "masked_select", "repeat_interleave")

STEPS = 5

TIED = {"tying": "orbit", "prototypes": 8, "dict_size": None, "encoder_reads": "identity"}


class Waits(TorchDispatchMode):
    """Counts the operations whose result, or its shape, the host cannot know before they are done."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        length_is_told = (kwargs or {}).get("output_size") is not None
        if by_mask or name == "_local_scalar_dense" or (name in ASKS_FOR_A_LENGTH and not length_is_told):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def waits_a_step(run: Any, **changes: Any) -> Counter[str]:
    trainer = new_trainer(run, steps=40, **changes)
    stream = trainer.stream()
    trainer.advance(next(stream))
    batches = [next(stream) for _ in range(STEPS)]
    with Waits() as waits:
        for acts_BGC in batches:
            trainer.advance(acts_BGC)
    stream.close()
    return Counter({name: count / STEPS for name, count in waits.found.items()})


# Of each, two are for the gradient's norm, which is on the host already. Entries of two gradients are counted, and dead
# features; those of which the optimiser visits touched rows alone, besides; batchtopk asks for its fullest sample.
@pytest.mark.parametrize(
    ("changes", "most"),
    [({}, 5), ({"activation": "batchtopk"}, 6), ({"activation": "l1"}, 2), ({"optimiser": "lazy"}, 8), (TIED, 5)],
    ids=["topk", "batchtopk", "l1", "lazy", "tied"],
)
def test_a_step_waits_for_few_numbers(planted: Any, changes: dict[str, Any], most: int) -> None:
    found = waits_a_step(planted.run, **changes)
    assert sum(found.values()) <= most, found
