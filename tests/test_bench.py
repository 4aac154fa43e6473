"""What the benchmark measures of a command, and the plain method that it compares with."""

import contextlib
import os
import sqlite3
import sys
import threading
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobeff.bench import anew, cold, commands, others, plain, two_cores
from jobeff.bench import run as benchmark


def test_a_command_that_fails_is_an_error_with_its_words():
    words = "import sys; sys.exit('no such thing')"
    with pytest.raises(RuntimeError, match="ended with 1: no such thing"):
        commands.run([sys.executable, "-c", words])


def test_a_command_uses_the_cores_that_it_is_given():
    core = max(os.sched_getaffinity(0))
    look = f"import os, time; time.sleep(0.2); assert os.sched_getaffinity(0) == {{{core}}}, os.sched_getaffinity(0)"
    assert commands.run([sys.executable, "-c", look], [core]).seconds > 0.2


def test_two_commands_at_once_have_a_core_and_a_site_each(tmp_path, monkeypatch):
    """Sites with the same files, of which the second is gone at the end."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 6, 7})
    asked, both = [], threading.Barrier(2, timeout=10)

    def taken(root, *arguments, cores):
        both.wait()  # one after the other would be no measure
        asked.append((root.name, (root / "archive" / "a").stat().st_ino, arguments, cores))
        return commands.Run(3.0 if root.name == "site" else 6.0, 1.0)

    monkeypatch.setattr(commands, "jobeff", taken)
    site = tmp_path / "site"
    (site / "archive").mkdir(parents=True)
    (site / "archive" / "a").write_text("text")
    (site / ".shards.lock").touch()  # held by the one, it would keep the other from its work
    with two_cores.twin(site) as other:
        assert not (other / ".shards.lock").exists()
        assert two_cores.apart((site, other), "rebuild") == pytest.approx(2.0)
    inode = (site / "archive" / "a").stat().st_ino
    words = ("--workers", "1", "rebuild")
    assert sorted(asked) == [("site", inode, words, [4]), ("site-twin", inode, words, [6])]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_of_turns_neighbours_are_compared():
    assert two_cores.gain([4.0], [2.5]) == 1.6
    assert two_cores.gain([4.0, 8.0, 4.0], [2.0, 5.0, 2.0]) == 2.0  # of 2, 4, 1.6, 0.8, 2
    assert two_cores.gain([4.0, 4.5], [3.0, 2.0]) == 1.5  # of 1.33, 1.5, 2.25


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
    assert others._same_rows(tmp_path / "e.sqlite", tmp_path / "rows.parquet") is same


def test_a_command_of_a_site_is_run_as_users_run_it(tmp_path):
    """With the site's configuration, in a process of its own, whose words are told where it fails."""
    with pytest.raises(RuntimeError, match=r"-q job 7 ended with 10: jobeff: error: .*jobeff\.toml"):
        commands.jobeff(tmp_path, "job", "7")


def test_a_process_without_memory_of_its_own_has_none(tmp_path):
    """As one that has ended and not been waited for."""
    (tmp_path / "status").write_text("Name:\tpython\nState:\tZ (zombie)\n")
    assert commands._resident_mb(tmp_path) == 0
    (tmp_path / "status").write_text("VmRSS:\t  9216 kB\nRssAnon:\t  3072 kB\nRssFile:\t  6144 kB\n")
    assert commands._resident_mb(tmp_path) == 3


def test_the_quickest_run_counts_and_the_plain_method_just_before_and_after_it(tmp_path, monkeypatch):
    ran = []
    seconds = iter([4.0, 5.0, 2.0, 5.0, 1.0, 9.0, 8.0, 1.0])

    def taken(root, *arguments, cores):
        ran.append((root, arguments, cores))
        return commands.Run(next(seconds), 100.0 + len(ran))

    class Plain:
        rates = iter(range(1, 11))

        def measure(self):
            return next(self.rates)

    monkeypatch.setattr(commands, "jobeff", taken)
    turns = benchmark._commands(tmp_path, 4_000_000, 2, lambda _: None, Plain(), longest=False)
    found = [one for some in turns for one in some.told(3, 4_000_000)]
    one_core = [min(os.sched_getaffinity(0))]
    asked = [
        (tmp_path, ("--workers", workers, *words), cores)
        for words in (("rebuild",), ("compute", "--all"))
        for _ in range(2)
        for workers, cores in (("1", one_core), ("2", None))
    ]
    assert ran == asked
    figures = [[one[key] for key in ("command", "cores", "seconds", "mb_s", "plain_mb_s", "peak_mb")] for one in found]
    assert figures == [
        ["rebuild", 1, 2.0, 2.0, 3.5, 103.0],
        ["rebuild", 2, 5.0, 0.8, 2.5, 104.0],
        ["compute --all", 1, 1.0, 4.0, 6.5, 107.0],
        ["compute --all", 2, 1.0, 4.0, 9.5, 108.0],
    ]
    assert {(one["days"], one["text_gb"]) for one in found} == {(3, 0.004)}
    assert [one.gains() for one in turns] == [{}, {}]


def test_on_the_longest_history_two_commands_at_once_are_a_part_of_each_turn(tmp_path, monkeypatch):
    seconds = iter([4.0, 2.0, 4.0, 2.0, 9.0, 6.0, 9.0, 6.0])
    rates = iter(range(1, 15))
    both = iter([2.0, 2.0, 5.0, 5.0])

    class Plain:
        def measure(self):
            return next(rates)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5})
    monkeypatch.setattr(commands, "jobeff", lambda *_, cores: commands.Run(next(seconds), float(bool(cores))))
    monkeypatch.setattr(two_cores, "apart", lambda roots, *_: next(both) if len(roots) == 2 else None)
    (tmp_path / "site").mkdir()
    turns = benchmark._commands(tmp_path / "site", 1, 2, lambda _: None, Plain(), longest=True)
    assert [one.gains() for one in turns] == [{"workers": 2.0, "apart": 2.0}, {"workers": 1.5, "apart": 1.8}]
    assert [one.beside for one in turns] == [{1: [1.5, 4.5], 2: [2.5, 5.5]}, {1: [8.5, 11.5], 2: [9.5, 12.5]}]


def test_what_a_command_reads_is_forgotten_before_each_time(tmp_path, monkeypatch):
    seconds = iter([3.0, 2.0, 5.0, 6.0])
    did = []
    for name in ("archive", "shards"):
        (tmp_path / name / "c").mkdir(parents=True)
        (tmp_path / name / "c" / f"{name}-1").write_bytes(b"x")

    def advise(handle, begin, size, advice):
        assert (begin, size, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        did.append(Path(f"/proc/self/fd/{handle}").readlink().name)

    def jobeff(_, *arguments):
        did.append(arguments)
        return commands.Run(next(seconds), 0)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr(commands, "jobeff", jobeff)
    assert cold.seconds(tmp_path, 2) == {"rebuild": 2.0, "compute --all": 5.0}
    workers = ("--workers", "2")
    rebuild = ["archive-1", "shards-1", (*workers, "rebuild")]
    assert did == 2 * rebuild + 2 * ["shards-1", (*workers, "compute", "--all")]


def test_before_a_rebuild_that_writes_all_shards_each_is_another(tmp_path, monkeypatch):
    seconds, modes = iter([3.0, 2.0]), []
    shard = tmp_path / "shards" / "c" / "n1" / "2026-01.parquet"
    shard.parent.mkdir(parents=True)
    shard.touch(mode=0o640)

    def jobeff(_, *arguments):
        assert arguments == ("--workers", "2", "rebuild")
        modes.append(shard.stat().st_mode & 0o777)
        shard.chmod(0o640)
        return commands.Run(next(seconds), 0)

    monkeypatch.setattr(commands, "jobeff", jobeff)
    assert anew.seconds(tmp_path, 2) == 2.0
    assert modes == 2 * [0o600]


@pytest.fixture
def printed(monkeypatch):
    """Has what other processes print at last come from here: by engine and cores, whatever they are asked for next."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5})
    monkeypatch.setattr(others, "_same_rows", lambda _, rows: rows.name != "duckdb-2.parquet")
    asked = []

    def answered(answers):
        answers = {kind: iter(some) for kind, some in answers.items()}

        def run(program, *arguments):
            theirs = program == others.PEER
            kind = (arguments[0], arguments[4]) if theirs else (others.OURS, len(arguments) - 1)
            asked.append(kind)
            return next(answers[kind])

        monkeypatch.setattr(others, "_printed", run)
        return asked

    return answered


def _site_of(tmp_path, rows):
    (tmp_path / "db").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "db" / "efficiency.sqlite")) as connection, connection:
        connection.execute("create table jobs (job_id)")
        connection.executemany("insert into jobs values (?)", [(job_id,) for job_id in range(rows)])


def test_rows_alone_are_computed_by_turns_and_the_quickest_of_each_counts(tmp_path, monkeypatch, printed):
    monkeypatch.setattr(others.importlib.util, "find_spec", lambda name: name == "duckdb" or None)
    _site_of(tmp_path, 7)
    kinds = [("jobeff", 1), ("jobeff", 2), ("duckdb", 1), ("duckdb", 2)]
    seconds = {kinds[0]: [2.0, 1.0], kinds[1]: [0.5, 0.8], kinds[2]: [9.0, 8.0], kinds[3]: [4.0, 5.0]}
    asked = printed({kind: [(one, 7.0 if kind[0] == "jobeff" else 2048.0) for one in seconds[kind]] for kind in kinds})
    ours, theirs = others.by_turns(tmp_path, 3, 4_000_000, 2, print)
    assert asked == kinds * 2
    assert [(one["cores"], one["seconds"], one["tries"], one["mb_s"]) for one in ours] == [
        (1, 1.0, [2.0, 1.0], 4.0),
        (2, 0.5, [0.5, 0.8], 8.0),
    ]
    figures = [[one[key] for key in ("engine", "cores", "seconds", "mb_s", "peak_mb", "same")] for one in theirs]
    assert figures == [["duckdb", 1, 8.0, 0.5, 2.0, True], ["duckdb", 2, 4.0, 1.0, 2.0, False]]


def test_rows_alone_that_are_not_all_are_no_measure(tmp_path, monkeypatch, printed):
    monkeypatch.setattr(others.importlib.util, "find_spec", lambda _: None)
    _site_of(tmp_path, 8)
    printed({("jobeff", 1): [(1.0, 7.0)]})
    with pytest.raises(RuntimeError, match="7 rows have been computed, and 8 are known"):
        others.by_turns(tmp_path, 3, 1, 1, print)


def test_another_engine_that_fails_is_told_and_left_out(tmp_path, monkeypatch):
    """Memory or disk may not be enough for it; what else has been measured is kept."""
    said = []
    monkeypatch.setattr(others, "_ours", lambda *_: others._Try(1.0, 0.0))
    monkeypatch.setattr(others.importlib.util, "find_spec", lambda name: name == "polars" or None)
    monkeypatch.setattr(others, "PEER", "raise MemoryError")
    ours, theirs = others.by_turns(tmp_path, 3, 1, 2, said.append)
    assert theirs == []
    assert all(one["tries"] == [1.0, 1.0] for one in ours)
    assert len(said) == 2
    assert all(line.startswith("polars ended with 1: ") and "MemoryError" in line for line in said)


def test_figures_are_told_with_what_they_are_compared_with():
    """Each command with the plain method beside it, each engine with the same command on as many cores."""
    about = {"days": 96, "seconds": 2.0, "tries": [2.0, 2.0, 2.0], "peak_mb": 240.4}
    commands_found = [
        about | {"command": "rebuild", "cores": 2, "text_gb": 3.21, "mb_s": 600.0, "plain_mb_s": 12.0},
        about
        | {"command": "compute --all", "cores": 1, "text_gb": 3.21, "mb_s": 900.0, "plain_mb_s": 10.0, "seconds": 3.0}
        | {"tries": [3.0, 3.0, 4.0]},
        about | {"command": "compute --all", "cores": 2, "text_gb": 3.21, "mb_s": 1600.0, "plain_mb_s": 8.0},
    ]
    peers = [
        about | {"engine": "polars", "cores": 1, "mb_s": 300.0, "same": True},
        about | {"engine": "duckdb", "cores": 2, "mb_s": 400.0, "same": False},
    ]
    alone = [{"days": 96, "cores": 2, "seconds": 1.0, "mb_s": 3000.0}]
    limits = [{"name": "memory copy", "mb_s": 5000.0}]
    found = {"plain_mb_s": 10.0, "plain_least_mb_s": 8.0, "plain_most_mb_s": 12.0, "limits": limits}
    found |= {
        "commands": commands_found,
        "peers": peers,
        "alone": alone,
        "stages": [{"name": "decode", "mb_s": 2500.0}],
        "two_cores": {},
    }
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in benchmark.lines(found)]
    for row in (
        ["rebuild", "96, 3.2 GB", "2", "2.0 s", "600", "50 x", "240 MB"],
        ["compute --all", "96, 3.2 GB", "1", "3.0 s", "900", "90 x", "240 MB"],
        ["compute --all", "96, 3.2 GB", "2", "2.0 s", "1,600", "200 x", "240 MB"],
        ["polars", "96", "1", "2.0 s", "300", "3.0 x", "", "240 MB", "yes"],
        ["duckdb", "96", "2", "2.0 s", "400", "4.0 x", "7.5 x", "240 MB", "NO"],
        ["jobeff", "96", "2", "1.0 s", "3,000", "", "1.0 x", "", "yes"],
        ["decode", "2,500", "250 x", "50 %"],
        ["memory copy", "5,000", "500 x", "100 %"],
    ):
        assert row in cells
    assert not any("Nightly" in line or "looked up" in line or "against one" in line for [line, *_] in cells)
    gains = {"workers": 1.755, "apart": 1.7}
    found["two_cores"] = {"rebuild": gains, "compute --all": gains | {"workers": 2.0}}
    (told,) = [line for line in benchmark.lines(found) if "against one" in line]
    assert " 96 days: rebuild 1.75 x, compute --all 2.00 x. Two commands at once" in told
    assert told.endswith(" against one: rebuild 1.70 x, compute --all 1.70 x.")
    found |= {"cold_s": {"rebuild": 17.12, "compute --all": 4.5}, "anew_s": 12.34}
    (told,) = [line for line in benchmark.lines(found) if "against one" in line]
    assert " but on disk: rebuild 17.1 s, compute --all 4.5 s; " in told
    assert told.endswith(" all are written and removed: 12.3 s.")
