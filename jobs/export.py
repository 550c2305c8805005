"""A crosscoder in other people's formats: a Hugging Face hub folder, or a SAELens autoencoder.

python -m jobs.export --run RUN --name topk-4096 --format hub --out FOLDER        then: hf upload ...
python -m jobs.export --run RUN --name topk-4096 --format saelens --out FOLDER    the untransformed block alone
python -m jobs.export --run RUN --name orbit-topk-64 --format hub --materialised --out FOLDER    tied poses untied
python -m jobs.export --run RUN --name topk-4096 --checkpoint 200 ...             as it was after 200 steps
"""

import os
from dataclasses import dataclass
from typing import Literal

from gc_core import bounds, export
from gc_core.evaluate import read_evaluation
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.store import open_store
from gc_core.train.intermediate import crosscoder_at
from jobs.common import console
from jobs.common.options import cli


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """Write a crosscoder where other programs find it."""

    run: str
    """The run folder: a path or URL."""
    name: str
    """Which crosscoder."""
    format: Literal["hub", "saelens"]
    """`hub`: all blocks, with a model card, loaded by Crosscoder.load; `saelens`: the untransformed block as
    cfg.json and sae_weights.safetensors, loaded by sae_lens.SAE.load_from_disk."""
    out: str
    """The folder to write: a path or URL."""
    checkpoint: int | None = None
    """The step whose checkpoint is written, also of a training that is not finished; None for the finished
    crosscoder."""

    materialised: bool = False
    """Write every feature of tied poses with weights of its own (hub), for programs that know no prototypes. |G| times
    the size; its top-k may take several poses of one prototype, so the card leaves out what was measured."""

    def __post_init__(self) -> None:
        if self.materialised and self.format != "hub":
            raise ValueError(f"materialised: found with --format {self.format}, expected hub")
        if self.checkpoint is not None:
            bounds.STEPS.refuse("checkpoint", self.checkpoint)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.export`."""
    with console.one_line_errors(remedy="Run the same command again."):
        job = cli(ExportJob, prog="python -m jobs.export", args=args, description=__doc__)
        console.summary("exported", run_export(job))


def run_export(job: ExportJob) -> list[tuple[str, str]]:
    """Write the files; rows of the summary."""
    run, out = RunFolder.at(job.run), Location.parse(job.out)
    store = open_store(run).attrs
    model, trained = crosscoder_at(run, job.name, job.checkpoint)
    if job.format == "saelens":
        sae = {"model_name": store.get("backbone"), "hook_name": store.get("layer")}
        about = {**sae, "weights_sha256": store.get("weights_sha256"), "group_crosscoder": _called(job)}
        export.write_saelens(out, model, about)
        return [("folder", out.url), ("read it", f'sae_lens.SAE.load_from_disk("{_as_argument(out)}")')]
    evaluation = read_evaluation(run, job.name, job.checkpoint)
    if job.materialised and model.shape.tying == "orbit":
        model = export.materialised(model, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        trained, evaluation = {**trained, "results": {}}, None
    story = export.Story(name=_called(job), trained=trained, store=store, evaluation=evaluation)
    export.write_hub(out, model, story)
    return [("folder", out.url), ("publish it", f"hf upload USER/{job.name} {_as_argument(out)}")]


def _as_argument(out: Location) -> str:
    """Path or URL, as other programs take it."""
    return out.path if out.is_local else out.url


def _called(job: ExportJob) -> str:
    """The crosscoder's name, with the step where it is one of several."""
    return job.name if job.checkpoint is None else f"{job.name}-step-{job.checkpoint}"


if __name__ == "__main__":
    main()
