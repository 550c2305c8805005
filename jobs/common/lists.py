"""Lists on the command line: `--dict-size 1024,4096 --k 16,32` stands for four crosscoders."""

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Annotated, Any, get_args, get_type_hints

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from gc_core.config import ResolvedTrainConfig, TrainConfig
from jobs.common.options import INTERNAL, paragraphs

LISTED = {"dict_size": "", "prototypes": "", "k": "k", "l1_coefficient": "l1_", "jumprelu_coefficient": "jump_"}
"""Options that take lists, and what stands before their value in a name."""

REGISTRY = ConstructorRegistry()
"""Registry for `tyro.cli` of how `TrainConfigs` is read."""

Value = int | float | str | None


@dataclass(frozen=True)
class TrainConfigs:
    """Trainings side by side. On the command line the options of one, of which some take lists: every combination."""

    every: tuple[TrainConfig, ...] = (TrainConfig(),)


def combined(**options: Any) -> TrainConfigs:
    """Combine options of which listed ones are tuples: every combination, the last list changing fastest.

    Raises:
        ValueError: a list names a value twice, or a config refuses its values.
    """
    listed = {name: value for name, value in options.items() if name in LISTED}
    for name, values in listed.items():
        if len(set(values)) < len(values):
            found = ",".join(map(str, values))
            raise ValueError(f"{name}: found {found!r}, expected different values")
    each = (dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values()))
    return TrainConfigs(tuple(TrainConfig(**{**options, **values}) for values in each))


def names_of(configs: Sequence[ResolvedTrainConfig], store_group: str, base: str | None) -> list[str]:
    """A different name for each config: `topk-1024`, with `-sae` for the trivial group and `-D_16` for a part
    of the store's, and with the values of other listed options that differ, as in `topk-1024-k16`.

    `base` stands for all of it but what differs.
    """
    differing = [name for name in LISTED if len({getattr(config, name) for config in configs}) > 1]
    return [_name(config, differing, store_group, base) for config in configs]


@REGISTRY.struct_rule
def _options(asked: StructTypeInfo) -> StructConstructorSpec | None:
    """Options of a `TrainConfig`, by the same names and defaults."""
    if asked.type is not TrainConfigs:
        return None
    return StructConstructorSpec(instantiate=combined, fields=options_of_training(LISTED))


def options_of_training(listed: Collection[str], more_help: str = "") -> tuple[StructFieldSpec, ...]:
    """Options of a `TrainConfig`, by the same names and defaults, of which those listed take several values;
    `more_help` is added to those that `jobs.train` takes one of."""
    told, hints = paragraphs(TrainConfig), get_type_hints(TrainConfig)
    return tuple(
        _option(
            each,
            hints[each.name],
            told[each.name] + (more_help if each.name in listed and each.name not in LISTED else ""),
            is_listed=each.name in listed,
        )
        for each in fields(TrainConfig)
        if not told[each.name].startswith(INTERNAL)
    )


def _option(each: Field[Any], hint: Any, helptext: str, *, is_listed: bool) -> StructFieldSpec:
    assert each.default is not MISSING, "every option of a training has a default"
    if not is_listed:
        return StructFieldSpec(name=each.name, type=hint, default=each.default, helptext=helptext)
    listed: Any = Annotated[tuple[Value, ...], _values_of(hint)]
    return StructFieldSpec(name=each.name, type=listed, default=(each.default,), helptext=helptext)


def _values_of(hint: Any) -> PrimitiveConstructorSpec[tuple[Value, ...]]:
    """One word of the command line, such as 16,32, of numbers or words as the field takes them."""
    kinds = (hint, *get_args(hint))
    may_be_none = type(None) in kinds
    kind: Callable[[str], Value] = float if float in kinds else int if int in kinds else str

    def value(word: str) -> Value:
        if may_be_none and word == "None":
            return None
        try:
            return kind(word)
        except ValueError:
            expected = "numbers" if kind is float else "whole numbers"
            raise ValueError(f"found {word!r}, expected {expected} with commas between them") from None

    metavar = f"{'{None}|' if may_be_none else ''}{'TEXT' if kind is str else kind.__name__.upper()}[,...]"
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: tuple(value(word.strip()) for word in words[0].split(",")),
        is_instance=lambda values: isinstance(values, tuple),
        str_from_instance=lambda values: [",".join(map(str, values))],
    )


def _name(config: ResolvedTrainConfig, differing: list[str], store_group: str, base: str | None) -> str:
    part = "" if config.group == store_group else "-sae" if config.group == "trivial" else f"-{config.group}"
    tied = "orbit-" if config.tying == "orbit" else ""
    words = [base] if base else [f"{tied}{config.activation}-{config.num_rows}{part}"]
    sizes = ("dict_size",) if base else ("dict_size", "prototypes")  # with a base, features tell the two apart
    others = [name for name in differing if name != "prototypes"] if base else [n for n in differing if n not in sizes]
    return "-".join([*words, *(f"{LISTED[name]}{getattr(config, name):g}" for name in others)])
