"""Tasks for workers, and tasks that workers die of: before, within or after they do something real."""

import ctypes
import functools
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from jobeff.cli import main
from jobeff.engine import build, leaves, pool, processes, reduce, scan
from jobeff.store import batch

FUNCTIONS = {
    function.__name__: function
    for function in (
        scan.scan_month,
        build.build_shards,
        reduce.plan_month,
        reduce.reduce_nodes,
        reduce.merge_shared,
        reduce.finish_month,
        leaves.make_leaves,
    )
}


def run_out():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    return bytearray(1 << 34)


HOW = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminated": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "segfault": lambda: ctypes.string_at(0),
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "asleep": lambda: time.sleep(600),
    "exit": lambda: os._exit(7),
    "memory": run_out,
}


@dataclass(frozen=True)
class Hurt:
    """What happens, to whom, when, and how often; `folder` remembers it over the deaths of workers."""

    how: str
    folder: Path
    times: int = 1
    node: str | None = None
    moment: str = "before"
    names: tuple[str, ...] = field(default=tuple(FUNCTIONS))

    def now(self):
        for number in range(self.times):
            try:
                (self.folder / f"hurt-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            HOW[self.how]()
            return


def nodes_of(task):
    return [span.node for span in getattr(task, "spans", ()) if not isinstance(span, str)] + [
        one[0] for one in getattr(task, "nodes", ())
    ]


def run(hurt, name, task):
    """A task of the engine, and what happens on the way."""
    if name not in hurt.names or (hurt.node is not None and hurt.node not in nodes_of(task)):
        return FUNCTIONS[name](task)
    if hurt.moment == "before":
        hurt.now()
    commit = batch.Batch.commit

    def hurt_commit(batch, durable=True):
        hurt.now()
        commit(batch, durable)

    if hurt.moment == "within":  # files are written, and do not have their names yet
        batch.Batch.commit = hurt_commit
    try:
        result = FUNCTIONS[name](task)
    finally:
        batch.Batch.commit = commit
    if hurt.moment == "after":
        hurt.now()
    return result


def number(hurt, task):
    """A small task: twice a number."""
    hurt.now()
    return 2 * task


def double(number):
    return 2 * number


def slow(number):
    time.sleep(0.05 * number)
    return number


def refuse(number):
    raise ValueError(f"no {number}")


def until_there(begun, go):
    begun.touch()
    while not go.exists():
        time.sleep(0.02)
    return True


def pid(_):
    time.sleep(0.02)
    return os.getpid()


class Numbers(pool.Task):
    """Several numbers to double, with some that workers die of, and whom they have met."""

    def __init__(self, numbers, hurts):
        self.numbers, self.hurts = numbers, hurts

    def split(self):
        return [Numbers([number], self.hurts) for number in self.numbers]

    def lost(self, why):
        return [(number, why) for number in self.numbers]


def double_all(task):
    return [(number, task.hurts[number].now() if number in task.hurts else 2 * number) for number in task.numbers]


def patch(what, setattr=setattr):
    """Have tasks be as `what` says."""
    for name, function in FUNCTIONS.items():
        setattr(sys.modules[function.__module__], name, functools.partial(run, what, name))


def command(what, *arguments):
    """A command line that runs jobeff so."""
    code = f"import hurt; from pathlib import PosixPath; hurt.start({what!r}, {[str(one) for one in arguments]!r})"
    return [sys.executable, "-c", code.replace("Hurt(", "hurt.Hurt(")]


def start(what, arguments):
    processes.LOOK_EVERY_S = 0.05
    patch(what)
    main(arguments)
