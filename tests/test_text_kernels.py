"""Text columns and orders without Python objects, against lists and `sorted`."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobeff import order
from jobeff.engine import jobs as month_jobs
from jobeff.engine import text_kernels
from jobeff.engine.plan import attempts_by_node
from jobeff.store import word_kernels
from jobeff.store.pages import Texts, Words

# What comes round in machine integers is warned of where the kernels are not compiled.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")

some_words = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"", b"a", b"n1,n2", b",", b"12345678", b"123456789", b"1234567\0", b"1" * 17, b"1" * 8 + b"2" * 9]
    ),
)
tables = st.lists(some_words, min_size=1, max_size=40, unique=True)
numbers = st.lists(
    st.one_of(st.integers(0, 5), st.integers(0, 2**20), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=60
)


def texts_of(words):
    data = np.frombuffer(b"".join(words), dtype=np.uint8).copy()
    return Texts(np.empty((0, 0), dtype=np.int32), np.cumsum([0, *map(len, words)], dtype=np.int64), data)


def numbered(texts, chosen, split):
    """The words of some texts as bytes, and their numbers; with room for one word at first."""
    words, at, out = Words(1), np.array([0, -1, 0, 0]), np.full(len(split), -1, dtype=np.int64)
    chosen = np.array(chosen, dtype=np.int64)
    while not word_kernels.number_words(
        texts.offsets, texts.data, chosen, words.slots, words.offsets, words.data, at, out
    ):
        words.grow(int(at[2]))
    found = words.texts(texts.codes, int(at[2]))
    known = [found.data[a:b].tobytes() for a, b in itertools.pairwise(found.offsets.tolist())]
    return known, out.tolist()


@given(tables, st.data())
def test_words_of_texts(words, chance):
    texts, count = texts_of(words), np.full(len(words), -1, dtype=np.int64)
    text_kernels.count_words(texts.offsets, texts.data, count)
    assert count.tolist() == [word.count(b",") + 1 for word in words]
    chosen = chance.draw(st.lists(st.integers(0, len(words) - 1), max_size=80))
    split = [word for one in chosen for word in words[one].split(b",")]
    known, code = numbered(texts, chosen, split)
    assert known == list(dict.fromkeys(split))
    assert [known[i] for i in code] == split


@pytest.mark.parametrize("count", [511, 512, 513, 3000])
@pytest.mark.parametrize("name", ["{}", "a{}", "{}" + "x" * 16, "x" * 16 + "{}", "x" * 9 + "{}" + "x" * 9])
def test_more_words_than_there_is_room_for_at_first(count, name):
    """The table of known ones grows, and none is lost or met twice."""
    names = [name.format(i) for i in range(count)]
    texts = texts_of([f"{one},b".encode() for one in names])
    code = np.empty(4 * count, dtype=np.int64)
    found = text_kernels.numbered(texts, np.tile(np.arange(count), 2), code)
    assert found == [names[0], "b", *names[1:]]
    assert [found[i] for i in code.tolist()] == [word for one in names * 2 for word in (one, "b")]


@given(st.lists(some_words, min_size=1, max_size=40), st.integers(0, 3))
def test_words_that_differ_in_any_byte_are_two(words, where):
    """Of each word there is one that differs from it in one byte only, at its beginning, its end or between."""
    changed = [
        bytes([*one[:at], one[at] ^ 1, *one[at + 1 :]]) for one in words if (at := len(one) * where // 4) < len(one)
    ]
    every = [one.replace(b",", b";") for one in words + changed]
    known, code = numbered(texts_of(every), range(len(every)), every)
    assert known == list(dict.fromkeys(every))
    assert [known[i] for i in code] == every


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
        [(job, start, 9, 1, ",".join(nodes), "p", "u", "s", "2021") for job, start, nodes in rows], len(rows)
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


@given(st.lists(st.sampled_from([-(2**63), -1, 0, 1, 5, 2**63 - 1]), max_size=12))
def test_distinct_numbers(numbers):
    assert order.distinct(np.array(numbers, dtype=np.int64)).tolist() == sorted({*numbers})


def test_rows_of_one_id_are_in_order_of_their_starts_where_ids_are_sorted():
    assert order.order_of(np.array([1, 5, 5, 7]), np.array([9, 8, 6, 1])).tolist() == [0, 2, 1, 3]
