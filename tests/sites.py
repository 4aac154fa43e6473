"""Small sites for tests: written as a site would have them, one night after the other."""

from dataclasses import dataclass, field
from pathlib import Path

import naive

from jobeff.config import Config, load
from jobeff.steps.site import Site, StepResult

CLUSTER = "c1"
TIMEZONE = "Europe/Stockholm"
CONFIG = f"""
timezone = "{TIMEZONE}"
[clusters.{CLUSTER}]
accounting = "slurm/accounting"
jobstats = ["slurm/extended_uppmax_jobstats", "slurm/uppmax_jobstats"]
"""


def make(root: Path, workers=0, executor=None) -> Site:
    """An empty site."""
    for folder in ("accounting", "extended_uppmax_jobstats", "uppmax_jobstats"):
        (root / "slurm" / folder).mkdir(parents=True)
    (root / "jobeff.toml").write_text(CONFIG)
    return Site(config(root), workers, _pool=executor)


def config(root: Path) -> Config:
    return load(root / "jobeff.toml")


def accounting_line(job: naive.Job) -> str:
    """A line of a site log; the stamp is not used."""
    never = not job.nodes
    return (
        f"2021-06-01 00:00:00 jobstate={job.state} jobid={job.job_id} username={job.user} account={job.proj_id} "
        f"start={job.start} end={job.start if never else job.end} submit={job.start} nodes={','.join(job.nodes)} "
        f"procs={job.cores} batch=yes jobname=x partition=core limit=01:00:00\n"
    )


def write_log(root: Path, name: str, jobs) -> None:
    (root / "slurm" / "accounting" / name).write_text("".join(map(accounting_line, jobs)))


def write_raw(root: Path, file: naive.RawFile) -> Path:
    form = "extended_uppmax_jobstats" if file.extended else "uppmax_jobstats"
    path = root / "slurm" / form / file.node / str(file.job_id)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(file.text)
    return path


@dataclass
class Night:
    """What becomes visible in one night."""

    jobs: list[naive.Job] = field(default_factory=list)
    files: list[naive.RawFile] = field(default_factory=list)

    def fall(self, root: Path, name: str) -> None:
        if self.jobs:
            write_log(root, name, self.jobs)
        for file in self.files:
            write_raw(root, file)


def result_of(results: list[StepResult], step: str) -> StepResult:
    """What one step has done."""
    [found] = [result for result in results if result.step == step]
    return found
