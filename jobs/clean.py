"""List what killed writers left in a run, and with --delete remove it. No cluster is started.

python -m jobs.clean --run RUN             reads only
python -m jobs.clean --run RUN --delete    removes what the list calls leftover, and nothing else
"""

import shlex
from dataclasses import dataclass

from gc_core import bounds, leftovers
from gc_core.io.run_folder import RunFolder
from gc_core.leftovers import Verdict
from jobs.common import console
from jobs.common.options import cli

HOUR_S = 3600


@dataclass(frozen=True, kw_only=True)
class CleanJob:
    """List what killed writers left in a run, and with --delete remove it."""

    run: str
    """The run folder: a path or URL. Nothing is changed there without --delete."""
    delete: bool = False
    """Remove what the list calls leftover; everything else stays."""
    older_than_hours: float = 24
    """Keep whatever lies in a part of the run that was written to within so many hours: a writer may be at work."""

    def __post_init__(self) -> None:
        bounds.HOURS.refuse("older-than-hours", self.older_than_hours)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.clean`."""
    with console.one_line_errors(remedy="Run the same command again."):
        run_clean(cli(CleanJob, prog="python -m jobs.clean", args=args, description=__doc__))


def run_clean(job: CleanJob) -> list[Verdict]:
    """List, and remove if asked; the verdicts of what is not needed."""
    run, older_than_s = RunFolder.at(job.run), job.older_than_hours * HOUR_S
    surveyed = leftovers.survey(run, older_than_s=older_than_s, tell=console.say)
    verdicts = [each for each in surveyed if each.kind != "needed"]
    if verdicts:
        columns = ["path", "verdict", "bytes", "age, hours", "why"]
        console.table(run.url, columns, [_columns(each) for each in verdicts])
    left = [each.found for each in verdicts if each.kind == "leftover"]
    total = f"{len(left):,} leftovers, {sum(each.num_bytes for each in left):,} bytes"
    if not left:
        console.say(f"{total}; nothing to delete")
    elif job.delete:
        gone = leftovers.remove(run, verdicts, older_than_s=older_than_s)
        console.say(f"{total}; {len(gone):,} deleted, {sum(each.num_bytes for each in gone):,} bytes")
    else:
        console.say(f"{total}; to delete them: {_command(job)}")
    return verdicts


def _columns(verdict: Verdict) -> list[str]:
    found = verdict.found
    return [found.name, verdict.kind, f"{found.num_bytes:,}", f"{found.age_s / HOUR_S:,.1f}", verdict.why]


def _command(job: CleanJob) -> str:
    hours = f" --older-than-hours {job.older_than_hours:g}" if job.older_than_hours != CleanJob.older_than_hours else ""
    return f"python -m jobs.clean --run {shlex.quote(job.run)}{hours} --delete"


if __name__ == "__main__":
    main()
