"""A step in two halves, with job arrays of Slurm between them.

The first half plans: it walks each chain of tasks up to those that belong to nodes, and writes these down. Parts of a
job array do them. The second half walks the chains again, is given what the first and the parts have found, and does
the rest. What is read of databases and archive on the way is read by the first half alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from jobeff.engine import build, reduce, scan
from jobeff.errors import JobeffError, SetAside, shown
from jobeff.steps.ingest import Behind
from jobeff.store.files import atomic_path, make_folder
from jobeff.store.plain_data import Coder

Chain = Generator[Any, Any, Any]
CODER = Coder(
    Behind, SetAside, reduce.Month, reduce.Plan, reduce.Span, reduce.ReduceTask, reduce.ReduceResult,
    build.BuildTask, build.BuildResult, scan.ScanResult,
)  # fmt: skip
BY_NODE: dict[str, Callable[[Any], Any]] = {"reduce_nodes": reduce.reduce_nodes, "build_shards": build.build_shards}
"""What parts do."""

FIRST = ("plan_month", "inflate_month", "scan_month")
"""What is done before that, by the first half."""


class PlannedError(Exception):
    """Not an error: the first half ends here."""


class Notes:
    """What the halves and the parts of a run tell each other, each in a file of its own.

    Parameters
    ----------
    folder
        Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, value: Any) -> None:
        """Write a note, whole or not at all.

        Parameters
        ----------
        name, value
            Of the note; plain data.
        """
        with atomic_path(self.folder / "notes" / f"{name}.json") as path:
            path.write_bytes(CODER.dumps(value))

    def get(self, name: str) -> Any:
        """Read a note.

        Parameters
        ----------
        name
            Of the note.

        Returns
        -------
        object
            None where there is none.

        Raises
        ------
        JobeffError
            It is damaged.
        """
        path = self.folder / "notes" / f"{name}.json"
        try:
            return CODER.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise JobeffError(
                "a file of a run on Slurm is damaged",
                where=str(path),
                why=shown(f"{type(error).__name__} {error}"),
                safe="Nothing was changed",
                todo="If it is a part-*.json remove it and 'jobeff slurm resume', else 'jobeff slurm cancel'",
            ) from error

    def has(self, name: str) -> bool:
        """Whether there is a note.

        Parameters
        ----------
        name
            Of the note.

        Returns
        -------
        bool
            As asked.
        """
        return (self.folder / "notes" / f"{name}.json").exists()


class Half:
    """What both halves of a run share; see `jobeff.steps.site.Site.away`.

    Parameters
    ----------
    folder, run
        Of the run, and its name.
    width
        How many parts there are.
    """

    dry = False

    def __init__(self, folder: Path, run: str, width: int) -> None:
        self.notes, self.run, self.width = Notes(folder), run, width
        self.scratch = folder / "scratch"
        make_folder(self.scratch)
        self._chains = 0

    def wrapped(self, chains: Sequence[Chain]) -> list[Chain]:
        """Walk chains as this half does.

        Parameters
        ----------
        chains
            In the same order in both halves.

        Returns
        -------
        list
            As many.
        """
        begin, self._chains = self._chains, self._chains + len(chains)
        return [self._walk(begin + i, chain) for i, chain in enumerate(chains)]

    def _walk(self, number: int, chain: Chain) -> Chain:
        raise NotImplementedError


class First(Half):
    """The first half; `tasks` are those for the parts: chain, stage, place, function, task.

    It writes nothing but below `folder`. Where `dry`, neither does what is before it in its step.
    """

    def __init__(self, folder: Path, run: str, width: int, dry: bool = False) -> None:
        super().__init__(folder, run, width)
        self.dry = dry
        self.tasks: list[tuple[int, int, int, str, Any]] = []

    def recalled(self, name: str, find: Callable[[], Any]) -> Any:
        """Find something, and note it for the second half."""
        found = find()
        self.notes.put(name, [found])
        return found

    def _walk(self, number: int, chain: Chain) -> Chain:
        results: list[Any] | None = None
        stage = 0
        while True:
            try:
                tasks = next(chain) if results is None else chain.send(results)
            except StopIteration:
                return None
            names = {function.__name__ for function, _ in tasks}
            if not names or not names <= set(FIRST):  # what comes behind nothing to do is not planned any more
                if names <= BY_NODE.keys():
                    self.notes.put(f"stage-{number}-{stage}", len(tasks))
                    for place, (function, task) in enumerate(tasks):
                        self.tasks.append((number, stage, place, function.__name__, task))
                chain.close()
                return None
            results = yield tasks
            self.notes.put(f"first-{number}-{stage}", results)
            stage += 1

    def ended(self) -> None:
        """Leave the step: the rest is for the second half."""
        raise PlannedError


class Second(Half):
    """The second half; tasks without a result are given up, and `why` is told of them.

    Parameters
    ----------
    folder, run, width
        See `Half`.
    why
        What has happened to parts, by number of the task.
    """

    def __init__(self, folder: Path, run: str, width: int, why: Callable[[str], str]) -> None:
        super().__init__(folder, run, width)
        self._why = why

    def recalled(self, name: str, find: Callable[[], Any]) -> Any:
        """What the first half has found; it may not have come so far."""
        found = self.notes.get(name)
        return find() if found is None else found[0]

    def _walk(self, number: int, chain: Chain) -> Chain:
        results: list[Any] | None = None
        stage = 0
        while True:
            try:
                tasks = next(chain) if results is None else chain.send(results)
            except StopIteration as stop:
                return stop.value
            results = self._known(number, stage)
            if results is None:
                results = yield tasks
            stage += 1

    def _known(self, number: int, stage: int) -> list[Any] | None:
        """What is known of a stage already."""
        count = self.notes.get(f"stage-{number}-{stage}")
        if count is None:
            found: list[Any] | None = self.notes.get(f"first-{number}-{stage}")
            return found
        results: list[Any] = []
        for place in range(count):
            name = task_name(number, stage, place)
            done = self.notes.get(name)
            results += [self.notes.get(f"task-{name}")[1].lost(self._why(name))] if done is None else done
        return results

    def ended(self) -> None:
        """Go on."""


def task_name(number: int, stage: int, place: int) -> str:
    """What a task and its result are called.

    Parameters
    ----------
    number, stage, place
        Of its chain, of the stage within, of the task within.

    Returns
    -------
    str
        Name of a note.
    """
    return f"part-{number}-{stage}-{place}"
