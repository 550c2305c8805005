"""Rows of a stored decoder are those of the loaded one, whatever is asked for and however numbers are stored.

Letters: F features, G group elements, C channels.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gc_core.crosscoder import StoredDecoder, open_decoder
from gc_core.io.location import Location
from support.random_crosscoders import random_crosscoder


@pytest.mark.parametrize("wanted", [[], [0], [11], [0, 1, 2], [2, 3, 7, 9, 10], [5, 4, 4, 0]])
def test_rows_are_those_of_the_loaded_crosscoder(tmp_path: Path, wanted: list[int]) -> None:
    model = random_crosscoder().float()
    model.save(tmp_path)
    found = open_decoder(Location.parse(tmp_path)).rows(np.array(wanted, np.int64))
    torch.testing.assert_close(found, model.W_dec.detach()[wanted], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_single(tmp_path: Path, dtype: torch.dtype) -> None:
    decoder_FGC = torch.randn(6, 3, 5).to(dtype)
    save_file({"b": torch.ones(3), "W_dec": decoder_FGC}, tmp_path / "w")
    stored = StoredDecoder(tmp_path / "w")
    assert stored.shape == (6, 3, 5)
    found = stored.rows(np.array([4, 5, 1]))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, decoder_FGC[[4, 5, 1]].float())


def test_a_file_that_ends_too_early_is_noticed(tmp_path: Path) -> None:
    save_file({"W_dec": torch.randn(6, 3, 5)}, tmp_path / "w")
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(content[:-10])
    stored = StoredDecoder(tmp_path / "w")
    stored.rows(np.array([0, 4]))
    with pytest.raises(OSError, match=r"ends inside the decoder"):
        stored.rows(np.array([5]))


@pytest.mark.parametrize("damage", [b"", b"\x00" * 4, b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_what_is_no_crosscoder_is_refused_in_one_line(tmp_path: Path, damage: bytes) -> None:
    folder = Location.parse(tmp_path)
    with pytest.raises(ValueError, match="no finished crosscoder found"):
        open_decoder(folder)
    random_crosscoder().float().save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(damage)
    with pytest.raises(ValueError, match=str(tmp_path)):
        open_decoder(folder)
