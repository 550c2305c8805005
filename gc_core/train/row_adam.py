"""Adam for dictionaries whose gradient touches few rows, beside PyTorch's fused Adam for everything else.

Letters: F features (rows of a parameter), D values of a row, R rows of one block.
"""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.adam import adam

from gc_core.parallel.collectives import ALONE, Shards
from gc_core.sparse.factors import RowGradient, blocks, drop_row_gradient, keep_row_gradient, row_gradient

Missed = Literal["keep", "decay"]
FEWEST_AXES_OF_HALF_STATE = 2
"""Biases and thresholds are small: their moments keep the parameter's type."""


class RowAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015) that reads row gradients (`gc_core.sparse`) block by block, and `.grad` where it is.

    `lazy=False` is `torch.optim.Adam` to the last digits: every row moves at every step, touched or not, but no
    gradient of the dictionary's size is formed.

    `lazy=True` visits the touched rows only. Rows touched at every step move as with Adam; others differ in this:
    - while a row is not touched it stands still. Adam goes on moving it along its old momentum, beta1 / (1 - beta1) = 9
      times as far in all as the last step went;
    - `missed="keep"`: its moments stand still too, and its bias correction counts its own steps, so that a feature's
      first steps are as long as anyone's however late they come. The second moment is the mean square of the gradient
      when there is one, not over all steps: a row touched in a share p of the steps moves about lr for each touch,
      where Adam moves it lr / sqrt(p);
    - `missed="decay"`: on the next touch the moments first shrink by beta^(steps missed), and the bias correction
      counts all steps: the moments are Adam's exactly, and only the motion between touches is left out, which for a
      rare row is nine tenths of it.

    `state_dtype=torch.bfloat16` halves the moments' memory, for parameters of two axes and more. They are rounded
    stochastically, up or down in proportion to the distances, by numbers that follow from step and place alone:
    rounding to nearest would lose every change of the second moment smaller than 1/512 of it, as nearly all are.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        lazy: bool = False,
        missed: Missed = "keep",
        state_dtype: torch.dtype | None = None,
    ) -> None:
        if state_dtype not in (None, torch.float32, torch.float64, torch.bfloat16):
            raise ValueError(f"state_dtype: found {state_dtype}, expected float32, float64 or bfloat16")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "lazy": lazy, "missed": missed})
        self._state_dtype = state_dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Move every parameter that has a gradient; row gradients stay until `zero_grad`."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for options in self.param_groups:
            for parameter in options["params"]:
                rows = row_gradient(parameter)
                if rows is not None and parameter.grad is None:
                    self._step_rows(parameter, rows, options)
                elif parameter.grad is not None:
                    dense = parameter.grad if rows is None else parameter.grad + rows.dense()
                    self._step_dense(parameter, dense, options)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        super().zero_grad(set_to_none)
        for parameter in self._parameters():
            drop_row_gradient(parameter)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave, bit for bit: PyTorch's own would give moments the weights' type."""
        super().load_state_dict(state_dict)
        numbers = chain.from_iterable(options["params"] for options in state_dict["param_groups"])
        for number, parameter in zip(numbers, self._parameters(), strict=True):
            if number in state_dict["state"]:
                saved = state_dict["state"][number]
                # Copies: those saved may be views of a larger dictionary's.
                self.state[parameter] = {n: tensor.to(parameter.device, copy=True) for n, tensor in saved.items()}

    def _parameters(self) -> Iterable[Tensor]:
        return chain.from_iterable(options["params"] for options in self.param_groups)

    def _step_rows(self, parameter: Tensor, gradient: RowGradient, options: dict[str, Any]) -> None:
        if options["lazy"]:
            self._step_touched(parameter, gradient, options)
            return
        state = self._state_of(parameter)
        for first, last in blocks(len(parameter), gradient.table_MD):
            _move_all(parameter, state, gradient.all_rows(first, last), slice(first, last), options)
        state["step"] += 1

    def _step_dense(self, parameter: Tensor, grad: Tensor, options: dict[str, Any]) -> None:
        state = self._state_of(parameter)
        if not parameter.dim() or state["exp_avg"].dtype == parameter.dtype:
            _fused(parameter, grad, state["exp_avg"], state["exp_avg_sq"], state["step"], options)
        else:
            grad_FD = grad.reshape(len(grad), -1)
            for first, last in blocks(len(grad), grad_FD):
                _move_all(parameter, state, grad_FD[first:last], slice(first, last), options)
        state["step"] += 1

    def _step_touched(self, parameter: Tensor, gradient: RowGradient, options: dict[str, Any]) -> None:
        state = self._state_of(parameter)
        if "row_step" not in state:
            state["row_step"] = torch.zeros(len(parameter), dtype=torch.int64, device=parameter.device)
        state["step"] += 1
        for first, last in blocks(len(gradient.touched_U), gradient.table_MD):
            rows_R = gradient.touched_U[first:last]
            _move_touched(parameter, state, gradient.rows(first, last), rows_R, options)

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """Moments, and the number of steps taken; zeros at first, which cost no memory before they are written."""
        state = self.state[parameter]
        if not state:
            half = self._state_dtype is not None and parameter.dim() >= FEWEST_AXES_OF_HALF_STATE
            dtype = self._state_dtype if half else parameter.dtype
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros(parameter.shape, dtype=dtype, device=parameter.device)
        return state


def clip_gradients(
    parameters: Iterable[Tensor], at: float, *, split: Iterable[Tensor] = (), shards: Shards = ALONE
) -> Tensor:
    """Shorten all gradients together, rows included, to norm `at` where they are longer; the norm before, 0-dim
    and on the CPU.

    With `shards`, each holds other rows of the `split` ones of the parameters, and all rows count. Rows are summed up
    for it only where a bound from their factors does not settle the matter; else the bound is given. A norm that is not
    finite changes nothing.
    """
    parameters, apart = list(parameters), {id(parameter) for parameter in split}
    dense = [parameter.grad for parameter in parameters if parameter.grad is not None]
    by_row = [(parameter, rows) for parameter in parameters if (rows := row_gradient(parameter)) is not None]
    whole = _norms_of_dense(parameter for parameter in parameters if id(parameter) not in apart)
    in_parts = _norms_of_dense(parameter for parameter in parameters if id(parameter) in apart)
    # One wait for the device, whatever is asked of the number.
    bound = _norm(whole, [*in_parts, *(rows.norm_bound() for _, rows in by_row)], shards).cpu()
    if bound <= at or not bound.isfinite():
        return bound
    norm = _norm(whole, [*in_parts, *(rows.norm() for _, rows in by_row)], shards).cpu()
    if norm.isfinite() and norm > at:
        for grad in dense:
            grad.mul_(at / norm.to(grad.dtype))
        for parameter, rows in by_row:
            keep_row_gradient(parameter, rows.scaled(float(at / norm)))
    return norm


def _norms_of_dense(parameters: Iterable[Tensor]) -> list[Tensor]:
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return [get_total_norm(grads).double()] if grads else []


def _norm(whole: list[Tensor], in_parts: list[Tensor], shards: Shards) -> Tensor:
    """Norm of everything: what every shard has alike counts once, of the rest the shards' squares add up."""
    if shards.count > 1:
        own = torch.stack(in_parts).norm() if in_parts else torch.zeros((), dtype=torch.float64)
        in_parts = [shards.total(own.square()).sqrt()]
    norms = [norm.to(whole[0].device) for norm in in_parts] if whole else in_parts
    return torch.stack([*whole, *norms]).norm() if whole or norms else torch.zeros(())


def _move_all(
    parameter: Tensor, state: dict[str, Tensor], grad_RD: Tensor, part: slice, options: dict[str, Any]
) -> None:
    """One block of neighbouring rows; `step` is the number of steps before this one."""
    weights, mean, square = (_by_row(tensor)[part] for tensor in (parameter, state["exp_avg"], state["exp_avg_sq"]))
    grad_RD = grad_RD.to(weights.dtype)
    wide_mean, wide_square = mean.to(weights.dtype), square.to(weights.dtype)
    _fused(weights, grad_RD, wide_mean, wide_square, state["step"], options)
    if mean.dtype != weights.dtype:
        rows_R = torch.arange(part.start, part.stop, device=weights.device)
        for stored, wide, draw in ((mean, wide_mean, 0), (square, wide_square, 1)):
            stored.copy_(rounded(wide, stored.dtype, rows_R, 2 * state["step"].long() + draw))


def _move_touched(
    parameter: Tensor, state: dict[str, Tensor], grad_RD: Tensor, rows_R: Tensor, options: dict[str, Any]
) -> None:
    """One block of touched rows; `step` counts this one."""
    (beta1, beta2), stored = options["betas"], (_by_row(state["exp_avg"]), _by_row(state["exp_avg_sq"]))
    weights = _by_row(parameter)
    grad_RD = grad_RD.to(weights.dtype)
    known_mean, known_square = (moment.index_select(0, rows_R).to(weights.dtype) for moment in stored)
    step = state["step"].long()
    if options["missed"] == "decay":
        missed_R1 = (step - 1 - state["row_step"][rows_R])[:, None].to(weights.dtype)
        mean, square = known_mean * beta1**missed_R1, known_square * beta2**missed_R1
        mean.lerp_(grad_RD, 1 - beta1)
        square.mul_(beta2).addcmul_(grad_RD, grad_RD, value=1 - beta2)
        state["row_step"][rows_R] = step
        steps_R1 = step.double().expand(len(rows_R), 1)
    else:
        mean = known_mean.lerp(grad_RD, 1 - beta1)
        square = (known_square * beta2).addcmul_(grad_RD, grad_RD, value=1 - beta2)
        state["row_step"][rows_R] += 1
        steps_R1 = state["row_step"][rows_R][:, None].double()
    # lr mean / c1 / (sqrt(square / c2) + eps), the numbers of a row gathered into the denominator to save passes.
    over_size_R1 = (beta1**steps_R1 - 1) / options["lr"]
    over_root_R1 = over_size_R1 * (1 - beta2**steps_R1).rsqrt()
    eps_R1, over_root_R1 = (x_R1.to(weights.dtype) for x_R1 in (over_size_R1 * options["eps"], over_root_R1))
    for draw, (moment, known, new) in enumerate(zip(stored, (known_mean, known_square), (mean, square), strict=True)):
        if moment.dtype == new.dtype:
            moment.index_add_(0, rows_R, torch.sub(new, known, out=known))  # twice as fast as a copy, on CPUs
        else:
            moment.index_copy_(0, rows_R, rounded(new, moment.dtype, rows_R, 2 * step + draw))
    weights.index_add_(0, rows_R, mean.div_(torch.addcmul(eps_R1, square.sqrt_(), over_root_R1)))


def _fused(
    weights: Tensor, grad: Tensor, mean: Tensor, square: Tensor, steps_before: Tensor, options: dict[str, Any]
) -> None:
    """PyTorch's own Adam, in place, in one pass."""
    beta1, beta2 = options["betas"]
    adam(
        [weights],
        [grad],
        [mean],
        [square],
        [],
        [steps_before.clone()],
        fused=True,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=options["lr"],
        weight_decay=0.0,
        eps=options["eps"],
        maximize=False,
    )


def _by_row(tensor: Tensor) -> Tensor:
    """(F, D) view of a parameter or a moment."""
    return tensor.detach().view(len(tensor), -1)


def rounded(values_RD: Tensor, dtype: torch.dtype, rows_R: Tensor, draw: int | Tensor) -> Tensor:
    """float32 to bfloat16, up or down at random in proportion to the distances; other types are converted plainly.

    The random number of a place follows from its row, its column and `draw`, by a hash of 32 bits (Wellons 2018,
    "lowbias32"), so that a resumed run rounds as the undisturbed one.
    """
    if dtype != torch.bfloat16:
        return values_RD.to(dtype)
    columns_D = torch.arange(values_RD.shape[1], dtype=torch.int32, device=values_RD.device)
    seed_R1 = (rows_R[:, None] * 40503 + draw * 2654435761).to(torch.int32)
    hashed = columns_D * -1640531527 + seed_R1
    for shift, factor in ((16, 0x7FEB352D), (15, -2073254261)):
        hashed = (hashed ^ (hashed >> shift)) * factor
    bits = values_RD.float().view(torch.int32) + ((hashed >> 16) & 0xFFFF)
    return (bits & -0x10000).view(torch.float32).to(torch.bfloat16)
