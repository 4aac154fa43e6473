"""What the benchmark measures of a command, and the plain method that it compares with."""

import contextlib
import os
import sqlite3
import sys
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobeff.bench import commands, plain
from jobeff.bench import run as benchmark


def test_a_command_that_fails_is_an_error_with_its_words():
    words = "import sys; sys.exit('no such thing')"
    with pytest.raises(RuntimeError, match="ended with 1: no such thing"):
        commands.run([sys.executable, "-c", words])


def test_a_command_uses_the_cores_that_it_is_given():
    core = max(os.sched_getaffinity(0))
    look = f"import os, time; time.sleep(0.2); assert os.sched_getaffinity(0) == {{{core}}}, os.sched_getaffinity(0)"
    assert commands.run([sys.executable, "-c", look], [core]).seconds > 0.2


def test_the_memory_of_the_largest_process_of_a_command_counts():
    """Two of 60 and 90 MB, which are not added up."""
    child = "import sys, time; kept = b'x' * (int(sys.argv[1]) << 20); time.sleep(1)"
    both = (
        "import subprocess, sys\n"
        f"started = [subprocess.Popen([sys.executable, '-c', {child!r}, str(mb)]) for mb in (60, 90)]\n"
        "for one in started: one.wait()"
    )
    assert 90 < commands.run([sys.executable, "-c", both]).peak_mb < 150


@pytest.mark.parametrize(
    ("name", "cores", "expected"),
    [
        ("kalkyl/q1/1", 8, (79.8625, 8, 0.7, 0.7, 23.5, 1)),
        ("kalkyl/q1/2", 8, (0.730416666667, 0, 1.5, 1.3, 23.5, 60)),
        ("milou/m1/1", 16, (7.183333333333, 1.5, 0.7, 0.7, 252.2, 3)),
    ],
)
def test_the_plain_method_computes_what_sites_have(shared_data, name, cores, expected):
    connection = sqlite3.connect(":memory:")
    connection.execute("create table jobs (job_id integer, jobstats blob)")
    text = (shared_data / "jobstats" / name).read_bytes()
    connection.execute("insert into jobs values (7, ?)", [zlib.compress(text)])
    assert plain.efficiency(connection, 7, cores) == pytest.approx(expected, rel=1e-9)
    assert plain.efficiency(connection, 8, cores) is None
    connection.execute("insert into jobs values (9, ?)", [zlib.compress(text[: text.index(b"\n") + 1])])
    assert plain.efficiency(connection, 9, cores) is None
    connection.close()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("update jobs set cores = cores", True),
        ("update jobs set cpu_mean = cpu_mean * (1 + 1e-12)", True),
        ("update jobs set cpu_mean = cpu_mean * (1 + 1e-6) where job_id = 2", False),
        ("update jobs set mem_limit = 0 where job_id = 1", False),
        ("delete from jobs where job_id = 1", False),
        ("update jobs set job_id = 4 where job_id = 3", False),
    ],
)
def test_rows_of_other_engines_are_compared_one_by_one(tmp_path, change, same):
    """What another engine computes quicker and otherwise is no measure."""
    rows = {"job_id": [3, 1, 2], "start": [30, 10, 20], "cpu_mean": [0.5, 1 / 3, 99.0], "mem_limit": [6.4, None, 8.0]}
    pq.write_table(pa.table(rows | {"cores": [1, 2, 4]}), tmp_path / "rows.parquet")
    with contextlib.closing(sqlite3.connect(tmp_path / "e.sqlite")) as connection, connection:
        connection.execute("create table jobs (job_id, start, cpu_mean, mem_limit, cores)")
        values = zip(*rows.values(), [1, 2, 4], strict=True)
        connection.executemany("insert into jobs values (?, ?, ?, ?, ?)", sorted(values))
        connection.execute(change)
    assert benchmark._same_rows(tmp_path / "e.sqlite", tmp_path / "rows.parquet") is same
