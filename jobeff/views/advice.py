"""What to ask for next time, flag by flag, and what that would have saved.

The rule, `RULE`: as many cores as were ever busy at one time, memory with a quarter of head room, and cores
enough for that memory, since memory comes with cores. A share of 0.8 is where flags begin, so who follows the rule gets
none. Nothing is advised where the job says too little of what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from jobeff.views import flags as usage
from jobeff.views.job import JobView

HEAD_ROOM = 4
"""Memory asked for is larger than the peak by one part in so many."""

LEAST_ROWS, LEAST_COVERAGE = 3, 0.8
"""With fewer rows on every node, or less of the rows expected of the nodes that were seen, nothing is advised."""

FINISHED = {"COMPLETED", "TIMEOUT", "DEADLINE"}
RULE = "most cores busy at once (above 3 %); memory peak and a quarter; cores for that memory"


@dataclass(frozen=True)
class Ask:
    """What to ask for.

    Attributes
    ----------
    nodes, cores
        Numbers of them; of the whole job.
    memory_gib
        On each node; None where it is not known.
    saved_core_hours
        Had it booked that and run as long.
    """

    nodes: int
    cores: int
    memory_gib: int | None
    saved_core_hours: float


@dataclass(frozen=True)
class Advice:
    """Advice on a job.

    Attributes
    ----------
    withheld
        Why there is none; empty where there is.
    sentences
        Flag with its numbers, and what to do about it.
    ask
        All of them together; None where nothing else is to be asked for.
    """

    withheld: str
    sentences: list[tuple[str, str]]
    ask: Ask | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "withheld": self.withheld or None,
            "sentences": [{"flag": flag, "advice": sentence} for flag, sentence in self.sentences],
            "ask": self.ask and self.ask.__dict__,
            "rule": RULE,
        }


def of_job(view: JobView, flags: Sequence[str]) -> Advice:
    """Advise on a job.

    Parameters
    ----------
    view
        The job.
    flags
        From `jobeff.views.flags.flags`.

    Returns
    -------
    Advice
        One sentence per flag, or why not.
    """
    withheld = why_withheld(view)
    if withheld or not flags or view.efficiency is None:
        return Advice(withheld, [], None)
    need = _Need(view, view.efficiency)
    sentences = [(flag, _SENTENCES[usage.name_of(flag)](need, *flag.split(":")[1:])) for flag in flags]
    return Advice("", sentences, need.ask())


def why_withheld(view: JobView) -> str:
    """Why no advice can be given on a job.

    Parameters
    ----------
    view
        The job.

    Returns
    -------
    str
        Empty where it can.
    """
    row, state = view.efficiency, str(view.accounting["jobstate"])
    if not view.nodes:
        return "it never started"
    if row is None:
        return "nothing was measured"
    if state == "OUT_OF_MEMORY":
        limit = f" than {_gib(row['mem_limit'])} GiB" if row["mem_limit"] else ""
        return f"it ran out of memory, so what it needs is not known: first ask for more memory{limit}"
    if state.partition(" ")[0] not in FINISHED:
        return f"it ended as {state}, so what it would have needed is not known"
    if row["counts"] < LEAST_ROWS:
        return f"{row['counts']} row{'' if row['counts'] == 1 else 's'} on the node with most says too little"
    if row["coverage"] * row["nodes_booked"] / row["nodes_seen"] < LEAST_COVERAGE:
        return f"only {100 * row['coverage']:.0f} % of the rows expected are known"
    if row["cores_used_peak"] == 0:
        return "no core was busy in any sample: see whether the program did anything at all"
    return ""


class _Need:
    """What a job needed, of cores and of memory on each node."""

    def __init__(self, view: JobView, row: dict[str, Any]) -> None:
        self.booked, self.used = int(row["cores"]), int(row["cores_used_peak"])
        self.nodes, self.seen = int(row["nodes_booked"]), int(row["nodes_seen"])
        self.hours = view.hours
        self.swap = usage.hundredths(row["swap_peak"])
        self.peak = usage.hundredths(row["mem_peak"])
        self.limit = usage.hundredths(row["mem_limit"]) if row["mem_limit"] else 0
        # What swapped out would have been in memory, had there been room.
        roomy = ceil((self.peak + self.swap) * (HEAD_ROOM + 1) / HEAD_ROOM / 100) or 1
        self.fits = not self.limit or self.peak + self.swap <= self.limit
        # Where all fitted into what was there, no more than that is asked for.
        self.memory = min(roomy, ceil(self.limit / 100)) if self.limit and self.fits else roomy
        self.kind = usage.node_type(self.limit, view.node_types) if self.limit else None
        smaller = usage.node_type(100 * self.memory, view.node_types)
        if self.kind is not None and smaller is not None and smaller < self.kind:
            # A smaller node is advised, on which less memory comes with each core.
            self.room = self.limit * smaller // self.kind
        else:
            self.room = self.limit

    @property
    def per_core(self) -> float:
        """GiB that come with each core of a node; 0 where that is not known."""
        return self.room * self.nodes / self.booked / 100 if self.booked else 0.0

    @property
    def for_memory(self) -> int:
        """Cores that the memory of all nodes in use comes with."""
        if not self.room:
            return 0
        needed = min(100 * self.memory, self.limit) if self.fits else 100 * self.memory
        return self.seen * -(-needed * self.booked // (self.room * self.nodes))

    @property
    def cores(self) -> int:
        """To ask for: more than were booked only where a node of the same kind has the memory that was lacking."""
        cores = max(self.used, self.for_memory)
        roomier = not self.fits and self.kind is not None and self.memory <= self.kind
        if cores >= self.booked:
            return cores if roomier else self.booked
        nodes = self._filled(cores)
        return min(self.booked, nodes * -(-cores // nodes))  # as many on each

    def _filled(self, cores: int) -> int:
        return max(1, min(self.seen, -(-cores * self.nodes // self.booked))) if self.booked else self.seen

    def fewest_nodes(self) -> int:
        """Nodes that so many cores fill."""
        return self._filled(self.cores)

    def saved(self, cores: int) -> float:
        """Core hours, had it booked so many."""
        return max(0, self.booked - cores) * self.hours

    def share(self, cores: int) -> str:
        """What fewer cores would have saved, in words."""
        return f"{self.saved(cores):,.1f} of {self.booked * self.hours:,.1f} core hours saved"

    def memory_each(self) -> int:
        """Memory on each of the fewest nodes; what the nodes in use had, together, stays the same."""
        return -(-self.memory * self.seen // self.fewest_nodes())

    def each(self) -> str:
        """Memory to ask for."""
        return f"{self.memory_each():,} GiB of memory{' on each node' if self.fewest_nodes() > 1 else ''}"

    def ask(self) -> Ask | None:
        """All together."""
        if self.cores == self.booked and self.fits:
            return None
        memory = self.memory_each() if self.limit else None
        return Ask(self.fewest_nodes(), self.cores, memory, round(self.saved(self.cores), 3))

    def brings(self, joint: str = " ") -> str:
        """The cores to ask for and the memory that comes with them."""
        come = "comes" if self.cores == 1 else "come"
        return f"{_many(self.cores, 'core')}{joint}{come} with {self.per_core * self.cores:.4g} GiB"

    def enough(self) -> str:
        """What would have been enough, and what that saves."""
        if self.cores >= self.booked:
            return self.kept()
        memory = f" with {self.each()}" if self.limit else ""
        return f"{_many(self.cores, 'core')}{memory} would have been enough: {self.share(self.cores)}"

    def kept(self) -> str:
        """Why no fewer cores can be asked for."""
        if self.for_memory <= self.used:
            return "keep its cores"
        full = f"a node used {_gib(self.peak / 100)} of {_gib(self.limit / 100)} GiB, and memory comes with cores"
        return f"keep its cores, since {full}"


def _nodes(need: _Need, booked: str, used: str) -> str:
    cores = need.booked * need.seen // need.nodes
    return f"of {booked} nodes {used} had samples: ask for {_many(need.seen, 'node')}: {need.share(cores)}"


def _overbooked(need: _Need, percent: str) -> str:
    return f"no more than {percent.rstrip('%')} % of either cores or memory was used: {need.enough()}"


def _half(need: _Need) -> str:
    fewest = need.fewest_nodes()
    its = "its" if need.cores == 1 else "their"
    what = _many(fewest, "node") if fewest < need.nodes else f"{_many(need.cores, 'core')} and {its} memory"
    return f"less than half of both was used: {what} would have been enough: {need.share(need.cores)}"


def _severe(need: _Need) -> str:
    return (
        "less than a quarter of both was used: before the next long job, try a short one with "
        f"{_many(need.cores, 'core')} and see whether it is any slower: {need.share(need.cores)}"
    )


def _swap(need: _Need) -> str:
    if need.limit and need.fits:
        return (
            f"it swapped {_gib(need.swap / 100)} GiB though {_gib(need.limit / 100)} GiB were there: memory was full "
            "for a moment between samples, or another job's; swapping is slow, but costs no core hours by itself"
        )
    where = ""
    if need.cores > need.booked:
        where = f", which come with {_many(need.cores, 'core')}"
    elif need.limit:
        where = ", on nodes with more memory"
    return f"swapping is slow: ask for {need.each()}{where}; that saves time, but no core hours of its booking"


def _cores(need: _Need, booked: str, used: str) -> str:
    busy = f"{used} of {_many(int(booked), 'core')} {'was' if used == '1' else 'were'} busy at most"
    if need.cores >= need.booked:
        return f"{busy}: {need.kept()}"
    if need.for_memory > need.used:
        what = f"{_many(need.cores, 'core')}, {need.used} for the work and the others for {need.each()}"
    elif need.limit:
        what = need.brings(", which ")
    else:
        what = f"{_many(need.cores, 'core')} (the memory limit is not known, so see that theirs is enough)"
    return f"{busy}: ask for {what}: {need.share(need.cores)}"


def _memory(need: _Need, booked: str, used: str) -> str:
    saved = "that saves no core hours while its cores are needed"
    if need.cores < need.booked:
        saved = need.brings()
    return f"{need.memory} GiB would have been enough for the peak of {used} of {booked} GiB; {saved}"


def _core_memory(need: _Need, booked: str, used: str) -> str:
    return (
        f"even the cores that were busy come with {booked} GiB, and {used} were used: leave out any request for "
        f"memory, or ask for {need.memory} GiB; no core hours saved beyond those of fewer cores"
    )


def _node_type(need: _Need, booked: str, used: str) -> str:
    if int(used) > int(booked):
        return f"the peak is more than a node of {booked} GiB has: ask for one of {used} GiB"
    if need.memory > int(used):
        return f"the peak would fit into a node of {used} GiB, but with no head room: keep {booked} GiB"
    return (
        f"a node of {used} GiB is enough, unless Slurm chose this one by itself: no core hours saved, but a node of "
        f"{booked} GiB is free for who needs it"
    )


def _not_run(_need: _Need) -> str:
    return "it never started"


_SENTENCES: dict[str, Callable[..., str]] = {
    usage.NODES: _nodes,
    usage.OVERBOOKED: _overbooked,
    usage.HALF: _half,
    usage.SEVERE: _severe,
    usage.SWAP: _swap,
    usage.CORES: _cores,
    usage.MEMORY: _memory,
    usage.CORE_MEMORY: _core_memory,
    usage.NODE_TYPE: _node_type,
    usage.NOT_RUN: _not_run,
}


def _gib(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def lines(advice: Advice) -> Iterator[str]:
    """Advice in sentences.

    Parameters
    ----------
    advice
        From `of_job`.

    Yields
    ------
    str
        One per flag; or why there is none.
    """
    if advice.withheld:
        yield f"none: {advice.withheld}"
    for flag, sentence in advice.sentences:
        yield f"{usage.name_of(flag)}: {sentence}"
