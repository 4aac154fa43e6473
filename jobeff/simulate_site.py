"""What surrounds the jobs of a synthetic site: configuration, projects, grants and storage."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence

GIB = 2**30

_CONFIGURATION = """\
# A synthetic site. Paths are relative to this file.
root = "."                       # archive/ shards/ and db/ come to lie here
timezone = "{timezone}"    # of days, weeks, months and the stamps in the logs
today = "{today}"             # its history ends then; a living site leaves this out

[clusters.{cluster}]
accounting = "slurm/{cluster}/accounting"       # one log per day
accounting_format = "site"
jobstats = [                     # the first folder is preferred where a job has a file in both
  "slurm/{cluster}/extended_uppmax_jobstats",
  "slurm/{cluster}/uppmax_jobstats",
]
grants = "slurm/{cluster}/grantfile"
interval = 300                   # seconds between two samples
node_types = [128, 256, 1024]    # GiB of memory of each kind of node

[sources]
projects = "projects"
storage = "storage"
"""


def configuration(cluster: str, timezone: str, today: str) -> str:
    """Write the site's ``jobeff.toml``.

    Parameters
    ----------
    cluster
        A valid name.
    timezone
        IANA name.
    today
        ISO date of the last day.

    Returns
    -------
    str
        The file.
    """
    text = _CONFIGURATION.format(cluster=cluster, timezone=timezone, today=today)
    # a dot would make a table within a table
    return text.replace(f"[clusters.{cluster}]", f'[clusters."{cluster}"]') if "." in cluster else text


def projects(members: Mapping[str, Sequence[str]], year: int) -> str:
    """Write the project file: paragraphs of ``Key: value``.

    Parameters
    ----------
    members
        Users of each project, at least one; the first leads it.
    year
        In which they run.

    Returns
    -------
    str
        The file. One project in seven has ended the year before.
    """
    paragraphs = []
    for project, users in members.items():
        ended = zlib.crc32(project.encode()) % 7 == 0
        fields = {
            "Name": project,
            "Start": f"{year - 1}0101",
            "End": f"{year - 1}1231" if ended else f"{year}1231",
            "Principal": users[0],
            "Deputy": users[1] if len(users) > 1 else "",
            "Technical": users[-1],
            "Members": " ".join(users),
            "Type": project.rstrip("0123456789-") or "other",
            "Mail": f"{users[0]}@example.org",
        }
        paragraphs.append("".join(f"{key}: {value}\n" for key, value in fields.items()))
    return "\n".join(paragraphs)


def grants(members: Mapping[str, Sequence[str]]) -> str:
    """Write the grant file: core hours per 30 days.

    Parameters
    ----------
    members
        Users of each project.

    Returns
    -------
    str
        The file.
    """
    lines = (
        f"{project}:{(2 + zlib.crc32(project.encode()) % 19) * 1000}:batch:{','.join(users)}\n"
        for project, users in members.items()
    )
    return "# project:core hours per 30 days:kind:members\n\n" + "".join(lines)


def storage(members: Mapping[str, Sequence[str]], days: Sequence[str]) -> Iterator[str]:
    """Write the storage statistics: a project's space grows from day to day.

    Parameters
    ----------
    members
        Users of each project.
    days
        ISO dates.

    Yields
    ------
    str
        Lines of the file, bytes throughout.
    """
    yield "proj_id;date;usage;quota;path;noback_usage;noback_quota;noback_path;inbox\n"
    for number, day in enumerate(days):
        for project in members:
            seed = zlib.crc32(project.encode())
            quota = (128 << seed % 5) * GIB
            usage = min(quota, quota * (seed % 60 + number) // 60 + seed % 997)
            path = f"/proj/{project}"
            inbox = seed % 4 * GIB
            yield f"{project};{day};{usage};{quota};{path};{usage // 3};{2 * quota};{path}/nobackup;{inbox}\n"
