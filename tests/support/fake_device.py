"""A device that is none: tensors sent to `meta` stay where they are, and refuse to meet those that were not sent.

It stands for an accelerator in tests on machines without one: the numbers are real, mixing devices is an error.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

ELSEWHERE = torch.device("meta")


class _Sent(Tensor):
    """One that is on the device."""


class FakeDevice(TorchFunctionMode):
    """In the block, `torch.device("meta")` is another device with memory of its own."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        tensors = list(_tensors([*args, *options.values()]))
        if func == Tensor.device.__get__:
            return ELSEWHERE if isinstance(args[0], _Sent) else torch.device("cpu")
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        if func is Tensor.numpy and isinstance(args[0], _Sent):
            raise TypeError("a tensor of another device cannot become an array")
        if func is Tensor.to:
            return self._to(args, options)
        if "device" in options and options["device"] is not None:
            sent = torch.device(options.pop("device")) == ELSEWHERE
            return _marked(func(*args, **options), sent)
        where = {isinstance(each, _Sent) for each in tensors if each.dim()}
        if len(where) > 1:
            raise RuntimeError(f"{getattr(func, '__name__', func)}: tensors of two devices")
        plain = [_unmarked(each) for each in args], {name: _unmarked(each) for name, each in options.items()}
        return _marked(func(*plain[0], **plain[1]), True in where)

    def _to(self, args: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
        tensor, *rest = args
        rest += options.pop("device", None), *()
        sent = isinstance(tensor, _Sent)
        kept = []
        for each in rest:
            if isinstance(each, Tensor):
                sent, each = isinstance(each, _Sent), each.dtype
            elif isinstance(each, str | torch.device):
                sent, each = torch.device(each) == ELSEWHERE, None
            kept += [each] if each is not None else []
        return _marked(tensor.as_subclass(Tensor).to(*kept, **options) if kept or options else _unmarked(tensor), sent)


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _unmarked(value: Any) -> Any:
    if isinstance(value, _Sent):
        return value.as_subclass(Tensor)
    return type(value)(map(_unmarked, value)) if type(value) in (list, tuple) else value


def _marked(value: Any, sent: bool) -> Any:
    if isinstance(value, Tensor):
        return value.as_subclass(_Sent) if sent else _unmarked(value)
    if type(value) in (list, tuple):
        return type(value)(_marked(each, sent) for each in value)
    if isinstance(value, tuple):  # as of `topk`
        return type(value)([_marked(each, sent) for each in value])
    return value
