"""The text of the synthetic history, byte by byte as a site would have written it; also as plain Python."""

import dataclasses
import re
import zlib
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from jobeff.bench import history, text
from jobeff.errors import SetAside
from jobeff.store import framing, header_sums

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")

EAST = timezone(timedelta(hours=1))
FILES = ("file_job", "file_node", "file_first", "file_rows", "file_cores", "file_extended")
FRAME = re.compile(rb"==> (\S+) bytes=(\d+) crc32=([0-9a-f]{8}) <==\n")


@pytest.fixture(scope="module")
def one():
    """A day of short jobs, of every width and both forms, one of them of a leap day and one of long ago."""
    day = history.day(history.Shape(nodes=1200, jobs_per_day=200), 3)
    some = np.flatnonzero(day.file_rows <= 12)
    found = dataclasses.replace(day, **{name: getattr(day, name)[some] for name in FILES})
    for i, when in enumerate((datetime(2024, 2, 29, 23, 59, 30), datetime(2001, 1, 1), datetime(1999, 12, 31, 23, 55))):
        found.file_first[i] = int(when.replace(tzinfo=EAST).timestamp())
    return found


def assert_row(line, extended, epoch, cores):
    """It is what the formats of a site's tool print of its own numbers."""
    words = line.split()
    core = [float(word) for word in words[-cores:]]
    sizes = [float(word) for word in words[2 : 6 if extended else 5]]
    assert words[0] == datetime.fromtimestamp(epoch, EAST).strftime("%Y-%m-%dT%H:%M:%S")
    printed = f"{words[0]}{epoch:12d}{sizes[0]:10.1f}{sizes[1]:10.1f}" + "".join(f"{size:14.1f}" for size in sizes[2:])
    pages = [int(word) for word in words[6:8]] if extended else []
    printed += "".join(f"{page:12d}" for page in pages) + "".join(f"{value:6.1f}" for value in core)
    assert line == printed
    assert (sizes[0], sizes[-1]) == (6.4 * cores, 0.0)
    assert 0 <= sizes[1] <= sizes[0]
    assert all(0 <= value <= 100 for value in core)
    if extended:
        assert sizes[1] <= sizes[2] <= sizes[0]
        assert all(0 <= page < 1000 for page in pages)


@pytest.mark.parametrize("framed", [False, True])
def test_raw_files_are_as_a_site_prints_them(one, framed):
    content, ends = history.written(one, framed)
    data, at = content.tobytes(), 0
    assert ends[-1] == len(data)
    assert set(one.file_cores.tolist()) >= {1, 2, 4, 20}
    assert set(one.file_extended.tolist()) == {False, True}
    ids = one.job_id[one.file_job].tolist()
    for i, (job_id, end) in enumerate(zip(ids, ends.tolist(), strict=True)):
        if framed:
            name, size, crc = FRAME.match(data, at).groups()
            at = FRAME.match(data, at).end()
            assert name.decode() == f"{history.CLUSTER}/r{one.file_node[i]}/{job_id}"
            assert int(size) == end - at
            assert int(crc, 16) == zlib.crc32(data[at:end])
        header, *rows, last = data[at:end].decode().split("\n")
        assert f"{header}\n".encode() == text.HEADERS[int(one.file_extended[i])]
        assert (len(rows), last) == (one.file_rows[i], "")
        for k, row in enumerate(rows):
            epoch = int(one.file_first[i]) + history.INTERVAL * k
            assert_row(row, one.file_extended[i], epoch, int(one.file_cores[i]))
        at = end


def test_a_day_is_always_the_same_and_no_other_is(one):
    again, other = (history.day(history.Shape(nodes=1200, jobs_per_day=200), number) for number in (3, 4))
    assert np.array_equal(again.job_id, one.job_id)
    assert not np.intersect1d(other.job_id, one.job_id).size


def test_jobs_differ_in_how_they_use_their_cores(one):
    content, _ = history.written(one, framed=False)
    rows = [line.split() for line in content.tobytes().decode().splitlines() if line[0].isdigit()]
    last = np.array([float(row[-1]) for row in rows])
    assert (last == 100).mean() > 0.1
    assert (last < 2).mean() > 0.1
    assert ((last > 20) & (last < 80)).mean() > 0.02


def test_headers_of_frames_have_the_records_that_collect_writes(tmp_path):
    root = tmp_path / "site"
    history.write(root, history.Shape(nodes=12, jobs_per_day=200), 33)
    months = sorted((root / "archive" / history.CLUSTER).glob("*.txt"))
    assert len(months) == 2
    for month in months:
        whole = month.read_bytes()
        begins = framing.scan(whole, 0, history.CLUSTER, "", SetAside()).begin.tolist()
        lines = [whole.rindex(b"==> ", 0, begin) for begin in begins]
        expected = [header_sums.record(at, whole[line:at]) for line, at in zip(lines, begins, strict=True)]
        assert header_sums.load(month).tobytes() == b"".join(expected)
