"""What a sweep found: one row a crosscoder, read from the run folder, and written as Parquet."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

import pyarrow as pa

from gc_core.analyse import load_features
from gc_core.config import ResolvedTrainConfig
from gc_core.evaluate import read_evaluation
from gc_core.io import objects
from gc_core.io.json_objects import read_json
from gc_core.io.parquet import parse
from gc_core.io.run_folder import FEATURES, RunFolder
from gc_core.sweep.cost import step_flop
from gc_core.train.checkpoint import METRICS

State = Literal["kept", "trained", "stopped", "failed"]
"""`kept`: it was finished before; `stopped`: it was hopeless on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What training one crosscoder took, over all attempts of its sweep."""

    wall_s: float = 0.0
    """Seconds of the trainings that it was part of, the start of workers included."""
    device_s: float = 0.0
    """Its share of the seconds of all devices (GPUs, or CPU cores), by floating point operations."""
    samples: int = 0
    """Samples that it was trained on in that time."""

    def plus(self, other: "Cost") -> "Cost":
        """The two together."""
        return Cost(
            wall_s=self.wall_s + other.wall_s,
            device_s=self.device_s + other.device_s,
            samples=self.samples + other.samples,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One crosscoder of a sweep. None: unknown, or undefined."""

    name: str
    state: State
    why: str = ""
    """Why it failed, or was stopped."""
    group: str | None = None
    tying: str | None = None
    activation: str | None = None
    encoder_reads: str | None = None
    """`all` where poses are tied."""
    k: int | None = None
    l1_coefficient: float | None = None
    """None of activations that do not use it; so is the next."""
    jumprelu_coefficient: float | None = None
    learning_rate: float | None = None
    seed: int | None = None
    dict_size: int | None = None
    """Features F; of tied poses every pose of a prototype is one."""
    num_rows: int | None = None
    """Rows of the weights: prototypes, or features."""
    steps: int | None = None
    """Steps taken."""
    samples: int | None = None
    held_out_fvu: float | None = None
    held_out_fvu_low: float | None = None
    held_out_fvu_high: float | None = None
    fvu_identity: float | None = None
    """Held-out FVU of the untransformed block alone, to compare with an autoencoder's; where `jobs.evaluate` ran."""
    fvu: float | None = None
    """Of the last training samples."""
    l0: float | None = None
    dead_share: float | None = None
    families: int | None = None
    """Families of two or more living features that are turned copies, up to a similarity; where `jobs.analyse` ran."""
    separate: int | None = None
    """Families, and living features outside any: how many different things there are, up to pose."""
    flop: float | None = None
    """Floating point operations of all steps taken (`gc_core.sweep.cost`)."""
    flop_of_a_step: float | None = None
    wall_s: float | None = None
    device_s: float | None = None
    samples_per_s: float | None = None


def read_row(
    run: RunFolder,
    name: str,
    config: ResolvedTrainConfig,
    *,
    channels: int,
    state: State,
    why: str = "",
    cost: Cost | None = None,
) -> Row:
    """A crosscoder as it lies in the run folder, finished or not."""
    last = last_metrics(run, name)
    steps = int(last["step"]) if last else 0
    known = {
        each: last.get(each)
        for each in ("held_out_fvu", "held_out_fvu_low", "held_out_fvu_high", "fvu", "l0", "dead_share")
    }
    of_step = step_flop(config, config.parsed_group, channels)
    families, separate = _families(run, name)
    return Row(
        name=name,
        state=state,
        why=why,
        **_choices(config),
        dict_size=config.dict_size,
        num_rows=config.num_rows,
        steps=steps,
        samples=steps * config.batch,
        **known,
        fvu_identity=_fvu_identity(run, name),
        families=families,
        separate=separate,
        flop=float(of_step) * steps,
        flop_of_a_step=float(of_step),
        **_cost(cost),
    )


def metrics_of(run: RunFolder, name: str) -> list[dict[str, Any]]:
    """The metrics of a training up to its last checkpoint; empty where there is none."""
    try:
        return parse(objects.read(run.crosscoder(name), METRICS)).to_pylist()
    except FileNotFoundError:
        return []


def last_metrics(run: RunFolder, name: str) -> dict[str, Any]:
    """The newest metrics, of the finished crosscoder or of its last checkpoint; empty where there are none."""
    try:
        results = read_json(run.crosscoder(name), "config.json").get("results")
    except FileNotFoundError:
        return {}
    return results or next(reversed(metrics_of(run, name)), {})


def to_table(rows: list[Row]) -> pa.Table:
    """One row a crosscoder, a column for each field of `Row`, typed alike however many are null."""
    types: Mapping[type, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    hints = get_type_hints(Row)
    schema = pa.schema(
        [(each.name, types[next((k for k in get_args(hints[each.name]) if k in types), str)]) for each in fields(Row)]
    )
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)


def _choices(config: ResolvedTrainConfig) -> dict[str, Any]:
    is_jump, is_l1 = config.activation == "jumprelu", config.activation == "l1"
    return {
        **{name: getattr(config, name) for name in ("group", "tying", "activation", "learning_rate", "seed")},
        "encoder_reads": "all" if config.tying == "orbit" else config.encoder_reads,
        "k": None if is_l1 else config.k,
        "l1_coefficient": config.l1_coefficient if is_l1 else None,
        "jumprelu_coefficient": config.jumprelu_coefficient if is_jump else None,
    }


def _cost(cost: Cost | None) -> dict[str, Any]:
    if cost is None:
        return {}
    rate = cost.samples / cost.wall_s if cost.wall_s and cost.samples else None
    return {"wall_s": cost.wall_s, "device_s": cost.device_s, "samples_per_s": rate}


def _fvu_identity(run: RunFolder, name: str) -> float | None:
    record = read_evaluation(run, name)
    return None if record is None else record.get("held_out", {}).get("fvu_identity")


def _families(run: RunFolder, name: str) -> tuple[int | None, int | None]:
    if f"{name}.parquet" not in objects.sizes(run.location / FEATURES):
        return None, None
    living = [row["family"] for row in load_features(run, name).rows if row["alive"]]
    families = {family for family in living if family >= 0}
    return len(families), len(families) + sum(family < 0 for family in living)
