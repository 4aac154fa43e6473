"""Values put into another order by kernels, against numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobeff.engine import order_kernels

NUMBERS = st.integers(-(2**63), 2**63 - 1)


@given(st.data(), st.sampled_from([np.int64, np.int32]))
def test_what_is_taken_is_what_numpy_takes(data, dtype):
    values = np.array(data.draw(st.lists(NUMBERS)), dtype=np.int64).astype(dtype)
    order = np.array(data.draw(st.permutations(range(len(values)))), dtype=np.int64)
    out = np.empty(len(values), dtype=dtype)
    order_kernels.take(values, order, out)
    assert out.tolist() == values[order].tolist()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2))), st.data())
def test_rows_are_numbered_by_two_columns(codes, data):
    first, second = (np.array([one[column] for one in codes], dtype=np.int32) for column in range(2))
    rows = np.array(data.draw(st.lists(st.integers(0, len(codes) - 1)) if codes else st.just([])), dtype=np.int64)
    high, low = np.arange(5) * 100, np.array([7, 0, 3])
    out = np.empty(len(rows), dtype=np.int64)
    order_kernels.pairs(rows, first, second, high, low, out)
    assert out.tolist() == [100 * codes[row][0] + [7, 0, 3][codes[row][1]] for row in rows.tolist()]
