"""Asking sacct, day by day: a script in its place says what the tests want, and notes how it was asked."""

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, date, datetime

import pytest
import sites
from conftest import dump
from test_accounting_forms import JOB, as_sacct, as_site

from jobeff.errors import ConfigError, SourceError
from jobeff.sources import ask_sacct
from jobeff.steps import load_sacct
from jobeff.steps.load import load_slurm
from jobeff.steps.load_sacct import Asking
from jobeff.store import tables

CONFIG = "[clusters.demo]\nsacct = true\n"
TODAY = date(2021, 6, 3)
SINCE = Asking(date(2021, 6, 1), 0)
# A record's columns are parted by @; `<day>.sh` says what else happens on a day.
SCRIPT = """#!/bin/sh
here=$(dirname "$0")
env > "$here/env"
for word; do
    case $word in --delimiter=*) delimiter=${word#*=};; --clusters=*) of=${word#*=};; esac
done
while [ $# -gt 0 ]; do [ "$1" = -S ] && day=${2%T*} && echo "$of $2 $4" >> "$here/calls"; shift; done
[ -f "$here/$of.$day" ] && sed "s/@/$delimiter/g" "$here/$of.$day"
[ -f "$here/$day.sh" ] && . "$here/$day.sh"
exit 0
"""


class Fake:
    """A sacct that says what it is told to."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        (folder / "sacct").write_text(SCRIPT)
        (folder / "sacct").chmod(0o755)

    def says(self, day, *jobs, cluster="demo", then=""):
        text = b"".join(job if isinstance(job, bytes) else as_sacct(job, "@") for job in jobs)
        (self.folder / f"{cluster}.{day}").write_bytes(text)
        (self.folder / f"{day}.sh").write_text(then)

    def asked(self):
        """Days asked for since the last time."""
        calls = self.folder / "calls"
        days = [line.split()[1][:10] for line in calls.read_text().splitlines()] if calls.exists() else []
        calls.unlink(missing_ok=True)
        return days


@pytest.fixture
def fake(tmp_path, monkeypatch):
    found = Fake(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{found.folder}:/usr/bin:/bin")
    monkeypatch.setattr(load_sacct, "today", lambda: TODAY)
    return found


@pytest.fixture
def site(tmp_path, fake):  # noqa: ARG001  (today is patched first)
    (tmp_path / "jobeff.toml").write_text(CONFIG)
    return sites.Site(sites.config(tmp_path))


def job(job_id, day=1, **changes):
    epoch = 1622505600 + (day - 1) * 86_400 + 3600
    return JOB._replace(job_id=job_id, submit=epoch, start=epoch, end=epoch + 60, **changes)


def loaded(site, asking=None, **options):
    result = load_slurm(site, asking=asking, **options)
    return {what: number for what, number in result.counts.items() if number}, result.aside


def rows(site, query="select job_id from jobs order by job_id"):
    with contextlib.closing(sqlite3.connect(tables.database(site.root, "accounting"))) as connection:
        return connection.execute(query).fetchall()


def test_the_first_time_a_day_must_be_said(site, fake):
    with pytest.raises(SourceError, match="--sacct --since YYYY-MM-DD"):
        load_slurm(site)
    assert fake.asked() == []


@pytest.mark.parametrize("since", [date(2021, 6, 4), date(1999, 12, 31)])
def test_a_day_that_cannot_be_is_refused(site, since):
    with pytest.raises(ConfigError, match="is not a day from 2000-01-01 to today"):
        load_slurm(site, asking=Asking(since, 0))


def test_day_by_day_then_from_where_it_stopped(site, fake):
    fake.says("2021-06-01", job(1))
    fake.says("2021-06-02", job(2, 2))
    fake.says("2021-06-03", job(3, 3))
    assert loaded(site, SINCE)[0] == {"lines": 3, "new": 3, "days asked": 3}
    assert fake.asked() == ["2021-06-01", "2021-06-02", "2021-06-03"]
    assert rows(site, "select * from asked") == [("demo", "2021-06-01", "2021-06-02")]
    fake.says("2021-06-03", job(3, 3), job(4, 3))
    assert loaded(site)[0] == {"lines": 3, "new": 1, "unchanged": 2, "days asked": 2}
    assert fake.asked() == ["2021-06-02", "2021-06-03"]  # a day again, and the one that goes on
    assert rows(site) == [(1,), (2,), (3,), (4,)]


def test_how_sacct_is_asked(site, fake, monkeypatch):
    for name in ("SLURM_TIME_FORMAT", "SACCT_FORMAT", "LC_TIME", "TZ"):
        monkeypatch.setenv(name, "relative")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/x.conf")
    fake.says("2021-06-03", job(1, 3))
    load_slurm(site, asking=Asking(TODAY, 0))
    env = dict(line.split("=", 1) for line in (fake.folder / "env").read_text().splitlines() if "=" in line)
    assert (env["TZ"], env["LC_ALL"], env["SLURM_CONF"]) == ("UTC", "C", "/etc/slurm/x.conf")
    assert not {"SLURM_TIME_FORMAT", "SACCT_FORMAT", "LC_TIME"} & set(env)
    assert (fake.folder / "calls").read_text() == "demo 2021-06-03T00:00:00 2021-06-04T00:00:00\n"


def test_a_running_job_is_taken_on_the_day_it_ends(site, fake):
    running = as_sacct(job(1), "@").replace(b"COMPLETED", b"RUNNING").replace(b"2021-06-01T01:01:00", b"Unknown")
    fake.says("2021-06-01", running)
    fake.says("2021-06-02", job(1, 2))
    assert loaded(site, SINCE)[0] == {"lines": 2, "new": 1, "running": 1, "days asked": 3}


FAILURES = {
    "exit": ("exit 1", "exit status 1"),
    "told": (
        "echo 'sacct: error: slurm_persist_conn_open: refused' >&2; exit 1",
        "it said sacct: error: slurm_persist",
    ),
    "told and 0": ("echo 'sacct: error: Problem talking to the database' >&2", "Problem talking"),
    "escape": ("printf 'sacct: error: \\033[31m' >&2", "x1b"),
    "cut": ("printf '9|9|demo'", "ends within a line"),
    "killed": ("kill -9 $$", "exit status -9"),
}


@pytest.mark.parametrize("then", FAILURES)
def test_a_day_that_fails_is_not_done(site, fake, then):
    what, why = FAILURES[then]
    fake.says("2021-06-01", job(1))
    fake.says("2021-06-02", job(2, 2), then=what)
    fake.says("2021-06-03", job(3, 3))
    with pytest.raises(SourceError) as error:
        load_slurm(site, asking=SINCE)
    assert why in str(error.value)
    assert str(error.value).isprintable()
    assert rows(site) == [(1,)]
    assert rows(site, "select * from asked") == [("demo", "2021-06-01", "2021-06-01")]
    fake.says("2021-06-02", job(2, 2))
    fake.asked()
    load_slurm(site)
    assert fake.asked() == ["2021-06-01", "2021-06-02", "2021-06-03"]
    assert rows(site) == [(1,), (2,), (3,)]


def test_an_answer_that_does_not_come_is_given_up(site, fake, monkeypatch):
    """Also where sacct is a script that has started the real one."""
    monkeypatch.setattr(ask_sacct, "TIMEOUT_S", 0.3)
    fake.says("2021-06-01", job(1), then="sleep 60")
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"did not answer within 0\.3 s"):
        load_slurm(site, asking=SINCE)
    assert time.monotonic() - began < 5


def alive(group):
    """Processes of a group that have not ended."""
    states = subprocess.run(["ps", "-e", "-o", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    told = (line.split() for line in states.splitlines())
    return [state for found, state in told if int(found) == group and not state.startswith("Z")]


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_stop_leaves_no_sacct_behind(site, fake, how, status):
    today = datetime.now(UTC).date().isoformat()
    fake.says(today, job(1), then='echo $$ > "$here/pid"; sleep 60; true')
    words = ["load", "slurm", "--sacct", "--since", today]
    command = [sys.executable, "-m", "jobeff", "-c", str(site.root / "jobeff.toml"), *words]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        pid = fake.folder / "pid"
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.05)
        process.send_signal(how)
        assert process.wait(5) == status
    for _ in range(100):
        if not alive(int(pid.read_text())):
            return
        time.sleep(0.05)
    raise AssertionError("sacct goes on")


def test_where_there_is_no_sacct(site, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match=r"no such program on \$PATH"):
        load_slurm(site, asking=SINCE)


def test_a_run_that_is_stopped_loses_no_day(site, fake, monkeypatch):
    for day in (1, 2, 3):
        fake.says(f"2021-06-0{day}", job(day, day))
    written = load_sacct._write

    def stop(connection, cluster, asked):
        written(connection, cluster, asked)
        if asked.complete == date(2021, 6, 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(load_sacct, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
        load_slurm(site, asking=SINCE)
    assert rows(site) == [(1,)]
    monkeypatch.setattr(load_sacct, "_write", written)
    load_slurm(site)
    assert rows(site) == [(1,), (2,), (3,)]


def test_an_earlier_day_asks_all_again_and_a_later_one_leaves_no_gap(site, fake):
    fake.says("2021-06-01", job(1))
    load_slurm(site, asking=SINCE)
    fake.asked()
    load_slurm(site, asking=Asking(TODAY, 0))
    assert fake.asked() == ["2021-06-02", "2021-06-03"]
    fake.says("2021-05-31", job(9, 0))
    load_slurm(site, asking=Asking(date(2021, 5, 31), 0))
    assert fake.asked() == ["2021-05-31", "2021-06-01", "2021-06-02", "2021-06-03"]
    assert rows(site, "select * from asked") == [("demo", "2021-05-31", "2021-06-02")]


@pytest.mark.parametrize(("overlap", "days"), [(0, 1), (1, 2), (2, 3), (300, 3)])
def test_the_overlap_is_the_sites_to_choose(site, fake, overlap, days):
    (site.root / "jobeff.toml").write_text(f"{CONFIG}sacct_overlap_days = {overlap}\n")
    chosen = sites.Site(sites.config(site.root))
    fake.says("2021-06-01", job(1))
    load_slurm(chosen, asking=SINCE)
    fake.asked()
    load_slurm(chosen)
    assert len(fake.asked()) == days


def test_a_cluster_that_slurm_does_not_know_is_never_done(site, fake):
    """Of one that it does not know sacct says nothing, and that all is well."""
    for _ in range(2):
        with pytest.raises(SourceError, match="knows no job of cluster demo"):
            load_slurm(site, asking=SINCE)
        assert len(fake.asked()) == 3
    assert rows(site, "select * from asked") == []


def test_newlines_and_forged_records_in_names(site, fake):
    forged = as_sacct(job(99, user="eve"), "|").decode()
    names = ["a\nb", f"x\n{forged}", "\n", forged]
    fake.says("2021-06-01", *(job(n, jobname=name) for n, name in enumerate(names, 1)))
    assert loaded(site, SINCE)[1].total == 0
    assert rows(site, "select user, jobname from jobs order by job_id") == [("u1", name) for name in names]


def test_a_record_that_cannot_be_is_set_aside_by_its_day(site, fake):
    fake.says("2021-06-01", job(1), job(2, nodes="n["), b"3@3\n")
    counts, aside = loaded(site, SINCE)
    assert (counts["new"], aside.total) == (1, 2)
    assert [where for _, where, _ in aside.examples] == [
        "sacct of demo, 2021-06-01:2",
        "sacct of demo, 2021-06-01:3",
    ]


def test_other_sources_go_on_without_sacct(site, fake):
    logs = site.root / "logs"
    logs.mkdir()
    (logs / "day").write_bytes(as_site(job(1)))
    (site.root / "jobeff.toml").write_text(f'{CONFIG}[clusters.c1]\naccounting = "logs"\n[clusters.c2]\nsacct = true\n')
    three = sites.Site(sites.config(site.root))
    fake.says("2021-06-01", job(2, cluster="c2"), cluster="c2")
    counts, aside = loaded(three, SINCE, cluster="c2")
    assert (counts["new"], aside.total) == (1, 0)
    counts, aside = loaded(three)
    assert counts["new"] == 1
    assert [(kind, where) for kind, where, _ in aside.examples] == [("source", "demo")]
    assert rows(site, "select cluster, job_id from jobs order by job_id") == [("c1", 1), ("c2", 2)]
    with pytest.raises(ConfigError, match="no cluster"):
        load_slurm(three, cluster="x", asking=SINCE)


def test_between_two_days_it_waits(site, fake, monkeypatch):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    fake.says("2021-06-01", job(1))
    load_slurm(site, asking=Asking(date(2021, 6, 1), 2.5))
    assert waited == [2.5, 2.5]


def test_a_log_and_sacct_say_the_same_once(site, fake):
    (site.root / "day").write_bytes(as_sacct(job(1)))
    load_slurm(site, [site.root / "day"])
    before = dump(tables.database(site.root, "accounting"))
    fake.says("2021-06-01", job(1))
    assert loaded(site, SINCE)[0]["unchanged"] == 1
    assert dump(tables.database(site.root, "accounting")) == before


@pytest.mark.parametrize("words", [["--sacct", "day"], ["--sacct", "--replace"], ["--since", "2021-06-01"]])
def test_words_that_do_not_go_together(site, words):
    command = [sys.executable, "-m", "jobeff", "-c", str(site.root / "jobeff.toml"), "load", "slurm", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "goes with" in done.stderr) == (2, True)


def test_the_script_is_there(fake):
    assert shutil.which("sacct") == str(fake.folder / "sacct")
