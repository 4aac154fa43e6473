"""How nodes are shared out among tasks."""

from hypothesis import given
from hypothesis import strategies as st

from jobeff.engine.plan import balanced


@given(st.lists(st.integers(0, 2**40), max_size=60), st.integers(1, 9))
def test_groups_are_neighbours_and_about_as_heavy_as_one_another(weights, count):
    groups = balanced(range(len(weights)), weights, count)
    assert len(groups) <= count
    assert all(groups)
    assert sorted(item for group in groups for item in group) == list(range(len(weights)))
    assert all(group == list(range(group[0], group[-1] + 1)) for group in groups)
    sums = [sum(weights[item] for item in group) for group in groups]
    assert sums == sorted(sums, reverse=True)
    if groups:
        assert sums[0] * count <= sum(weights) + max(weights) * count


def test_as_many_groups_as_there_shall_be():
    assert sorted(balanced("abcdefgh", [1] * 8, 4)) == [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]]
    assert balanced("abc", [0, 9, 0], 1) == [["a", "b", "c"]]
    assert balanced("", [], 3) == []
