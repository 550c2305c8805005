"""An export needs no memory of the device."""

import pytest
import torch

from gc_core import groups
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.parallel.sharded_state import gather_rows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def test_a_crosscoder_leaves_its_device_without_a_copy_there() -> None:
    shape = CrosscoderShape(group=groups.parse("D_8"), channels=64, dict_size=4096, reads=(0,), activation="topk", k=8)
    model = GroupCrosscoder(shape)
    torch.nn.init.normal_(model.W_dec)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.cuda()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = GroupCrosscoder(shape)
    gather_rows(model.state_dict(), model.shards, found.state_dict())
    assert torch.cuda.max_memory_allocated() == before
    torch.testing.assert_close(dict(found.state_dict()), expected, rtol=0, atol=0)
