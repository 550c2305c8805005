"""Go from images to the atlas: harvest, train, analyse, draw.

    python -m jobs.pipeline --out RUN                          built-in photographs and drawn stimuli
    python -m jobs.pipeline --images IMAGES --out RUN        your own
    python -m jobs.pipeline --train.dict-size 512,1024 ...     several crosscoders, each with its atlas

Every stage continues where an earlier, interrupted run of the same command stopped.
"""

import time
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from gc_core.config import AnalyseConfig, HarvestConfig
from gc_core.io.run_folder import RunFolder
from jobs.analyse import analyse_and_draw
from jobs.common import cluster, console, lists, meshes
from jobs.common.lists import TrainConfigs
from jobs.common.options import MovedImages, Workers, cli
from jobs.harvest import run_harvest
from jobs.train import placement, run_train


@dataclass(frozen=True, kw_only=True)
class Pipeline(MovedImages):
    """All four stages, one after the other."""

    out: str
    """The run folder: a path or URL. Made if it does not exist, continued if it does."""
    name: str | None = None
    """Name of the crosscoder inside the run; None for one made of the method and the size, such as topk-1024.
    With several crosscoders, what differs is added."""
    harvest: Annotated[HarvestConfig, tyro.conf.arg(name="")] = field(default_factory=HarvestConfig)
    train: TrainConfigs = field(default_factory=TrainConfigs)
    analyse: AnalyseConfig = field(default_factory=AnalyseConfig)
    workers: Workers = field(default_factory=Workers)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.pipeline`."""
    with console.one_line_errors(remedy="The same command continues where it stopped."):
        prog = "python -m jobs.pipeline"
        job = cli(Pipeline, prog=prog, args=args, description=__doc__, registry=lists.REGISTRY)
        with cluster.connect():
            run_pipeline(job)


def run_pipeline(job: Pipeline) -> None:
    """Run the stages and print one table of where everything is."""
    start, configs = time.monotonic(), job.train.every
    meshes.sharing_lanes(configs, placement(job.workers))  # says now what would be found after hours
    run = RunFolder.at(job.out)
    rows = run_harvest(run, job.harvest, job.workers, job.moves())
    for name, trained in run_train(run, job.name, configs, job.workers).items():
        rows += trained + analyse_and_draw(run, name, job.analyse, job.workers, job.moves())
    console.summary(f"finished in {console.duration(time.monotonic() - start)}", rows)


if __name__ == "__main__":
    main()
