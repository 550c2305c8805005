"""A CUDA device that is none: its numbers are a CPU's, but tensors say `cuda`, and what the host waits for is noted.

Each operation of PyTorch is looked at below autograd, backward passes included: tensors of the card and of the host
that meet are an error as on a real one, and so is a half-moved model. Triton's kernels are replaced by the CPU's loops,
which get what the kernels would get. (PyTorch's own fake tensors hold no numbers, and without a driver this version
cannot differentiate those of `cuda`.)
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

import gc_core
from gc_core.sparse import kernels, triton_kernels

CARD = torch.device("cuda:0")
BELOW = torch.device("meta")
"""What the card is called below Python, where `cuda` would look for a driver."""
OURS = f"{Path(gc_core.__file__).parent}/"

WAITING = (
    "_local_scalar_dense", "nonzero", "_unique2", "unique_consecutive", "unique_dim", "masked_select", "equal",
    "bincount", "is_nonzero",
)  # fmt: skip
"""Operations whose result the host must know: a number, or how long a tensor is."""
PINNED = "pinned_for_the_card"
MAKES_FROM_HOST = (torch.tensor, torch.as_tensor)


class OnCard(Tensor):
    """A tensor that says it is on the card."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnCard":
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=BELOW,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CARD)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        raise AssertionError(f"{func} met a tensor of a card that is not pretended any more")


class PretendedCard:
    """In its block `cuda` is a device; `waits` counts what the host waited for, by line of our code and operation."""

    def __init__(self) -> None:
        self.waits: Counter[tuple[str, str]] = Counter()
        self.launched: Counter[str] = Counter()
        """Kernels of Triton that would have run."""

    @contextmanager
    def __call__(self) -> Iterator["PretendedCard"]:
        above, run_backward = _Above(self), torch.autograd._engine_run_backward

        def run(*args: Any, **options: Any) -> Any:
            with above:  # which the functions around it have turned off
                return run_backward(*args, **options)

        with _patched(self), mock.patch.object(torch.autograd, "_engine_run_backward", run), _Below(self), above:
            yield self

    def note(self, operation: str) -> None:
        """The host waits for the card, where our code stands now."""
        self.waits[(_line_of_ours(), operation)] += 1


class _Above(TorchFunctionMode):
    """What is asked of a device in Python."""

    def __init__(self, card: PretendedCard) -> None:
        super().__init__()
        self._card = card

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args, options = _below((args, dict(kwargs or {})))
        if func in MAKES_FROM_HOST and options.get("device") == BELOW:
            return self._sent(func(*args, **{**options, "device": "cpu"}))
        if func is Tensor.new_tensor and isinstance(args[0], OnCard):
            return self._sent(torch.tensor(*args[1:], **{"dtype": args[0].dtype, **options, "device": "cpu"}))
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], OnCard):
            args = (args[0], self._index(args[1]), *args[2:])
        if func is Tensor.to and (moved := self._moved(args, options)) is not None:
            return moved
        if func is Tensor.tolist and isinstance(args[0], OnCard):
            self._card.note("copied to the host")
            return args[0].held.tolist()
        if func is Tensor.numpy and isinstance(args[0], OnCard):
            raise TypeError("a tensor of the card cannot become an array; copy it to the host first")
        if func is Tensor.cuda:
            return self._moved((args[0], BELOW), options)
        return func(*args, **options)

    def _sent(self, tensor: Tensor) -> Tensor:
        self._card.note("made on the host")
        return OnCard(tensor)

    def _index(self, index: Any) -> Any:
        """Python's lists become tensors of the card."""
        if isinstance(index, list):
            return self._sent(torch.tensor(index))
        return tuple(map(self._index, index)) if isinstance(index, tuple) else index

    def _moved(self, args: tuple[Any, ...], options: dict[str, Any]) -> Tensor | None:
        """A copy to the card, noted where the host waits for it; None where nothing moves there."""
        target = next((each for each in (*args[1:], options.get("device")) if isinstance(each, torch.device)), None)
        if isinstance(args[0], OnCard) or target != BELOW:
            return None
        if not options.get("non_blocking") or not getattr(args[0], PINNED, False):
            self._card.note("copied to the card")
        return args[0].to(*args[1:], **options)


class _Below(TorchDispatchMode):
    """What operations do."""

    def __init__(self, card: PretendedCard) -> None:
        super().__init__()
        self._card = card

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options, name = dict(kwargs or {}), func.__name__.split(".")[0]
        if torch.is_inference_mode_enabled():  # where operations made of others arrive whole
            with self:
                found = func.decompose(*args, **options)
            if found is not NotImplemented:
                return found
        tensors = [each for each in tree_iter((args, options)) if isinstance(each, Tensor)]
        on_card = any(isinstance(each, OnCard) for each in tensors)
        target = options.get("device")
        if name not in ("_to_copy", "copy_"):
            _refuse_mixed(func, tensors)
        if on_card:
            self._note(name, args, options)
        held_args, held = tree_map_only(OnCard, lambda each: each.held, (args, options))
        if target is not None:
            on_card, held["device"] = target == BELOW, torch.device("cpu")
        if name == "copy_":
            on_card = isinstance(args[0], OnCard)
        found = func(*held_args, **held)
        if func._schema.is_mutable and not name.startswith("_to"):
            return _same_or_new(found, args, options, on_card)
        return tree_map_only(Tensor, OnCard, found) if on_card else found

    def _note(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        to_host = name == "_to_copy" and options.get("device") == torch.device("cpu")
        to_host |= name == "copy_" and not isinstance(args[0], OnCard)
        if to_host and not options.get("non_blocking"):
            self._card.note("copied to the host")
        if name == "copy_" and isinstance(args[0], OnCard) and not isinstance(args[1], OnCard) and args[1].dim():
            self._card.note("copied to the card")
        masks = [each for each in tree_iter(args[1:2]) if isinstance(each, Tensor) and each.dtype == torch.bool]
        if name in WAITING or (name in ("index", "index_put", "index_put_") and masks):
            self._card.note(name)
        if name == "repeat_interleave" and options.get("output_size") is None:
            self._card.note(name)


def _same_or_new(found: Any, args: tuple[Any, ...], options: dict[str, Any], on_card: bool) -> Any:
    """What an operation wrote into comes back as it was given."""
    known = {id(each.held): each for each in tree_iter((args, options)) if isinstance(each, OnCard)}

    def one(tensor: Tensor) -> Tensor:
        given = known.get(id(tensor))
        if given is not None:
            return given
        return OnCard(tensor) if on_card else tensor

    return tree_map_only(Tensor, one, found)


def _refuse_mixed(func: Any, tensors: Sequence[Tensor]) -> None:
    where = {isinstance(each, OnCard) for each in tensors if each.dim()}
    if len(where) > 1:
        shapes = [("card" if isinstance(each, OnCard) else "host", tuple(each.shape)) for each in tensors]
        raise RuntimeError(f"{func}: tensors of two devices, {shapes}")


def _below(values: Any) -> Any:
    """The card's name in arguments, as it is called below."""
    if isinstance(values, dict):
        return {name: BELOW if name == "device" and _is_card(value) else value for name, value in values.items()}
    if isinstance(values, tuple) and type(values) is tuple:
        return tuple(_below(value) for value in values)
    return BELOW if _is_card(values) else values


def _is_card(value: Any) -> bool:
    if isinstance(value, str):
        return value == "cuda" or value.startswith("cuda:")
    return isinstance(value, torch.device) and value.type == "cuda"


def _line_of_ours() -> str:
    """`gc_core/...py:function` of the innermost frame that is the library's."""
    for frame, _ in traceback.walk_stack(None):
        if frame.f_code.co_filename.startswith(OURS):
            return f"{frame.f_code.co_filename.removeprefix(OURS)}:{frame.f_code.co_name}"
    return "test"


def _pinned(tensor: Tensor) -> Tensor:
    """The tensor in memory that is copied from beside the computing."""
    copied = tensor.clone()
    setattr(copied, PINNED, True)
    return copied


@contextmanager
def _patched(card: PretendedCard) -> Iterator[None]:
    """Triton's kernels, and what a card has beside tensors."""

    def stand_in(name: str) -> Callable[..., Tensor]:
        def run(*args: Any) -> Tensor:
            *tensors, _ = args
            assert all(isinstance(each, OnCard) for each in tensors), f"{name}: a tensor is not on the card"
            card.launched[name] += 1
            with mock.patch.object(kernels, "has_triton", return_value=False):
                return OnCard(getattr(kernels, name)(*(each.held for each in tensors)))

        return run

    with (
        mock.patch.object(kernels, "has_triton", lambda tensor: tensor.is_cuda),
        mock.patch.object(triton_kernels, "segment_sums", stand_in("segment_sums")),
        mock.patch.object(triton_kernels, "row_dots", stand_in("row_dots")),
        mock.patch.object(torch.cuda, "device", side_effect=nullcontext),
        mock.patch.object(torch.cuda, "Event", _Event),
        mock.patch.object(Tensor, "pin_memory", _pinned),  # in any thread
    ):
        yield


class _Event:
    """One that has happened."""

    def record(self) -> None:
        """Nothing is left to do."""

    def synchronize(self) -> None:
        """Nothing is left to wait for."""


def on_host(tensor: Tensor) -> Tensor:
    """The numbers of a tensor of the card."""
    assert isinstance(tensor, OnCard), "expected a tensor of the card"
    return tensor.held
