"""collect: each raw file of a finished job once, in time, and nothing that is none."""

import contextlib
import errno
import io
import os
import sqlite3
import time
import zlib

import naive
import pytest
import sites
import zstandard
from conftest import dump, in_a_copy
from strategies import EXTENDED, PLAIN, local_time
from test_chain import MONTH_END, assert_same, efficiency

from jobeff.cli import main
from jobeff.errors import JobeffError, SetAside
from jobeff.sources import jobstats
from jobeff.steps.collect import collect
from jobeff.steps.load import load_slurm
from jobeff.steps.rebuild import rebuild
from jobeff.steps.update import update
from jobeff.store import archive, framing, header_sums, tables

START = MONTH_END
DAY = 86_400
WEEKS = 28 * DAY


def usage(rows, core=50.0, first=START, header=True):
    """A raw file of one core; the first row is a minute after `first`."""
    lines = [f"{local_time(t)} {t} 8.0 1.0 0.0 {core:5.1f}" for t in range(first + 60, first + 60 + 300 * rows, 300)]
    return "\n".join([*[PLAIN] * header, *lines, ""]).encode()


def a_job(job_id=1, start=START, rows=3, nodes=("n1",)):
    return naive.Job(sites.CLUSTER, job_id, "p", "u", start, start + 300 * rows, 1, "COMPLETED", nodes)


def a_file(job_id=1, node="n1", text=None, extended=False):
    return naive.RawFile(sites.CLUSTER, node, job_id, usage(3) if text is None else text, extended)


def night(site, jobs=(), files=(), name="day"):
    """What comes to be seen, and what collect makes of it."""
    sites.Night(list(jobs), list(files)).fall(site.root, name)
    load_slurm(site)
    return collect(site)


def archived(root):
    """What the archive holds: month, node, job and text of each frame, in order."""
    found = []
    for month, path in archive.month_files(root, sites.CLUSTER).items():
        with archive.plain(path, root / "scratch") as plain, archive.mapped(plain) as text:
            aside = SetAside()
            frames = framing.scan(text, 0, sites.CLUSTER, str(path), aside)
            assert (frames.torn, aside.total) == (0, 0)
            found += [
                (month, frames.nodes[node], job_id, bytes(text[begin : begin + size]))
                for node, job_id, begin, size in zip(
                    *(column.tolist() for column in (frames.node, frames.job_id, frames.begin, frames.bytes)),
                    strict=True,
                )
            ]
    return found


@pytest.fixture
def site(tmp_path):
    return sites.make(tmp_path)


def test_a_file_is_taken_once(site):
    result = night(site, [a_job()], [a_file()])
    assert result.counts == {"raw files": 1, "orphans": 0, "text bytes": len(usage(3))}
    assert archived(site.root) == [("2021-06", "n1", 1, usage(3))]
    assert collect(site).counts["raw files"] == 0
    assert len(archived(site.root)) == 1


def test_a_file_is_taken_two_intervals_after_the_end(site, monkeypatch):
    job = a_job()
    monkeypatch.setattr(time, "time", lambda: job.end + 599)
    assert night(site, [job], [a_file()]).counts["raw files"] == 0
    monkeypatch.setattr(time, "time", lambda: job.end + 600)
    assert collect(site).counts["raw files"] == 1


def test_a_running_job_keeps_its_file(site):
    assert night(site, [a_job(2)], [a_file(1)]).counts["raw files"] == 0
    assert archived(site.root) == []


def test_an_orphan_is_taken_when_it_has_not_changed_for_long(site):
    path = sites.write_raw(site.root, a_file())
    os.utime(path, (time.time(), time.time() - 19.9 * DAY))
    assert night(site, [a_job(2)]).counts["orphans"] == 0
    os.utime(path, (time.time(), time.time() - 20.1 * DAY))
    assert collect(site).counts["orphans"] == 1
    assert archived(site.root) == [("2021-06", "n1", 1, usage(3))]
    assert collect(site).counts["raw files"] == 0


def test_an_orphan_without_a_time_goes_by_its_file(site):
    path = sites.write_raw(site.root, a_file(text=b"no row\n"))
    os.utime(path, (START, START - 10 * DAY))
    night(site, [a_job(2)])
    assert [month for month, *_ in archived(site.root)] == ["2021-05"]


@pytest.mark.parametrize("purged", [False, True])
def test_an_orphan_named_later_is_copied_to_the_month_its_job_ended_in(site, purged):
    file = a_file(text=usage(3, first=START - 1200))
    path = sites.write_raw(site.root, file)
    os.utime(path, (START, START))
    sites.write_log(site.root, "day", [a_job(2)])
    update(site)
    if purged:
        path.unlink()
    job = naive.Job(sites.CLUSTER, 1, "p", "u", START - 1200, START + 60, 1, "COMPLETED", ("n1",))
    sites.write_log(site.root, "late", [job])
    result = sites.result_of(update(site), "collect")
    assert [frame[0] for frame in archived(site.root)] == ["2021-05", "2021-06"]
    assert result.counts.get("copied to another month", 0) == purged
    expected = naive.efficiency([job, a_job(2)], [file])
    assert_same(efficiency(site.root), expected)
    rebuild(site)
    assert_same(efficiency(site.root), expected)
    assert collect(site).counts == {"raw files": 0, "orphans": 0, "text bytes": 0}


def again(rows=3, start=START + 7200):
    """The next attempt of `a_job`."""
    return a_job(1, start, rows)


@pytest.mark.parametrize("rows", [2, 3, 4])
@pytest.mark.parametrize("grown", [False, True])
@pytest.mark.parametrize("start", [START + 7200, START + WEEKS + 7 * DAY], ids=["same month", "next month"])
def test_a_file_of_a_requeued_job_is_taken_again(site, rows, grown, start):
    """Some sites append to the file of the first attempt, others begin it anew: it may then be as long as before."""
    first, second = a_job(), again(rows, start)
    old = a_file()
    new = a_file(text=(old.text if grown else b"") + usage(rows, 20.0, start, header=not grown))
    sites.Night([first], [old]).fall(site.root, "day")
    update(site)
    sites.Night([second], [new]).fall(site.root, "later")
    update(site)
    expected = naive.efficiency([first, second], [new] if grown else [old, new])
    assert_same(efficiency(site.root), expected)
    rebuild(site)
    assert_same(efficiency(site.root), expected)
    assert collect(site).counts["raw files"] == 0


def test_a_time_that_cannot_be_true_does_not_hide_a_requeue(site):
    far = f"{local_time(2**33)} {2**40} 8.0 1.0 0.0 50.0\n".encode()
    first, second = a_job(), again()
    old = a_file(text=usage(3) + far)
    new = a_file(text=old.text + usage(3, 20.0, second.start, header=False))
    night(site, [first], [old])
    assert night(site, [second], [new], "later").counts["raw files"] == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_attempts_may_become_known_in_any_order_and_after_the_purge(tmp_path, order):
    """Two attempts in two months share a file, which is gone before the log of one of them comes."""
    attempts = [a_job(), again(start=START + WEEKS + 7 * DAY)]
    file = a_file(text=usage(3) + usage(3, 20.0, attempts[1].start, header=False))
    site = sites.make(tmp_path)
    path = sites.write_raw(site.root, file)
    for i in order:
        sites.write_log(site.root, f"day-{i}", [attempts[i]])
        update(site)
        path.unlink(missing_ok=True)
    assert_same(efficiency(site.root), naive.efficiency(attempts, [file]))


def test_of_two_forms_the_extended_one_is_taken(site):
    extended = f"{EXTENDED}\n{local_time(START)} {START} 8.0 1.0 2.0 0.0 1 1 50.0\n".encode()
    files = [a_file(1), a_file(1, text=extended, extended=True), a_file(2), a_file(3, text=b"1 2\n", extended=True)]
    night(site, [a_job(i) for i in (1, 2, 3)], files)
    assert {job_id: text for _, _, job_id, text in archived(site.root)} == {1: extended, 2: usage(3), 3: b"1 2\n"}
    frame = f"/n1/3 bytes=4 crc32={zlib.crc32(files[3].text):08x} form=extended <==".encode()
    assert frame in archive.month_file(site.root, "c1", "2021-06").read_bytes()


def test_what_is_no_raw_file_is_named_and_not_touched(site, tmp_path_factory):
    """Nothing is followed or opened: a FIFO would stop the run, a link could show somebody else's file."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "1").write_bytes(usage(3))
    forms = site.root / "slurm" / "uppmax_jobstats"
    node = forms / "n1"
    node.mkdir()
    (node / "1").symlink_to(elsewhere / "1")
    os.mkfifo(node / "2")
    (node / "3").mkdir()
    bad = ["007", "x", "1.txt", "-1", "9" * 20, "n\n2", "\udcff", "\x1b[31m"]
    for name in bad:
        (node / name).write_bytes(usage(3))
    (forms / "n2").symlink_to(elsewhere)
    (forms / "-n").mkdir()
    (forms / "4").write_bytes(b"")
    os.mkfifo(forms / "n3")
    result = night(site, [a_job(i) for i in (1, 2, 3)])
    assert result.counts["raw files"] == 0
    assert result.aside.counts == {"folder entry": 3 + len(bad) + 4}
    assert all(where.isascii() and where.isprintable() for _, where, _ in result.aside.examples)
    assert [path.name for path in elsewhere.iterdir()] == ["1"]
    assert archived(site.root) == []


def between_listing_and_reading(monkeypatch, path, change):
    """What happens to a file right after it has been found."""

    def find(cluster, aside, listed=jobstats.find):
        for found in listed(cluster, aside):
            path.unlink()
            change()
            yield found

    monkeypatch.setattr(jobstats, "find", find)


def test_a_file_that_turns_into_a_link_is_not_followed(site, monkeypatch):
    path = sites.write_raw(site.root, a_file())
    secret = site.root / "secret"
    secret.write_bytes(usage(3))
    between_listing_and_reading(monkeypatch, path, lambda: path.symlink_to(secret))
    result = night(site, [a_job()])
    assert (result.counts["raw files"], result.aside.counts) == (0, {"raw file": 1})
    assert archived(site.root) == []


def test_a_file_that_has_gone_is_nothing(site, monkeypatch):
    path = sites.write_raw(site.root, a_file())
    between_listing_and_reading(monkeypatch, path, lambda: None)
    result = night(site, [a_job()])
    assert (result.counts["raw files"], result.aside.total) == (0, 0)


def test_a_folder_that_is_not_there_stops_everything(site, capsys):
    sites.Night([a_job()], [a_file()]).fall(site.root, "day")
    load_slurm(site)
    before = sorted(site.root.rglob("*"))
    (site.root / "slurm" / "extended_uppmax_jobstats").rename(site.root / "away")
    with pytest.raises(SystemExit) as stopped:
        main(["-c", str(site.root / "jobeff.toml"), "--workers", "0", "collect"])
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "slurm/extended_uppmax_jobstats: No such file or directory" in error
    (site.root / "away").rename(site.root / "slurm" / "extended_uppmax_jobstats")
    assert sorted(site.root.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_file_or_folder_that_cannot_be_read_is_set_aside(site):
    path = sites.write_raw(site.root, a_file(1))
    path.chmod(0)
    sites.write_raw(site.root, a_file(2, "n2")).parent.chmod(0)
    try:
        result = night(site, [a_job(1), a_job(2, nodes=("n2",)), a_job(3)], [a_file(3)])
    finally:
        (site.root / "slurm" / "uppmax_jobstats" / "n2").chmod(0o750)
    assert result.aside.counts == {"raw file": 1, "folder": 1}
    assert [frame[2] for frame in archived(site.root)] == [3]


def test_a_lost_index_is_made_again_from_the_archive(site):
    """However many months lie in the archive: the raw files of all of them may still be there."""
    jobs = [a_job(i, START + i * 31 * DAY) for i in range(1, 8)]
    files = [a_file(job.job_id, text=usage(3, first=job.start)) for job in jobs]
    night(site, jobs, files)
    before = archived(site.root)
    assert len({month for month, *_ in before}) == 7
    (site.root / "db" / "collected.sqlite").unlink()
    assert collect(site).counts["raw files"] == 0
    assert archived(site.root) == before


def extended_usage(rows, first=START, late=0):
    """As `usage`, in the other form; written some seconds later."""
    lines = usage(rows, first=first).decode().splitlines()[1:]
    cells = [line.split() for line in lines]
    times = [int(row[1]) + late for row in cells]
    rows_of = [f"{local_time(t)} {t} 8.0 1.0 2.0 0.0 1 1 {row[-1]}" for t, row in zip(times, cells, strict=True)]
    return "\n".join([EXTENDED, *rows_of, ""]).encode()


@pytest.mark.parametrize("headless", [False, True])
@pytest.mark.parametrize("late", [0, 2])
@pytest.mark.parametrize("extended_first", [False, True])
def test_a_lost_index_does_not_take_the_other_form_of_a_file_too(site, extended_first, late, headless):
    """It came after its job's end had been seen, so a run that has the index does not look at it."""
    plain, extended = usage(3), extended_usage(3, late=late)
    if headless:
        plain, extended = (text.partition(b"\n")[2] for text in (plain, extended))
    files = [a_file(text=plain), a_file(text=extended, extended=True)]
    first, second = files[::-1] if extended_first else files
    night(site, [a_job()], [first])
    before = archived(site.root)
    (site.root / "slurm" / ("extended_uppmax_jobstats" if extended_first else "uppmax_jobstats") / "n1" / "1").unlink()
    sites.write_raw(site.root, second)
    assert collect(site).counts["raw files"] == 0
    for _ in range(2):  # and again, with an index that says so
        tables.database(site.root, "collected").unlink(missing_ok=not extended_first)
        assert collect(site).counts["raw files"] == 0
        assert archived(site.root) == before


@pytest.mark.parametrize("clock", [b"", f"{local_time(2**33)} {2**40} 8.0 1.0 0.0 50.0\n".encode()])
def test_the_other_form_is_taken_where_it_has_more(site, clock):
    """One sample more is enough, and a time that cannot be true does not hide it."""
    night(site, [a_job()], [a_file(text=usage(3) + clock)])
    tables.database(site.root, "collected").unlink()
    more = extended_usage(4, late=-1) + clock.replace(b" 1.0 0.0 ", b" 1.0 2.0 0.0 1 1 ")
    assert night(site, [], [a_file(text=more, extended=True)]).counts["raw files"] == 1
    assert [text for *_, text in archived(site.root)] == [usage(3) + clock, more]


def test_a_file_of_the_same_form_with_another_text_is_taken(site):
    """Its last row may have been cut when it was taken first, and still look whole."""
    torn = usage(3)[:-2]
    night(site, [a_job()], [a_file(text=torn)])
    tables.database(site.root, "collected").unlink()
    assert night(site, [], [a_file()]).counts["raw files"] == 1


def test_the_index_does_not_grow_for_ever(site):
    """A month whose raw files have been purged is dropped from it once it is old."""
    jobs = [a_job(i, START + i * 31 * DAY) for i in range(1, 8)]
    files = [a_file(job.job_id, text=usage(3, first=job.start)) for job in jobs]
    night(site, jobs, files)
    for file in files[:3]:
        (site.root / "slurm" / "uppmax_jobstats" / "n1" / str(file.job_id)).unlink()
    collect(site)
    index = tables.database(site.root, "collected")
    assert [row[1] for row in dump(index, "indexed")] == ["2021-10", "2021-11", "2021-12", "2022-01"]
    assert len(dump(index, "frames")) == 4


@pytest.mark.parametrize("torn", [b"", b"==> c1/n1/9 bytes=99 crc32=00000000 <==\nx"])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_late_file_joins_its_month(site, torn, old, compressed):
    """`old`: the month is no longer in the index. `torn`: what a run that died has left there."""
    job, late = a_job(1), a_job(2)
    later = [a_job(9 + i, START + i * 31 * DAY) for i in range(1, 6)] if old else []
    sites.Night([job, *later], [a_file(1), *(a_file(j.job_id, text=usage(3, first=j.start)) for j in later)]).fall(
        site.root, "day"
    )
    update(site)
    for path in (site.root / "slurm" / "uppmax_jobstats").glob("*/*"):
        path.unlink()
    collect(site)
    month = archive.month_file(site.root, "c1", "2021-06")
    whole = month.read_bytes()
    month.write_bytes(whole + torn)
    if compressed:
        month.with_name("2021-06.txt.zst").write_bytes(zstandard.compress(month.read_bytes()))
        month.unlink()
    sites.Night([late], [a_file(2, text=usage(3, 30.0))]).fall(site.root, "late")
    update(site)
    assert [frame[1:3] for frame in archived(site.root) if frame[0] == "2021-06"] == [("n1", 1), ("n1", 2)]
    assert not month.with_name("2021-06.txt.zst").exists()
    rows = efficiency(site.root)
    assert (rows["c1", 1, START]["cpu_mean"], rows["c1", 2, START]["cpu_mean"]) == (50, 30)
    assert sum(result.aside.total for result in update(site)) == 0


def test_a_run_killed_while_it_appends_leaves_nothing_behind(site, monkeypatch):
    """Unlike damage, which is kept and told: the raw file is still where it was."""
    night(site, [a_job(1)], [a_file(1)])
    sites.Night([a_job(2)], [a_file(2)]).fall(site.root, "later")
    load_slurm(site)

    def killed():
        def half(handle, mode, *rest, fdopen=os.fdopen, **options):
            if mode == "ab":
                os.write(handle, b"==> c1/n1/2 bytes=169 crc32=00000000 <==\nLOCAL")
                os._exit(9)
            return fdopen(handle, mode, *rest, **options)

        monkeypatch.setattr(os, "fdopen", half)
        collect(site)

    assert in_a_copy(killed) == 9
    result = collect(site)
    assert (result.counts["raw files"], result.aside.total) == (1, 0)
    assert [frame[2] for frame in archived(site.root)] == [1, 2]
    assert {path.name for path in (site.root / "archive" / "c1").iterdir()} == {"2021-06.txt", ".2021-06.headers"}


def test_an_unusable_compressed_month_does_not_stop_the_others(site):
    night(site, [a_job(1)], [a_file(1)])
    bad = archive.month_file(site.root, "c1", "2021-05").with_suffix(".txt.gz")
    bad.write_bytes(b"x" * 50)
    result = night(site, [a_job(2)], [a_file(2)], "later")
    assert result.counts["raw files"] == 1
    assert str(bad) in str(result.aside.examples)


def test_accounting_must_have_been_loaded(site):
    sites.write_raw(site.root, a_file())
    with pytest.raises(JobeffError, match="there is no accounting database yet"):
        collect(site)
    assert archived(site.root) == []


def test_the_index_says_what_the_archive_holds(site):
    night(site, [a_job(1), a_job(2)], [a_file(1), a_file(2, text=b"no row")])
    with contextlib.closing(sqlite3.connect(tables.database(site.root, "collected"))) as connection:
        rows = connection.execute("select job_id, bytes, first, last, known_end from frames order by job_id").fetchall()
    assert rows == [(1, len(usage(3)), START + 60, START + 660, a_job().end), (2, 6, None, None, a_job().end)]


@pytest.mark.parametrize("same", [True, False])
def test_a_compressed_month_beside_a_plain_one_is_a_copy_or_named(site, same):
    """A run that made a month plain again may have died before it removed the compressed one."""
    night(site, [a_job(1)], [a_file(1)])
    month = archive.month_file(site.root, "c1", "2021-06")
    compressed = month.with_name("2021-06.txt.zst")
    compressed.write_bytes(zstandard.compress(month.read_bytes() if same else b"==> c1/n1/5 <==\nx\n"))
    aside = collect(site).aside
    assert (compressed.exists(), aside.total) == (not same, int(not same))
    assert same or str(compressed) in str(aside.examples)


def test_whole_frames_of_a_run_that_died_are_kept(site):
    """It died when they were durable and before it had said so."""
    night(site, [a_job(1), a_job(2)], [a_file(1), a_file(2)])
    month = archive.month_file(site.root, "c1", "2021-06")
    whole = month.read_bytes()
    month.with_name(f".{month.name}.appending").write_text(str(whole.index(b"==> c1/n1/2")))
    assert collect(site).counts["raw files"] == 0
    assert month.read_bytes() == whole
    assert {*month.parent.iterdir()} == {month, header_sums.beside(month)}


@pytest.mark.parametrize("fails", ["open", "scandir", "fdopen"])
def test_what_the_disk_cannot_read_is_named_and_taken_later(site, monkeypatch, fails):
    path = sites.write_raw(site.root, a_file(1))
    damaged = path.parent if fails == "scandir" else path
    whole = getattr(os, fails)

    class Broken(io.FileIO):
        def read(self, *_):
            raise OSError(errno.EIO, "Input/output error")

    def call(given, *rest, **more):
        if fails == "fdopen":
            return (Broken if os.path.samestat(os.fstat(given), damaged.stat()) else whole)(given, *rest, **more)
        if str(given) == str(damaged):
            raise OSError(errno.EIO, "Input/output error")
        return whole(given, *rest, **more)

    jobs = [a_job(1), a_job(2, nodes=("n2",))]
    with monkeypatch.context() as patch:
        patch.setattr(os, fails, call)
        result = night(site, jobs, [a_file(2, "n2")])
    kind = "folder" if fails == "scandir" else "raw file"
    assert result.aside.examples == [(kind, str(damaged), "Input/output error")]
    assert [frame[2] for frame in archived(site.root)] == [2]
    assert night(site).counts["raw files"] == 1
