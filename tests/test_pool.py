"""Chains of work: their order, their errors, what they hold open, and workers that die of them."""

import contextlib
import functools
import itertools
import os
import re
import signal
import time
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path

import hurt
import pytest
from hurt import Numbers, double, double_all, pid, refuse, slow
from hypothesis import example, given
from hypothesis import strategies as st

from jobeff.engine import forking, pool, processes
from jobeff.errors import JobeffError


def adding(*stages):
    """A chain that sends numbers through `double`, stage by stage, and returns what came of them."""
    found = []
    for numbers in stages:
        found.append((yield [(double, number) for number in numbers]))
    return found


def nothing(value):
    """A chain without any task."""
    return value
    yield


@pytest.fixture(params=[0, 2])
def some_executor(request, executors):
    return executors[request.param]


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_results_come_back_in_the_order_of_the_tasks(some_executor, at_once):
    chains = [adding(range(i), [], range(5, 5 + i), []) for i in range(8)]
    found = list(pool.run_chains(some_executor, chains, at_once))
    expected = [[[2 * k for k in range(i)], [], [2 * k for k in range(5, 5 + i)], []] for i in range(8)]
    assert sorted(found) == sorted(expected)
    if at_once == 1:
        assert found == expected


def test_no_chains(some_executor):
    assert list(pool.run_chains(some_executor, [], 2)) == []


def test_a_slow_task_keeps_its_place(executors):
    def chain():
        return (yield [(slow, 3), (slow, 0), (double, 1)])

    assert list(pool.run_chains(executors[2], [chain(), chain()], 2)) == [[3, 0, 2]] * 2


@pytest.mark.parametrize("at_once", [1, 2])
def test_however_many_chains_are_done_at_once(some_executor, at_once):
    """More than Python would call one within the other."""
    chains = [nothing(i) if i % 1500 else adding([i]) for i in range(3000)]
    found = list(pool.run_chains(some_executor, chains, at_once))
    assert sorted(map(str, found)) == sorted(str([[2 * i]] if i % 1500 == 0 else i) for i in range(3000))


def test_chains_are_begun_as_they_are_worked_off(some_executor):
    begun = []

    def chains():
        for i in range(20):
            begun.append(i)
            yield adding([i], [i])

    for done, _ in enumerate(pool.run_chains(some_executor, chains(), 3)):
        assert len(begun) <= done + 3
    assert len(begun) == 20


class Holding:
    """Chains that hold something open, and whether they do."""

    def __init__(self):
        self.open = set()

    @contextlib.contextmanager
    def held(self, name):
        self.open.add(name)
        try:
            yield
        finally:
            self.open.remove(name)

    def chain(self, name, *stages):
        with self.held(name):
            for tasks in stages:  # noqa: UP028  (what is sent is for us)
                yield tasks
        return name


@pytest.mark.parametrize("stage", [0, 1])
def test_an_error_of_a_task_closes_all_chains(some_executor, stage):
    holding = Holding()
    stages = [[(double, 1)], [(double, 1)]]
    stages[stage] = [(double, 1), (refuse, 7)]
    chains = [holding.chain("good", *[[(slow, 1)]] * 9), holding.chain("bad", *stages), holding.chain("late", [])]
    with pytest.raises(ValueError, match="no 7"):
        list(pool.run_chains(some_executor, chains, 2))
    assert holding.open == set()


def test_an_error_of_a_chain_closes_the_others(some_executor):
    holding = Holding()

    def bad():
        yield [(double, 1)]
        with holding.held("bad"):
            raise KeyError("chain")

    with pytest.raises(KeyError, match="chain"):
        list(pool.run_chains(some_executor, [holding.chain("good", *[[(slow, 1)]] * 9), bad()], 2))
    assert holding.open == set()


def test_whoever_stops_early_closes_all(some_executor):
    holding = Holding()
    chains = [holding.chain(i, *[[(double, 1)]] * (1 + 8 * i)) for i in range(3)]
    with contextlib.closing(pool.run_chains(some_executor, chains, 2)) as running:
        assert next(running) == 0
        assert holding.open
    assert holding.open == set()


# Workers that die


SAID = {
    "killed": r"was killed by signal 9 \(SIGKILL",
    "terminated": r"was killed by signal 15 \(SIGTERM",
    "segfault": r"was killed by signal 11 \(SIGSEGV",
    "stopped": "was stopped",
    "exit": "ended with status 7",
    "memory": "ran out of memory",
}


@pytest.fixture(scope="module")
def quick():
    """Two workers, looked after so often that a test need not wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "LOOK_EVERY_S", 0.02)
        with pool.executor(2) as executor:
            yield executor


@pytest.mark.parametrize("how", SAID)
@pytest.mark.parametrize("times", [1, 2])
def test_a_task_that_is_lost_is_done_again(quick, tmp_path, how, times):
    def chain():
        return (yield [(double, 1), (functools.partial(hurt.number, hurt.Hurt(how, tmp_path, times)), 2), (slow, 3)])

    assert list(pool.run_chains(quick, [chain(), adding([1], [2])], 2)) in (
        [[2, 4, 3], [[2], [4]]],
        [[[2], [4]], [2, 4, 3]],
    )
    assert len(list(tmp_path.iterdir())) == times


@pytest.mark.parametrize("how", SAID)
def test_a_task_that_is_always_lost_is_told_once_the_others_are_done(quick, tmp_path, how):
    holding = Holding()
    bad = [(functools.partial(hurt.number, hurt.Hurt(how, tmp_path, 99)), 1), (slow, 3)]
    chains = [
        holding.chain("good", *[[(double, 1)]] * 9),
        holding.chain("bad", bad),
        holding.chain("late", [(double, 1)]),
    ]
    found = []
    with pytest.raises(JobeffError, match=f"worker process that did it {SAID[how]}.*, each of 3 times"):
        found.extend(pool.run_chains(quick, chains, 2))
    assert (len(list(tmp_path.iterdir())), holding.open) == (3, set())


@pytest.mark.parametrize("how", ["killed", "segfault", "memory"])
def test_only_what_workers_die_of_is_left_out(quick, tmp_path, how):
    numbers = [[0, 1, 2], [3], [4, 5]]

    def chain():
        results = yield [(double_all, Numbers(some, {1: hurt.Hurt(how, tmp_path, 99)})) for some in numbers]
        return [pair for result in results for pair in result]

    [found] = pool.run_chains(quick, [chain()], 1)
    assert [number for number, _ in found] == [0, 1, 2, 3, 4, 5]
    [(_, why)] = [pair for pair in found if pair[1] != 2 * pair[0]]
    assert re.match(SAID[how], why)


class Losing(Executor):
    """Loses tasks with certain numbers in them, each so many times."""

    def __init__(self, losses):
        self.losses = dict(losses)
        self.open = 0

    def submit(self, fn, /, *args):
        future = Future()
        bad = next((number for number in args[0].numbers if self.losses.get(number)), None)
        if bad is None:
            future.set_result(fn(*args))
        else:
            self.losses[bad] -= 1
            future.set_exception(BrokenExecutor(f"died of {bad}"))
        return future


@example([[[0, 1]]], {1: 8}, 1)  # a task of two parts is the smallest that has any
@given(
    stages=st.lists(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=4), max_size=3),
    losses=st.dictionaries(st.integers(0, 9), st.integers(0, 8)),
    at_once=st.integers(1, 3),
)
def test_whatever_is_lost_all_numbers_come_back_once_and_in_order(stages, losses, at_once):
    def chain(tasks):
        results = yield [(double_all, Numbers(numbers, {})) for numbers in tasks]
        return [pair for result in results for pair in result]

    executor = Losing(losses)
    found = list(pool.run_chains(executor, [chain(tasks) for tasks in stages], at_once))
    numbers = [[number for number, _ in results] for results in found]
    assert sorted(numbers) == sorted([number for some in tasks for number in some] for tasks in stages)
    # Once with others, and then alone: one that is lost less than twice is never left out.
    for number, result in (pair for results in found for pair in results):
        assert result == 2 * number or (losses[number] >= 2 and result == f"died of {number}")


def test_an_idle_worker_that_dies_is_replaced(quick):
    for how in ("killed", "stopped"):
        pids = set(itertools.chain(*pool.run_chains(quick, [asking(pid)] * 1, 1)))
        for one in pids:
            os.kill(one, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        assert list(pool.run_chains(quick, [adding(range(20))], 1)) == [[[2 * i for i in range(20)]]]


def asking(question):
    return (yield [(question, i) for i in range(8)])


def test_memory_runs_out_in_this_process_too():
    def short(task):
        if task.numbers.count(1):
            raise MemoryError
        return double_all(task)

    def chain():
        return (yield [(short, Numbers([0, 1, 2], {}))])

    [found] = pool.run_chains(pool.InProcess(), [chain()], 1)
    assert found == [[(0, 0)], [(1, "ran out of memory")], [(2, 4)]]


def test_workers_end_with_their_executor_whatever_they_are_at():
    with pool.executor(2) as executor:
        busy = [executor.submit(time.sleep, 600) for _ in range(3)]
        pids = {one.pid for one in started(executor, 2)}
        os.kill(min(pids), signal.SIGSTOP)
        began = time.monotonic()
    assert time.monotonic() - began < 30
    assert not [one for one in pids if Path("/proc", str(one)).exists()]
    assert all(future.cancelled() or future.exception() for future in busy)


def started(executor, count):
    while len(executor._workers) < count or not all(worker.future for worker in executor._workers):
        time.sleep(0.01)
    return executor._workers


def test_what_forks_the_workers_may_die_or_stop(tmp_path):
    with pytest.MonkeyPatch.context() as patch, pool.executor(1) as executor:
        patch.setattr(processes, "LOOK_EVERY_S", 0.02)
        pool.ready(executor)
        for how in (signal.SIGKILL, signal.SIGSTOP):
            os.kill(forking.server_id(), how)
            task = functools.partial(hurt.number, hurt.Hurt("killed", tmp_path))
            assert executor.submit(double, 1).exception() is None or how == signal.SIGKILL
            assert list(pool.run_chains(executor, [asking(task)], 1)) == [[2 * i for i in range(8)]]


def test_an_error_says_where_in_the_worker_it_was(executors):
    with pytest.raises(ValueError, match="no 5") as error:
        executors[2].submit(refuse, 5).result()
    assert "in refuse" in "".join(error.value.__notes__)
