"""Kernels against the oracle. Run once more with the JIT off and once with bounds checks (scripts/test)."""

import naive
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import ODD_CELLS, PLAIN, free_texts, printed_files, raw_texts, sampled_epochs

from jobeff.engine import kernels, samples

T = 1_600_000_000


def parsed(texts):
    """What the kernel makes of raw files, in the oracle's words."""
    ends = np.cumsum([len(text) for text, _ in texts])
    whole = np.frombuffer(b"".join(text for text, _ in texts) or b"\0", dtype=np.uint8)
    columns, _ = samples.parse(whole, ends - [len(t) for t, _ in texts], ends, np.array([e for _, e in texts]))
    results = []
    for i in range(len(texts)):
        row = {name: columns[name][i].as_py() for name in ("time", "limit", "used", "max_used", "swap", "core")}
        width = int(columns["cores"][i])
        most = row["max_used"] or [-1] * len(row["time"])
        found = [
            naive.Sample(t, lim, use, m if m >= 0 else None, s, tuple(row["core"][k * width : (k + 1) * width]))
            for k, (t, lim, use, m, s) in enumerate(
                zip(row["time"], row["limit"], row["used"], most, row["swap"], strict=True)
            )
        ]
        results.append((found, int(columns["rejected"][i])))
    return results


def expected(text, extended):
    valid, rejected = naive.parse(text, extended)
    return sorted(valid, key=lambda sample: sample.time), rejected


@given(st.lists(raw_texts(sampled_epochs(T, T + 3000)), min_size=1, max_size=3))
def test_parses_like_the_oracle(texts):
    assert parsed(texts) == [expected(*one) for one in texts]


@settings(max_examples=600)
@given(st.lists(printed_files(), min_size=1, max_size=3))
def test_guesses_like_the_oracle(printed):
    assert parsed(printed) == [expected(*one) for one in printed]


@given(free_texts, st.booleans())
@example(b"", False)
@example(b"\n\n", True)
@example(b"LOCALTIME", False)
def test_parses_anything_like_the_oracle(text, extended):
    assert parsed([(text, extended)]) == [expected(text, extended)]


@pytest.mark.parametrize("cell", ODD_CELLS)
@pytest.mark.parametrize("column", range(9))
def test_every_odd_cell_in_every_column(cell, column):
    cells = ["2020-09-13T12:26:40", str(T), "10", "1", "2", "0.5", "7", "8", "50"]
    cells[column] = cell
    text = " ".join(cells).encode()
    for extended in (False, True):
        assert parsed([(text, extended)]) == [expected(text, extended)]


def test_real_files(shared_data):
    files = sorted((shared_data / "jobstats").glob("*/*/*"))
    texts = [(file.read_bytes(), False) for file in files]
    assert len(files) == 6
    assert parsed(texts) == [expected(*one) for one in texts]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(0, 4))
def test_quantile_is_numpys(values, quarters):
    found = kernels.quantile(np.array(values, dtype=np.int64), quarters)
    assert found == pytest.approx(np.percentile(values, 25 * quarters), rel=1e-12)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([1, 60, 300, 301]))
def test_slot_is_pythons_round(since, first, start, interval):
    found = kernels.slot_of(first + since, first, start, interval)
    assert found == round(since / interval) + max(0, first - start) // interval


ROW = b"2013-11-01T09:33:22  1383294802      23.5       0.7           0.0  75.2  72.2\n"


@pytest.mark.parametrize("harm", [b"\0", b" ", b"x", b"9", b"-", b".", b"\n", b"\x80", b"\xb0"])
@pytest.mark.parametrize("first", [True, False])
def test_a_damaged_byte_anywhere_in_a_row(harm, first):
    """Also where as many bytes as a date's are equal to what the kernel remembers before it has seen one."""
    later = ROW[:29] + b"99" + ROW[31:]
    files = []
    for at in range(len(ROW)):
        for length in (1, 2, 11):
            damaged = ROW[:at] + harm * len(ROW[at : at + length]) + ROW[at + length :]
            files.append((damaged + later if first else later + damaged, False))
    assert parsed(files) == [expected(*file) for file in files]
    assert [parsed([file]) for file in files[:9]] == [[expected(*file)] for file in files[:9]]


def test_a_file_without_any_line_end():
    text = (PLAIN + " " * 10).encode()
    assert parsed([(text, False)]) == [([], 0)]
