"""Many crosscoders on one run: sizes, sparsities, activations, encoders, groups and seeds, and what size buys.

    python -m jobs.sweep --run RUN --prototypes 32,64,128                     FVU against size, with a fitted law
    python -m jobs.sweep --run RUN --dict-size 256,512,1024 --group D32,trivial --k 16,32 --seed 0,1
    python -m jobs.sweep --run RUN --dict-size 512,1024 --encoder-reads identity,all --keep-one-in 2
    python -m jobs.sweep --run RUN --prototypes 32,64,128 --analyse           families against size, too

What can share a pass over the data does; a combination that fails is told, and stops no other. The same command goes on
where it stopped, with more values it keeps what is finished. The report is RUN/sweeps/NAME/index.html.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from gc_core import bounds
from gc_core import train as training
from gc_core.config import AnalyseConfig, ResolvedTrainConfig, TrainConfig
from gc_core.io import objects
from gc_core.io.run_folder import FEATURES, RunFolder, checked_name
from gc_core.store import StoreError
from gc_core.sweep.cost import step_flop
from gc_core.sweep.folder import read_costs, write_costs, write_report
from gc_core.sweep.halving import Standing, hopeless, rungs
from gc_core.sweep.plan import combinations, name_of, teams
from gc_core.sweep.table import Cost, Row, State, metrics_of, read_row
from gc_core.train.recovery import newest
from jobs.analyse import analyse_and_draw
from jobs.common import axes, claims, cluster, console, interrupt, meshes, swept
from jobs.common.axes import Axes
from jobs.common.errors import in_one_line
from jobs.common.options import ResolvedWorkers, Workers, cli
from jobs.common.train_loop import Upkeep
from jobs.train import placement, train_named


@dataclass(frozen=True, kw_only=True)
class SweepJob:
    """Train every combination of the lists given, and report what size, sparsity and compute buy."""

    run: str
    """The run folder that `jobs.harvest` made: a path or URL."""
    name: str = "sweep"
    """Name of the sweep inside the run; its crosscoders' names begin with it."""
    axes: Annotated[Axes, tyro.conf.arg(name="")] = field(default_factory=Axes)
    retries: int = 1
    """How often a crosscoder whose training failed is tried again, alone, from its last checkpoint."""
    keep_one_in: int = 1
    """Stop hopeless ones on the way (successive halving): at each rung the best of so many rivals goes on; 1 stops
    none. Rivals have one group, as many features and nearly the same L0."""
    rungs: int = 2
    """At how many steps on the way rivals are compared (with --keep-one-in): at 1/n and 1/n^2 of the steps for 2, each
    at the next checkpoint (--checkpoint-every)."""
    analyse: bool = False
    """Analyse every finished crosscoder as `jobs.analyse` does by default, and report families against size."""
    workers: Workers = field(default_factory=Workers)
    upkeep: Annotated[Upkeep, tyro.conf.arg(name="")] = field(default_factory=Upkeep)

    def __post_init__(self) -> None:
        checked_name(self.name)
        bounds.Bound(0, 100).refuse("retries", self.retries)
        bounds.Bound(1, 1000).refuse("keep_one_in", self.keep_one_in)
        bounds.Bound(1, 20).refuse("rungs", self.rungs)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.sweep`."""
    with console.one_line_errors(remedy="The same command continues where it stopped."):
        job = cli(SweepJob, prog="python -m jobs.sweep", args=args, description=__doc__, registry=axes.REGISTRY)
        with cluster.connect():
            rows = run_sweep(job)
        swept.show(RunFolder.at(job.run), job.name, rows)
        if any(row.state == "failed" for row in rows):
            sys.exit(1)


def run_sweep(job: SweepJob) -> list[Row]:
    """Train all that is not finished, write the report, and return its rows; no other sweep of this name goes on
    meanwhile.

    Raises:
        ValueError: a list names a value twice, there is no store, or no rung before the end of a training.
        OSError: another sweep of this name did not end in time.
    """
    sweep = Sweep(job)
    with claims.at_work([sweep.run.sweep(job.name)], job.workers) as (lease,):
        sweep.begin(lease.check)
        return _through(sweep, job)


def _through(sweep: "Sweep", job: SweepJob) -> list[Row]:
    """All stages."""
    console.say(f"sweep    {sweep.described()}")
    for number_of_rung in range(job.rungs if job.keep_one_in > 1 else 0):
        sweep.train(number_of_rung)
        sweep.stop_hopeless(number_of_rung)
    sweep.train()
    if job.analyse:
        sweep.analyse()
    return sweep.report()


class Sweep:
    """A sweep under way: what is asked for, and what became of it so far."""

    def __init__(self, job: SweepJob) -> None:
        self.job, self.run = job, RunFolder.at(job.run)
        wanted = placement(job.workers)
        cluster.refuse_impossible(wanted)
        every = combinations(job.axes.options)
        self.asked: dict[str, TrainConfig] = {}
        self.configs: dict[str, ResolvedTrainConfig] = {}
        self.ends: dict[str, tuple[State, str]] = {}
        self._data: dict[str | None, training.TrainingData] = {}
        for each in every:
            if each.config is None:
                self.end(f"{job.name} {each.told}", "failed", each.why_not)
            else:
                self._plan(each.told, each.config)
        self.costs: dict[str, Cost] = {}
        lanes = [each.lanes for each in self.asked.values()]
        self.workers: ResolvedWorkers = meshes.sharing_lanes(list(self.asked.values()), wanted) if lanes else wanted
        self._check: Callable[[], None] = lambda: None
        self._began, self._flop_before = time.monotonic(), self._flop_done()

    def begin(self, check: Callable[[], None]) -> None:
        """Go on from what was spent before; `check` raises where the folder is another's by now."""
        self.costs, self._check = read_costs(self.run, self.job.name), check

    def described(self) -> str:
        """How many there are, and how many are finished."""
        kept = sum(state == "kept" for state, _ in self.ends.values())
        return f"{len(self.asked):,} crosscoders, {kept:,} of them finished before and kept"

    def train(self, rung: int | None = None) -> None:
        """Train all that have not ended to their end, or to a rung; those that fail end with the reason."""
        going = {name: config for name, config in self.configs.items() if name not in self.ends}
        for team in teams(going, self._fits):
            until = None if rung is None else self._rung(team[0], rung)
            if rung is not None and until is None:
                continue
            behind = [name for name in team if until is None or self._step(name) < until]
            if behind:
                self._train_team(behind, until)
                self._tell_progress()
            if until is None:
                for name in team:
                    if name not in self.ends:
                        self.end(name, "trained")

    def stop_hopeless(self, rung: int) -> None:
        """End those whose rivals are better at a rung."""
        standings = [each for name in self.configs if (each := self._standing(name, rung))]
        for name, why in hopeless(standings, keep_one_in=self.job.keep_one_in).items():
            if name not in self.ends:
                self.end(name, "stopped", f"after {self._step(name):,} steps: {why}")

    def analyse(self) -> None:
        """Analyse what is finished and was not analysed before."""
        known = objects.sizes(self.run.location / FEATURES)
        for name, (state, _) in list(self.ends.items()):
            if state in ("kept", "trained") and f"{name}.parquet" not in known:
                try:
                    analyse_and_draw(self.run, name, AnalyseConfig(), self.job.workers)
                except Exception as error:  # one that fails is told, and stops no other
                    if _ends_all(error):
                        raise
                    self.end(name, "failed", f"trained, but its analysis failed: {in_one_line(error)}")

    def report(self) -> list[Row]:
        """Write the report; its rows, in the order of the combinations."""
        rows = [
            self._row(name) if name in self.configs else Row(name=name, state=state, why=why)
            for name, (state, why) in sorted(self.ends.items(), key=lambda each: self._place(each[0]))
        ]
        self._check()
        footer = f"python -m jobs.sweep --run {self.run.url} --name {self.job.name}"
        write_report(self.run, self.job.name, rows, self.costs, device=self._device, footer=footer)
        return rows

    def end(self, name: str, state: State, why: str = "") -> None:
        """What became of a crosscoder."""
        self.ends[name] = state, why
        if why:
            console.say(f"{state:<8} {name}: {why}")

    def _plan(self, told: str, asked: TrainConfig) -> None:
        """Give a combination its name, and see whether it is finished."""
        name = f"{self.job.name} {told}"
        try:
            data = self._data_of(asked)
            resolved = training.resolve(asked, data)
            name = name_of(resolved, asked, data.store.group.text, self.job.name)
            if name in self.asked:
                raise ValueError(f"found {told} beside others of the same name, expected other values; leave it out")
            config = claims.config_to_train(self.run.crosscoder(name), asked, resolved, data)
        except StoreError:  # no other combination has another store
            raise
        except ValueError as error:
            self.end(name, "failed", str(error))
            return
        self.asked[name], self.configs[name] = asked, config
        if claims.is_finished(self.run.crosscoder(name), config):
            self.end(name, "kept")

    def _data_of(self, config: TrainConfig) -> training.TrainingData:
        if config.group not in self._data:
            self._data[config.group] = training.open_data(self.run, config)
        return self._data[config.group]

    def _fits(self, configs: Sequence[ResolvedTrainConfig]) -> bool:
        """Whether the planner finds a mesh with the memory for all of them."""
        try:
            return meshes.choose(configs, self.workers, self._data_of(configs[0]).shape).best is not None
        except ValueError:
            return False  # each alone is refused with the reason

    def _train_team(self, names: Sequence[str], until: int | None) -> None:
        """Train side by side; where that fails, each alone, and again as often as was asked for."""
        console.say(f"sweep    {', '.join(names)}")
        if (why := self._attempt(names, until)) is None:
            return
        for name in names:
            reason: str | None = why
            for _ in range(self.job.retries + (len(names) > 1)):
                console.say(f"again    {name}, alone: {reason}")
                if (reason := self._attempt([name], until)) is None:
                    break
            if reason is not None:
                self.end(name, "failed", reason)

    def _attempt(self, names: Sequence[str], until: int | None) -> str | None:
        """Why it failed, or None; what was spent is kept in any case."""
        before, start = {name: self._step(name) for name in names}, time.monotonic()
        try:
            asked = {name: self.asked[name] for name in names}
            train_named(self.run, asked, self._data_of(asked[names[0]]), self.job.workers, self.job.upkeep, until=until)
        except Exception as error:  # one that fails is told, and stops no other
            if _ends_all(error):
                raise
            return in_one_line(error)
        finally:
            self._spend(before, time.monotonic() - start)
        return None

    def _spend(self, before: dict[str, int], wall_s: float) -> None:
        flop = {name: self._flop_of_a_step(name) for name in before}
        devices = self.workers.num_workers * (self.workers.gpus_per_worker or self.workers.cpus_per_worker)
        for name, step in before.items():
            spent = Cost(
                wall_s=wall_s,
                device_s=wall_s * devices * flop[name] / sum(flop.values()),
                samples=(self._step(name) - step) * self.configs[name].batch,
            )
            self.costs[name] = self.costs.get(name, Cost()).plus(spent)
        self._check()
        write_costs(self.run, self.job.name, self.costs)

    def _tell_progress(self) -> None:
        done, elapsed_s = self._flop_done(), time.monotonic() - self._began
        total = sum(self._flop_of_a_step(name) * self.configs[name].steps for name in self._to_the_end())
        rate = (done - self._flop_before) / elapsed_s
        left = console.duration(max(0.0, total - done) / rate) if rate > 0 else "unknown"
        finished = sum(self._step(name) >= config.steps for name, config in self.configs.items())
        console.say(f"sweep    {finished:,}/{len(self.configs):,} crosscoders  {rate:.2g} FLOP/s  at most {left} left")

    def _to_the_end(self) -> list[str]:
        return [name for name in self.configs if self.ends.get(name, ("trained", ""))[0] in ("trained", "kept")]

    def _flop_done(self) -> float:
        return sum(self._flop_of_a_step(name) * self._step(name) for name in self._to_the_end())

    def _flop_of_a_step(self, name: str) -> int:
        config = self.configs[name]
        return step_flop(config, config.parsed_group, self._data_of(self.asked[name]).channels)

    def _step(self, name: str) -> int:
        """Steps of its last checkpoint, or of what is finished."""
        folder, config = self.run.crosscoder(name), self.configs[name]
        if claims.is_finished(folder, config):
            return config.steps
        return next((each.step for each in newest([folder])), 0)

    def _rung(self, name: str, rung: int) -> int | None:
        """The step of a rung; None where the training has fewer."""
        found = rungs(self.configs[name], keep_one_in=self.job.keep_one_in, count=self.job.rungs)
        return found[rung] if rung < len(found) else None

    def _standing(self, name: str, rung: int) -> Standing | None:
        """How it stands at a rung; None where it failed or was stopped before, or nothing is known."""
        config, step = self.configs[name], self._rung(name, rung)
        if self.ends.get(name, ("trained", ""))[0] in ("failed", "stopped"):
            return None
        there = [row for row in metrics_of(self.run, name) if row["step"] == step and row.get("held_out_fvu")]
        if not there:
            return None
        return Standing(
            name=name,
            choice=replace(config, seed=0),
            group=config.group,
            dict_size=config.dict_size,
            l0=there[-1]["l0"],
            fvu=there[-1]["held_out_fvu"],
        )

    def _row(self, name: str) -> Row:
        (state, why), config = self.ends[name], self.configs[name]
        channels, cost = self._data_of(self.asked[name]).channels, self.costs.get(name)
        return read_row(self.run, name, config, channels=channels, state=state, why=why, cost=cost)

    def _place(self, name: str) -> tuple[int, int]:
        order = list(self.configs)
        return (1, 0) if name not in self.configs else (0, order.index(name))

    @property
    def _device(self) -> str:
        return "GPU" if self.workers.gpus_per_worker else "CPU core"


def _ends_all(error: Exception) -> bool:
    """Whether it is a signal, or that nobody reads what is said."""
    return interrupt.came() is not None or isinstance(error, BrokenPipeError)


if __name__ == "__main__":
    main()
