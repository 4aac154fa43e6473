"""Text columns and orders without Python objects, against lists and `sorted`."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobeff.engine import jobs as month_jobs
from jobeff.engine import order, text_kernels
from jobeff.engine.plan import attempts_by_node
from jobeff.store.pages import Texts

# What comes round in machine integers is warned of where the kernels are not compiled.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")

words = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"", b"a", b"n1,n2", b",", b"12345678", b"123456789", b"1234567\0"])
)
tables = st.integers(1, 3).flatmap(lambda columns: st.lists(st.tuples(*[words] * columns), min_size=1, max_size=40))
numbers = st.lists(
    st.one_of(st.integers(0, 5), st.integers(0, 2**20), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=60
)


def texts_of(rows):
    flat = [text for row in rows for text in row]
    data = np.frombuffer(b"".join(flat), dtype=np.uint8).copy()
    return Texts(np.cumsum([0, *map(len, flat)], dtype=np.int64), data, len(rows[0]))


def at(texts, places):
    return [texts.data[begin:end].tobytes() for begin, end in places.tolist()]


@given(tables, st.data())
def test_taking_rows(rows, chance):
    texts = texts_of(rows)
    chosen = chance.draw(st.lists(st.integers(0, len(rows) - 1), max_size=80))
    expected = [text for row in chosen for text in rows[row]]
    offsets = np.full(len(expected) + 1, -7, dtype=np.int64)
    data = np.full(sum(map(len, expected)), 7, dtype=np.uint8)
    text_kernels.take(*texts, np.array(chosen, dtype=np.int64), offsets, data)
    assert [data[a:b].tobytes() for a, b in itertools.pairwise(offsets.tolist())] == expected
    assert offsets[-1] == len(data)


@given(tables)
def test_codes_and_words(rows):
    texts = texts_of(rows)
    for column in range(texts.columns):
        values = [row[column] for row in rows]
        code = np.full(len(rows), -1, dtype=np.int64)
        known = at(texts, text_kernels.numbered(texts, column, False, code))
        assert known == list(dict.fromkeys(values))
        assert [known[i] for i in code.tolist()] == values
        count = np.full(len(rows), -1, dtype=np.int64)
        text_kernels.count_words(*texts, column, count)
        assert count.tolist() == [value.count(b",") + 1 for value in values]
        split = [word for value in values for word in value.split(b",")]
        code = np.full(len(split), -1, dtype=np.int64)
        known = at(texts, text_kernels.numbered(texts, column, True, code))
        assert known == list(dict.fromkeys(split))
        assert [known[i] for i in code.tolist()] == split


@pytest.mark.parametrize("count", [511, 512, 513, 3000])
def test_more_texts_than_there_is_room_for_at_first(count):
    """The table of known ones grows, and none is lost or met twice."""
    rows = [(f"{i % count}".encode(), f"a{i % count},b".encode()) for i in range(2 * count)]
    texts = texts_of(rows)
    code = np.empty(len(rows), dtype=np.int64)
    assert at(texts, text_kernels.numbered(texts, 0, False, code)) == [row[0] for row in rows[:count]]
    assert code.tolist() == [*range(count)] * 2
    code = np.empty(2 * len(rows), dtype=np.int64)
    known = at(texts, text_kernels.numbered(texts, 1, True, code))
    assert known == [b"a0", b"b", *(f"a{i}".encode() for i in range(1, count))]


@given(numbers, st.data())
def test_orders(keys, chance):
    key = np.array(keys, dtype=np.int64)
    start = np.array(chance.draw(st.lists(st.integers(0, 3), min_size=len(keys), max_size=len(keys))))
    assert order.sorted_by(key).tolist() == sorted(range(len(keys)), key=keys.__getitem__)
    found = order.order_of(key, start).tolist()
    assert found == sorted(range(len(keys)), key=lambda i: (keys[i], start[i]))


@pytest.mark.parametrize("bits", [0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 62])
@pytest.mark.parametrize("lowest", [0, -5, 10**12])
def test_orders_of_each_size(bits, lowest):
    assert order.sorted_by(np.arange(0)).tolist() == []
    dice = np.random.default_rng(bits)
    key = dice.integers(0, 2**bits, 400, endpoint=True) + lowest
    assert order.sorted_by(key).tolist() == np.argsort(key, kind="stable").tolist()


job_rows = st.lists(
    st.tuples(st.integers(-2, 4), st.integers(0, 3), st.lists(st.sampled_from("abcde"), min_size=1, unique=True)),
    min_size=1, max_size=20, unique_by=lambda row: row[:2],
)  # fmt: skip


@given(job_rows)
def test_jobs_by_node(rows):
    jobs = month_jobs.from_rows(
        [(job, start, 9, 1, ",".join(nodes), "p", "u", "s", "d") for job, start, nodes in rows], len(rows)
    )
    found = attempts_by_node(jobs)
    assert jobs.booked.tolist() == [len(nodes) for _, _, nodes in rows]
    expected = {}
    for i in sorted(range(len(rows)), key=lambda i: rows[i][:2]):
        for rank, node in enumerate(rows[i][2]):
            expected.setdefault(node, []).append((i, rank))
    assert found.node == list(dict.fromkeys(node for _, _, nodes in rows for node in nodes))
    for node, (begin, end) in zip(found.node, itertools.pairwise(found.begin.tolist()), strict=True):
        assert list(zip(found.job[begin:end].tolist(), found.rank[begin:end].tolist(), strict=True)) == expected[node]
    assert len(found.job) == found.begin[-1]


def test_rows_of_one_id_are_in_order_of_their_starts_where_ids_are_sorted():
    assert order.order_of(np.array([1, 5, 5, 7]), np.array([9, 8, 6, 1])).tolist() == [0, 2, 1, 3]
