"""Lists on the command line: `--dict-size 1024,4096 --k 16,32` stands for four crosscoders."""

import itertools
from collections.abc import Sequence

from gc_core.config import ResolvedTrainConfig

LISTED = {"dict_size": "", "prototypes": "", "k": "k", "l1_coefficient": "l1_", "jumprelu_coefficient": "jump_"}
"""Options that take lists, and what stands before their value in a name."""


def expand(args: Sequence[str], *, prefix: str = "") -> list[list[str]]:
    """The command lines that one with lists stands for: every combination, the last list changing fastest.

    Options are `--PREFIXdict-size 1024,4096` or `--PREFIXdict-size=1024,4096`; all else is passed on.

    Raises:
        ValueError: a list names a value twice.
    """
    return [list(line) for line in itertools.product(*_choices(args, prefix))]


def names_of(configs: Sequence[ResolvedTrainConfig], store_group: str, base: str | None) -> list[str]:
    """A different name for each config: `topk-1024`, with `-sae` for the trivial group and `-D_16` for a part
    of the store's, and with the values of other listed options that differ, as in `topk-1024-k16`.

    `base` stands for all of it but what differs.
    """
    differing = [name for name in LISTED if len({getattr(config, name) for config in configs}) > 1]
    return [_name(config, differing, store_group, base) for config in configs]


def _choices(args: Sequence[str], prefix: str) -> list[list[str]]:
    choices, option = [], None
    for word in args:
        name, equals, value = word.partition("=")
        if equals and _is_listed(name, prefix):
            choices.append([f"{name}={each}" for each in _values(name, value)])
        else:
            choices.append(_values(option, word) if option else [word])
        option = word if _is_listed(word, prefix) else None
    return choices


def _is_listed(word: str, prefix: str) -> bool:
    return any(word.replace("-", "_") == f"__{prefix}{name}" for name in LISTED)


def _values(option: str, text: str) -> list[str]:
    values = [value.strip() for value in text.split(",")]
    if len(set(values)) < len(values):
        raise ValueError(f"{option}: found {text!r}, expected different values")
    return values


def _name(config: ResolvedTrainConfig, differing: list[str], store_group: str, base: str | None) -> str:
    part = "" if config.group == store_group else "-sae" if config.group == "trivial" else f"-{config.group}"
    tied = "orbit-" if config.tying == "orbit" else ""
    words = [base] if base else [f"{tied}{config.activation}-{config.num_rows}{part}"]
    sizes = ("dict_size",) if base else ("dict_size", "prototypes")  # with a base, features tell the two apart
    others = [name for name in differing if name != "prototypes"] if base else [n for n in differing if n not in sizes]
    return "-".join([*words, *(f"{LISTED[name]}{getattr(config, name):g}" for name in others)])
