"""A job, its samples and what is to be said of it, for whoever shows it."""

from __future__ import annotations

from jobeff.config import Config
from jobeff.progress import QUIET, Progress
from jobeff.views import advice, coverage, evidence
from jobeff.views.flags import flags
from jobeff.views.job import JobView
from jobeff.views.job_text import Judged


def judge(config: Config, one: JobView, all_flags: bool, progress: Progress = QUIET) -> Judged:
    """Read a job's samples and say what is to be said of it.

    Parameters
    ----------
    config
        Of the site.
    one
        The job.
    all_flags
        See `jobeff.views.flags.flags`.
    progress
        Says of how many nodes samples have been read.

    Returns
    -------
    Judged
        For text, JSON and plots.
    """
    # What was never measured is not looked for: pyarrow need not be loaded to say so.
    measured = one.end - one.start >= one.interval or one.efficiency is not None
    nodes = evidence.of_nodes(config, one, progress) if measured else [evidence.NodeSamples(node) for node in one.nodes]
    raised = flags(one.efficiency or one.accounting, one.node_types, all_flags)
    return Judged(one, nodes, raised, advice.of_job(one, raised), coverage.of_job(one, nodes, config.clock))
