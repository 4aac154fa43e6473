"""Of raw files of one job, those that another goes on with are dropped: as comparing each with each would, but fast."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from jobeff.engine import build

texts = st.lists(
    st.tuples(st.integers(1, 3), st.binary(max_size=4).map(lambda b: bytes(c & 1 for c in b))), max_size=12
)


def kept(files):
    """Job id, offset and length of the files that stay, and of all."""
    files = sorted(files, key=lambda file: file[0])
    ends = np.cumsum([len(text) for _, text in files], dtype=np.int64)
    begins = ends - [len(text) for _, text in files]
    table = pa.table({"job_id": [job_id for job_id, _ in files], "offset": begins, "bytes": ends - begins})
    table = table.set_column(0, "job_id", table.column("job_id").cast(pa.int64()))
    whole = np.frombuffer(b"".join(text for _, text in files), dtype=np.uint8)
    found = build._without_superseded(whole, table)
    columns = (found.column(name).to_pylist() for name in ("job_id", "offset", "bytes"))
    rows = zip([job_id for job_id, _ in files], begins.tolist(), (ends - begins).tolist(), strict=True)
    return list(zip(*columns, strict=True)), list(rows)


@given(texts)
def test_as_comparing_each_with_each(files):
    found, rows = kept(files)
    files = sorted(files, key=lambda file: file[0])

    def superseded(i):
        job_id, text = files[i]
        return any(
            other == job_id and later.startswith(text) and (len(later) > len(text) or k > i)
            for k, (other, later) in enumerate(files)
        )

    assert found == [row for i, row in enumerate(rows) if not superseded(i)]


def test_many_files_of_one_job_take_no_longer_than_sorting_them():
    """Comparing each with each would take hours."""
    assert len(kept([(1, b"%d\n" % i) for i in range(100_000)])[0]) == 100_000
