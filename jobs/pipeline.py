"""From pictures to the atlas: harvest, train, analyse, draw.

    python -m jobs.pipeline --out RUN                          built-in photographs and drawn stimuli
    python -m jobs.pipeline --images PICTURES --out RUN        your own

Every stage continues where an earlier, interrupted run of the same command stopped.
"""

import time
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from gc_core.config import AnalyseConfig, HarvestConfig, TrainConfig
from gc_core.run_folder import RunFolder
from jobs import cluster, console
from jobs.analyse import run_analyse, run_atlas
from jobs.harvest import run_harvest
from jobs.options import Workers
from jobs.train import run_train


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """All four stages, one after the other."""

    out: str
    """The run folder: a path or URL. Made if it does not exist, continued if it does."""
    name: str | None = None
    """Name of the crosscoder inside the run; None for one made of the method and the size, such as topk-1024."""
    harvest: Annotated[HarvestConfig, tyro.conf.arg(name="")] = field(default_factory=HarvestConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    analyse: AnalyseConfig = field(default_factory=AnalyseConfig)
    workers: Workers = field(default_factory=Workers)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.pipeline`."""
    with console.one_line_errors(remedy="The same command continues where it stopped."):
        job = tyro.cli(Pipeline, prog="python -m jobs.pipeline", args=args, description=__doc__)
        with cluster.connect():
            run_pipeline(job)


def run_pipeline(job: Pipeline) -> None:
    """Run the stages and print one table of where everything is."""
    start = time.monotonic()
    run = RunFolder.at(job.out)
    rows = run_harvest(run, job.harvest, job.workers)
    name, trained = run_train(run, job.name, job.train, job.workers)
    rows += trained + run_analyse(run, name, job.analyse)
    rows += run_atlas(run, name)
    console.summary(f"finished in {console.duration(time.monotonic() - start)}", rows)


if __name__ == "__main__":
    main()
