"""Chains of work: their order, their errors, and what they hold open."""

import contextlib
import os
import time

import pytest

from jobeff.engine import pool
from jobeff.errors import JobeffError


def double(number):
    return 2 * number


def slow(number):
    time.sleep(0.05 * number)
    return number


def refuse(number):
    raise ValueError(f"no {number}")


def die(_):
    os._exit(3)


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


def test_a_worker_that_dies_is_told_and_closes_all():
    holding = Holding()
    chains = [holding.chain("good", *[[(slow, 1)]] * 9), holding.chain("bad", [(die, 1)])]
    with pool.executor(1) as executor, pytest.raises(JobeffError, match="a worker process died"):
        list(pool.run_chains(executor, chains, 2))
    assert holding.open == set()
