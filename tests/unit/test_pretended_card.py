"""The pretended card errs where a real one would, and notices what a host would wait for."""

import pytest
import torch

from support.pretended_card import CARD, PretendedCard, on_host


def test_tensors_of_two_devices_do_not_meet_forwards_or_backwards() -> None:
    class Strays(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: object, *grads: torch.Tensor) -> torch.Tensor:
            return grads[0] * torch.ones(3)

    with PretendedCard()():
        here, there = torch.ones(3), torch.ones(3, device="cuda")
        assert there.device == CARD
        with pytest.raises(RuntimeError, match="two devices"):
            here + there
        with pytest.raises(RuntimeError, match="two devices"):
            Strays.apply(there.requires_grad_()).sum().backward()
        with pytest.raises(TypeError, match="cannot become an array"):
            there.numpy()


def test_numbers_and_gradients_are_the_cpus() -> None:
    weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    expected = weights.clone().requires_grad_()
    expected.sin().sum().backward()
    with PretendedCard()():
        found = torch.nn.Linear(3, 4, bias=False)
        found.weight.data = weights.clone()
        found.to("cuda").weight.sin().sum().backward()
        assert torch.equal(on_host(found.weight.grad), expected.grad)


WAITS = {
    "a number": lambda x: x.sum().item(),
    "a truth": lambda x: bool(x.any()),
    "places": lambda x: x.nonzero(),
    "a mask": lambda x: x[x > 0],
    "different ones": lambda x: x.unique(),
    "repeats": lambda x: x.repeat_interleave(x.long()),
    "a copy to the host": lambda x: x.cpu(),
    "a list": lambda x: x.tolist(),
    "a copy from the host": lambda x: torch.ones(3).to(x.device),
    "one from memory that is not pinned": lambda x: torch.ones(3).to(x.device, non_blocking=True),
    "a number of the host": lambda x: x.new_tensor(2.0),
    "places of the host": lambda x: x[[0, 1]],
    "a write from the host": lambda x: x.copy_(torch.ones(3)),
}
DOES_NOT_WAIT = {
    "sums": lambda x: x.sum() + 1,
    "a number everywhere": lambda x: x.new_full((), 2.0),
    "choices": lambda x: torch.where(x > 0, x, 0).topk(2),
    "a copy from pinned memory": lambda x: torch.ones(3).pin_memory().to(x.device, non_blocking=True),
    "repeats of a known length": lambda x: x.repeat_interleave(x.long(), output_size=3),
    "a copy that is awaited later": lambda x: x.to("cpu", non_blocking=True),
}


@pytest.mark.parametrize("name", WAITS)
def test_waiting_is_noticed(name: str) -> None:
    with PretendedCard()() as card:
        WAITS[name](torch.ones(3, device="cuda"))
    assert card.waits.total() == 1


@pytest.mark.parametrize("name", DOES_NOT_WAIT)
def test_what_does_not_wait_is_not(name: str) -> None:
    with PretendedCard()() as card:
        DOES_NOT_WAIT[name](torch.ones(3, device="cuda"))
    assert not card.waits
