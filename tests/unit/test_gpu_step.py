"""Training steps on a pretended card: the numbers of the CPU, no tensor left behind, and nothing waited for but this.

Letters: N rows, G group elements, C channels.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gc_core import groups
from gc_core.io.run_folder import RunFolder
from gc_core.train import Trainer, Worker
from support.pretended_card import CARD, PretendedCard, on_host
from support.small_runs import write_run
from support.small_trainings import opened

NORM = ("train/row_adam.py:clip_gradients", "copied to the host")
"""Whether the gradient is finite and longer than allowed: asked once a step, of one number, before weights move."""
DEAD = ("losses/topk.py:_auxiliary_error", "nonzero")
"""Which features are dead: their products are dense over them alone."""
UNTIED = ("sparse/factors.py:of_entries", "nonzero")
TIED = ("sparse/factors.py:of_turned", "nonzero")
"""Which entries are not zero, of decoder and encoder: the others touch no row."""
WIDTH = ("crosscoder/activation_functions.py:choose_above", "_local_scalar_dense")
"""How many features the fullest sample of the batch has: the width of its codes."""
TOUCHED = ("sparse/factors.py:_touched", "unique_consecutive")
"""How many rows a lazy optimiser has to visit, of W_enc, b_enc and W_dec."""
NESTED = ("losses/reconstruction.py:_cut", "copied to the host")
"""How many features of each nested dictionary the fullest sample has: the widths of its codes."""

SPARSE, TURNED = {NORM: 1, DEAD: 1, UNTIED: 2}, {NORM: 1, DEAD: 1, TIED: 2}
orbit: dict[str, Any] = {"tying": "orbit"}
dying: dict[str, Any] = {"dead_after_samples": 64, "aux_k": 4}
CASES: dict[str, tuple[dict[str, Any], dict[tuple[str, str], int]]] = {
    "topk": ({}, SPARSE),
    "encoder reads one block": ({"encoder_reads": "identity"}, SPARSE),
    "samples turned": ({"augment": True}, SPARSE),
    "features die": (dying, SPARSE),
    "in parts": ({"accumulate": 2}, {NORM: 1, DEAD: 2, UNTIED: 4}),
    "average": ({"average_decay": 0.9}, SPARSE),
    "products in bfloat16": ({"dtype": "bfloat16"}, SPARSE),
    "moments in bfloat16": ({"optimiser_state": "bfloat16"}, SPARSE),
    "lazy": ({"optimiser": "lazy"}, SPARSE | {TOUCHED: 3}),
    "nested": ({"matryoshka": "2,4"}, SPARSE | {NESTED: 1, UNTIED: 4}),
    "some blocks": ({"blocks_per_step": 2}, SPARSE),
    "batchtopk": ({"activation": "batchtopk"}, SPARSE | {WIDTH: 1}),
    "l1": ({"activation": "l1"}, {NORM: 1}),
    "jumprelu": ({"activation": "jumprelu"}, {NORM: 1}),
    "l1, moments in bfloat16": ({"activation": "l1", "optimiser_state": "bfloat16"}, {NORM: 1}),
    "jumprelu, nested, some blocks": (
        {"activation": "jumprelu", "matryoshka": "2,4", "blocks_per_step": 2},
        {NORM: 1},
    ),
    "tied topk": (orbit, TURNED),
    "tied, nested": (orbit | {"matryoshka": "2,4"}, TURNED | {NESTED: 1, TIED: 4}),
    "tied, lazy": (orbit | {"optimiser": "lazy"}, TURNED | {TOUCHED: 3}),
    "tied, products in bfloat16": (orbit | {"dtype": "bfloat16"}, TURNED),
    "tied, two poses": (orbit | {"poses": 2}, TURNED),
    "tied, invariant": (orbit | {"dict_size": None, "prototypes": 6, "invariant_prototypes": 2}, TURNED | {TIED: 4}),
    "tied, features die": (orbit | dying, TURNED),
    "tied batchtopk": (orbit | {"activation": "batchtopk"}, TURNED | {WIDTH: 1}),
    "tied l1": (orbit | {"activation": "l1"}, {NORM: 1, TIED: 2}),
    "tied jumprelu": (orbit | {"activation": "jumprelu"}, {NORM: 1, TIED: 2}),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    acts_NGC = np.random.default_rng(0).standard_normal((1000, 4, 8)).astype(np.float32)
    folder: Path = tmp_path_factory.mktemp("noise")
    return write_run(folder, acts_NGC, groups.cyclic(4))


def advanced(run: RunFolder, device: str, changes: dict[str, Any], card: PretendedCard | None = None) -> Trainer:
    """After three steps, the last of which alone counts what was waited for: tables are made at the first."""
    trainer = Trainer(*opened(run, **changes), Worker(device=device))
    with closing(trainer.stream()) as stream:
        for _ in range(3):
            if card:
                card.waits.clear()
            trainer.advance(next(stream))
    return trainer


@pytest.mark.parametrize("name", CASES)
def test_a_step_waits_for_these_numbers_alone(name: str, run: RunFolder) -> None:
    changes, expected = CASES[name]
    on_cpu = advanced(run, "cpu", changes)
    with PretendedCard()() as card:
        trainer = advanced(run, "cuda:0", changes, card)
        assert dict(card.waits) == expected
        log = trainer.log()
    assert log == on_cpu.log()
    pairs = zip(on_cpu.model.named_parameters(), trainer.model.parameters(), strict=True)
    for (parameter, cpu), on_card in pairs:
        assert on_card.device == CARD
        assert torch.equal(on_host(on_card), cpu), parameter
