"""A finished crosscoder in other people's formats: a Hugging Face hub folder, or a SAELens autoencoder.

python -m jobs.export --run RUN --name topk-4096 --format hub --out FOLDER        then: hf upload ...
python -m jobs.export --run RUN --name topk-4096 --format saelens --out FOLDER    the untransformed block alone
"""

from dataclasses import dataclass
from typing import Literal

from gc_core import export, objects
from gc_core.crosscoder import GroupCrosscoder
from gc_core.evaluate import read_evaluation
from gc_core.run_folder import RunFolder, read_json
from gc_core.store import open_store
from jobs import console
from jobs.options import cli


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """Write a crosscoder where other programs find it."""

    run: str
    """The run folder: a path or URL."""
    name: str
    """Which crosscoder."""
    format: Literal["hub", "saelens"]
    """`hub`: all blocks, with a model card, loaded by GroupCrosscoder.load; `saelens`: the untransformed block as
    cfg.json and sae_weights.safetensors, loaded by sae_lens.SAE.load_from_disk."""
    out: str
    """The folder to write: a path or URL."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.export`."""
    with console.one_line_errors(remedy="Run the same command again."):
        job = cli(ExportJob, prog="python -m jobs.export", args=args, description=__doc__)
        console.summary("exported", run_export(job))


def run_export(job: ExportJob) -> list[tuple[str, str]]:
    """Write the files; rows of the summary."""
    run, out = RunFolder.at(job.run), objects.normalise(job.out)
    model, store = GroupCrosscoder.load(run.crosscoder(job.name)), open_store(run).attrs
    if job.format == "saelens":
        sae = {"model_name": store.get("backbone"), "hook_name": store.get("layer")}
        about = {**sae, "weights_sha256": store.get("weights_sha256"), "group_crosscoder": job.name}
        export.write_saelens(out, model, about)
        return [("folder", out), ("read it", f'sae_lens.SAE.load_from_disk("{objects.local_path(out)}")')]
    trained = read_json(run.crosscoder(job.name), "config.json")
    story = export.Story(name=job.name, trained=trained, store=store, evaluation=read_evaluation(run, job.name))
    export.write_hub(out, model, story)
    return [("folder", out), ("publish it", f"hf upload USER/{job.name} {objects.local_path(out)}")]


if __name__ == "__main__":
    main()
