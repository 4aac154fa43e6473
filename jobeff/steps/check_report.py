"""What `check` has found: differences by kind, and by cluster and month."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobeff.errors import EXAMPLES_KEPT


class Kind(NamedTuple):
    """A kind of difference: whether it is damage, what it means, and the command that mends it."""

    damage: bool
    means: str
    mend: str = ""


NO_RAW_FILE, TOO_SHORT, ORPHAN, BEHIND, OLDER, ALONE, LOST = (
    "no raw file", "too short", "orphan", "behind", "definition older", "rows alone", "lost for good",
)  # fmt: skip
FRAME, TAIL, MONTH, SHARD, GONE, STALE, MISSING, DIFFERS, DATABASE = (
    "archive frame", "archive tail", "archive month", "shard", "shard without archive", "stale row", "row missing",
    "row differs", "database",
)  # fmt: skip

REPAIR, UPDATE = "jobeff repair", "jobeff update"

KINDS = {
    NO_RAW_FILE: Kind(False, "jobs long enough to have one, of which the archive has none; that is usual"),
    TOO_SHORT: Kind(False, "jobs shorter than the interval, without a raw file; that is usual"),
    ORPHAN: Kind(False, "raw files that no job of accounting claims; that is usual"),
    BEHIND: Kind(False, "what has come in and is not ingested or computed yet", UPDATE),
    OLDER: Kind(False, "months computed by an older definition or with another interval", UPDATE),
    ALONE: Kind(False, "months of which the efficiency rows are all there is; as where old months were removed"),
    LOST: Kind(False, "what 'jobeff repair' could not mend, and has named; a whole copy put there would"),
    FRAME: Kind(True, "raw files in the archive that are not as they were collected", REPAIR),
    TAIL: Kind(True, "a frame of the archive that was cut off", REPAIR),
    MONTH: Kind(True, "months of the archive that cannot be read", REPAIR),
    SHARD: Kind(True, "shards that are damaged, gone, or not what the archive gives", REPAIR),
    GONE: Kind(True, "shards of a month that the archive does not have", REPAIR),
    STALE: Kind(True, "efficiency rows whose job accounting no longer has so, or that has no samples", REPAIR),
    MISSING: Kind(True, "jobs with samples but no efficiency row", REPAIR),
    DIFFERS: Kind(True, "efficiency rows that are not what the shards give", REPAIR),
    DATABASE: Kind(True, "databases, or parts of them, that are not as they were written", REPAIR),
}


class Finding(NamedTuple):
    """One difference that has a place.

    Attributes
    ----------
    kind
        One of `KINDS`.
    where, why
        For people.
    cluster, month
        Of the archive; empty where it is of none.
    what
        For `repair`: of a shard the node, of a database its name, the table and the block.
    """

    kind: str
    where: str
    why: str
    cluster: str = ""
    month: str = ""
    what: tuple[str, ...] = ()


@dataclass
class Report:
    """All that was found.

    Attributes
    ----------
    months
        By cluster and month: jobs, raw files and rows there are, and how many differences of which kind.
    counts
        Differences by kind, those without a month too.
    findings
        All damage, and the first few of every other kind.
    unchecked
        What could not be looked at, and why.
    """

    months: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[tuple[str, str]] = field(default_factory=list)

    def count(self, kind: str, cluster: str, month: str, more: int = 1) -> None:
        """Count without naming; also ``jobs``, ``raw files`` and ``rows``."""
        self.months.setdefault((cluster, month), Counter())[kind] += more
        if kind in KINDS:
            self.counts[kind] += more

    def add(self, finding: Finding, more: int = 1) -> None:
        """Add a difference that has a name, and stands for so many."""
        if finding.cluster:
            self.count(finding.kind, finding.cluster, finding.month, more)
        else:
            self.counts[finding.kind] += more
        named = sum(one.kind == finding.kind for one in self.findings) if not KINDS[finding.kind].damage else 0
        if named < EXAMPLES_KEPT:
            self.findings.append(finding)

    def take(self, other: Report) -> None:
        """Take over what was found in a part."""
        for (cluster, month), counts in other.months.items():
            self.months.setdefault((cluster, month), Counter()).update(counts)
        self.counts.update(other.counts)
        self.findings.extend(other.findings)
        self.unchecked.extend(other.unchecked)

    @property
    def damage(self) -> list[Finding]:
        """What `repair` mends."""
        return [one for one in self.findings if KINDS[one.kind].damage]

    def as_json(self) -> dict[str, Any]:
        """All of it for machines."""
        return {
            "damaged": bool(self.damage),
            "counts": {kind: self.counts[kind] for kind in KINDS},
            "months": [
                {"cluster": cluster, "month": month, **counts}
                for (cluster, month), counts in sorted(self.months.items())
            ],
            "findings": [
                {**one._asdict(), "what": list(one.what), "mend": KINDS[one.kind].mend} for one in self.findings
            ],
            "unchecked": [{"where": where, "why": why} for where, why in self.unchecked],
        }


def databases_damaged(findings: Iterable[Finding]) -> set[str]:
    """Names of the databases of which anything is damaged.

    Parameters
    ----------
    findings
        Of a report.

    Returns
    -------
    set of str
        Among `jobeff.store.tables.SCHEMAS`.
    """
    return {one.what[0] for one in findings if one.kind == DATABASE}
