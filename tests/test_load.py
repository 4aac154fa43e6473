"""load slurm: each line of each log once, whatever happens to the logs."""

import contextlib
import json
import os
import shutil
import sqlite3

import naive
import pytest
import sites
from conftest import dump
from test_accounting_forms import JOB, as_jobcomp, told_in_json
from test_chain import MONTH_END

from jobeff.errors import ConfigError, JobeffError, SourceError
from jobeff.steps.load import load_slurm
from jobeff.store import tables

START = MONTH_END
HEADER = "JobID|Cluster|Partition|Account|User|Start|End|State|NCPUS|NodeList|JobName\n"


@pytest.fixture
def site(tmp_path):
    return sites.make(tmp_path)


def line(job_id, end=START + 600, user="u", start=START):
    return sites.accounting_line(naive.Job("c1", job_id, "p", user, start, end, 1, "COMPLETED", ("n1",)))


def record(job_id, end="2021-06-01T10:00:00", name="x"):
    return f"{job_id}|c1|core|p|u|2021-06-01T09:00:00|{end}|COMPLETED|4|n[1-2]|{name}\n"


def log(site, text, name="day"):
    path = site.root / "slurm" / "accounting" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def loaded(site, **options):
    """What a load has counted, without what is 0."""
    result = load_slurm(site, **options)
    return {what: number for what, number in result.counts.items() if number}, result.aside


def rows(site, *columns):
    """Rows of the accounting database."""
    with contextlib.closing(sqlite3.connect(tables.database(site.root, "accounting"))) as connection:
        return connection.execute(f"select {', '.join(columns)} from jobs order by cluster, job_id, start").fetchall()


def test_a_log_loaded_twice_adds_nothing(site):
    log(site, line(1) + line(2))
    assert loaded(site)[0] == {"lines": 2, "new": 2}
    before = dump(tables.database(site.root, "accounting"))
    assert loaded(site)[0] == {"logs unchanged": 1}
    assert dump(tables.database(site.root, "accounting")) == before


def test_of_a_grown_log_the_new_part_is_loaded(site):
    log(site, line(1))
    loaded(site)
    log(site, line(1) + line(2) + line(3))
    assert loaded(site)[0] == {"lines": 2, "new": 2}
    assert rows(site, "job_id") == [(1,), (2,), (3,)]


@pytest.mark.parametrize("header", [HEADER, ""])
def test_of_a_grown_sacct_log_the_new_part_is_read_by_its_header(site, header):
    """The header stands in the part that is not read again."""
    columns = HEADER if header else None
    first, second = record(1), record(2, name="a|b")
    if columns is None:
        first, second = (sacct_26(i, name) for i, name in ((1, "x"), (2, "a|b")))
    log(site, header + first)
    loaded(site)
    log(site, header + first + second)
    assert loaded(site)[0] == {"lines": 1, "new": 1}
    assert rows(site, "job_id", "nodes", "jobname") == [(1, "n1,n2", "x"), (2, "n1,n2", "a|b")]


def test_of_a_grown_log_that_begins_with_a_mark_the_new_part_is_loaded(site):
    log(site, "\ufeff" + HEADER + record(1))
    loaded(site)
    log(site, "\ufeff" + HEADER + record(1) + record(2))
    assert loaded(site)[0] == {"lines": 1, "new": 1}
    assert rows(site, "job_id", "nodes", "jobname") == [(1, "n1,n2", "x"), (2, "n1,n2", "x")]


def sacct_26(job_id, name):
    """A record as FORMATS has sacct asked for."""
    times = "2021-06-01T08:00:00|2021-06-01T08:00:00|2021-06-01T09:00:00|2021-06-01T10:00:00"
    return (
        f"{job_id}|{job_id}|c1|core|normal|p|g|1|u|1|{times}|01:00:00|0:0|COMPLETED|2|4|4|||x|01:00:00|n[1-2]|{name}\n"
    )


@pytest.mark.parametrize("cut", range(1, 200, 7))
def test_a_line_still_being_written_is_right_in_the_end(site, cut):
    whole = line(1) + line(2)
    written = whole[: len(line(1)) + min(cut, len(line(2)) - 1)]
    log(site, written)
    loaded(site)
    assert (1,) in rows(site, "job_id")
    log(site, whole + line(3))
    counts, aside = loaded(site)
    assert (counts["lines"], aside.total) == (2, 0)
    assert dump(tables.database(site.root, "accounting")) == once(site, whole + line(3))


def once(site, text):
    """The database of a site that has seen the log as it is now, only."""
    other = sites.make(site.root / "other")
    log(other, text)
    loaded(other)
    return dump(tables.database(other.root, "accounting"))


@pytest.mark.parametrize("now", [line(9) + line(2), line(1), ""], ids=["changed", "cut", "empty"])
def test_a_rewritten_log_is_refused(site, now):
    log(site, line(1) + line(2))
    loaded(site)
    before = dump(tables.database(site.root, "accounting"))
    path = log(site, now)
    counts, aside = loaded(site)
    assert counts == {}
    assert [(kind, where) for kind, where, _ in aside.examples] == [("accounting log", str(path))]
    assert "--replace" in aside.examples[0][2]
    assert dump(tables.database(site.root, "accounting")) == before


def test_a_rewritten_log_is_taken_when_told_to(site):
    log(site, line(1, user="old") + line(2))
    loaded(site)
    log(site, line(1, START + 300, user="new") + line(2) + line(3))
    assert loaded(site, replace=True)[0] == {"lines": 3, "new": 1, "changed": 1, "unchanged": 1}
    assert rows(site, "job_id", "user", "end")[0] == (1, "new", START + 300)
    assert loaded(site)[0] == {"logs unchanged": 1}


def test_a_log_under_another_name_adds_nothing(site):
    path = log(site, line(1) + line(2))
    loaded(site)
    path.rename(path.with_name("renamed"))
    assert loaded(site)[0] == {"lines": 2, "unchanged": 2}
    assert len(rows(site, "job_id")) == 2


@pytest.mark.parametrize("ends", [(600, 900), (900, 600)])
@pytest.mark.parametrize("nights", [1, 2])
def test_of_two_records_of_a_job_the_later_end_counts(site, ends, nights):
    """A node failure may be logged, then the real end: in whatever order the logs are loaded."""
    first, second = (line(1, START + end, f"u{end}") for end in ends)
    if nights == 1:
        log(site, first + second)
    else:
        log(site, first, "day-1")
        loaded(site)
        log(site, second, "day-2")
    loaded(site)
    assert rows(site, "end", "user") == [(START + 900, "u900")]


@pytest.mark.parametrize("users", [("a", "b"), ("b", "a")])
def test_of_two_records_that_end_together_the_same_counts_in_any_order(site, users):
    for day, user in enumerate(users):
        log(site, line(1, user=user), f"day-{day}")
        loaded(site)
    assert rows(site, "user") == [("b",)]


def test_a_job_that_starts_again_is_a_row_of_its_own(site):
    log(site, line(1) + line(1, START + 9000, start=START + 8000))
    loaded(site)
    assert rows(site, "job_id", "start") == [(1, START), (1, START + 8000)]


def test_a_folder_below_the_accounting_is_a_virtual_cluster(site):
    log(site, line(1))
    log(site, line(1), "proj/day")
    log(site, line(1), ".hidden/day")
    loaded(site)
    assert rows(site, "cluster", "job_id") == [("c1", 1), ("c1.proj", 1)]


@pytest.mark.parametrize("name", ["a b", "\x1b[31m", "x" * 63])
def test_a_folder_that_cannot_name_a_virtual_cluster_is_set_aside(site, name):
    log(site, line(1))
    log(site, line(2), f"{name}/day")
    counts, aside = loaded(site)
    assert counts == {"lines": 1, "new": 1}
    assert aside.total == 1


def test_what_is_no_record_is_set_aside_by_its_line(site):
    path = log(site, line(1) + "\n" + "nonsense\n" + line(2))
    counts, aside = loaded(site)
    assert counts == {"lines": 3, "new": 2}
    assert [where for _, where, _ in aside.examples] == [f"{path}:3"]
    log(site, path.read_text() + line(3) + "more nonsense\n")
    assert [where for _, where, _ in loaded(site)[1].examples] == [f"{path}:6"]


def test_files_are_loaded_by_name(site, tmp_path):
    path = tmp_path / "some.log"
    path.write_text(line(7))
    assert loaded(site, files=[path])[0] == {"lines": 1, "new": 1}
    assert rows(site, "cluster", "job_id") == [("c1", 7)]
    assert loaded(site, files=[path], cluster="c1.proj")[0] == {"lines": 1, "new": 1}
    assert loaded(site, files=[path], cluster="c1.proj")[0] == {"logs unchanged": 1}
    with pytest.raises(ConfigError, match=r"there is no cluster c2. Nothing was loaded. Known are c1"):
        loaded(site, files=[path], cluster="c2")
    assert rows(site, "cluster") == [("c1",), ("c1.proj",)]


def test_with_two_clusters_the_cluster_of_files_must_be_said(site, tmp_path):
    config = site.root / "jobeff.toml"
    config.write_text(config.read_text() + "[clusters.c2]\n")
    two = sites.Site(sites.config(site.root))
    path = tmp_path / "some.log"
    path.write_text(line(7))
    with pytest.raises(ConfigError, match=r"--cluster c1\|c2"):
        load_slurm(two, [path])
    with pytest.raises(ConfigError, match="not a cluster"):
        load_slurm(two, [path], "../x")
    load_slurm(two, [path], "c2")
    assert rows(site, "cluster") == [("c2",)]


def test_accounting_that_is_not_there_loads_nothing(site, tmp_path):
    log(site, line(1))
    with pytest.raises(JobeffError, match="no such file"):
        load_slurm(site, [site.root / "slurm" / "accounting" / "day", tmp_path / "missing"])
    assert not tables.database(site.root, "accounting").exists()
    shutil.rmtree(site.root / "slurm" / "accounting")
    with pytest.raises(JobeffError, match="slurm/accounting"):
        load_slurm(site)


CONFIG_OF_TWO = """
[clusters.c1]
accounting = ["slurm/accounting", "slurm/missing"]
[clusters.c2]
accounting = "slurm/away"
"""


def two(site):
    (site.root / "jobeff.toml").write_text(CONFIG_OF_TWO)
    return sites.Site(sites.config(site.root))


def test_a_source_that_is_missing_does_not_stop_the_others(site):
    log(site, line(1))
    counts, aside = loaded(two(site))
    assert counts == {"lines": 1, "new": 1}
    assert [(kind, where.rpartition("/")[2]) for kind, where, _ in aside.examples] == [
        ("source", "missing"),
        ("source", "away"),
    ]
    assert "no such file or folder" in aside.examples[0][2]


def test_where_no_source_works_nothing_is_loaded(site):
    shutil.rmtree(site.root / "slurm" / "accounting")
    with pytest.raises(SourceError, match="slurm/accounting"):
        load_slurm(two(site))
    assert not tables.database(site.root, "accounting").exists()


def test_a_log_that_cannot_be_read_is_set_aside(site, monkeypatch):
    log(site, line(1), "day-1")
    bad = log(site, line(2), "day-2")
    log(site, line(3), "day-3")
    opened = type(bad).open

    def refuse(path, *args, **options):
        if path.name == bad.name:
            raise OSError(5, "Input/output error")
        return opened(path, *args, **options)

    monkeypatch.setattr(type(bad), "open", refuse)
    counts, aside = loaded(site)
    assert counts == {"lines": 2, "new": 2}
    assert [(kind, where) for kind, where, _ in aside.examples] == [("source", str(bad))]
    with pytest.raises(SourceError, match="Input/output error"):
        load_slurm(site, [bad])
    monkeypatch.undo()
    assert loaded(site)[0] == {"lines": 1, "new": 1, "logs unchanged": 2}


def test_the_name_of_a_log_is_escaped(site):
    log(site, "nonsense\n", "\x1b[31mday")
    assert [where.rpartition("/")[2] for _, where, _ in loaded(site)[1].examples] == ["\\x1b[31mday:1"]


def document(*jobs):
    return json.dumps({"jobs": [told_in_json(job) for job in jobs]}, indent=1)


def test_a_json_document_is_loaded_whenever_it_is_another_one(site):
    first, second = JOB, JOB._replace(job_id=8)
    path = log(site, document(first), "day.json")
    assert loaded(site)[0] == {"lines": 2, "steps": 1, "new": 1}
    assert loaded(site)[0] == {"logs unchanged": 1}
    os.utime(path)
    assert loaded(site)[0] == {"logs unchanged": 1}
    log(site, document(first, second), "day.json")
    assert loaded(site)[0] == {"lines": 4, "steps": 2, "new": 1, "unchanged": 1}
    log(site, document(second._replace(end=second.end + 9, jobstate="FAILED")), "day.json")
    assert loaded(site)[0] == {"lines": 2, "steps": 1, "changed": 1}
    assert rows(site, "job_id", "jobstate") == [(7, "COMPLETED"), (8, "FAILED")]
    assert loaded(site, replace=True)[0] == {"lines": 2, "steps": 1, "unchanged": 1}


def test_a_json_document_still_being_written_is_whole_in_the_end(site):
    text = document(JOB, JOB._replace(job_id=8))
    log(site, text[:-200], "day.json")
    counts, aside = loaded(site)
    assert (counts["new"], aside.total) == (1, 1)
    log(site, text, "day.json")
    counts, aside = loaded(site)
    assert (counts["new"], counts["unchanged"], aside.total) == (1, 1, 0)


def test_of_a_grown_jobcomp_log_the_new_part_is_loaded(site):
    first, second = as_jobcomp(JOB).decode(), as_jobcomp(JOB._replace(job_id=8)).decode()
    log(site, first)
    loaded(site)
    log(site, first + second)
    assert loaded(site)[0] == {"lines": 1, "new": 1}


@pytest.mark.parametrize(("fmt", "new"), [("auto", 1), ("sacct-json", 1), ("jobcomp", 0), ("site", 0)])
def test_the_format_may_be_given(site, fmt, new):
    text = '[clusters.c1]\naccounting = "slurm/accounting"\naccounting_format = "%s"\n'
    (site.root / "jobeff.toml").write_text(text % fmt)
    log(site, document(JOB), "day")
    log(site, document(JOB._replace(job_id=8)), "proj/day")
    assert loaded(sites.Site(sites.config(site.root)))[0].get("new", 0) == 2 * new


def test_real_days(site, shared_data):
    """Every line of three days of a real cluster, by the count of its own folder's README."""
    for path in (shared_data / "accounting").glob("rackham_20*"):
        shutil.copy(path, site.root / "slurm" / "accounting")
    counts, aside = loaded(site)
    assert (counts["lines"], aside.total) == (47_372, 0)
    first = dump(tables.database(site.root, "accounting"))
    assert counts["new"] == len(first)
    for path in (site.root / "slurm" / "accounting").iterdir():
        path.rename(path.with_name(f"{path.name}-again"))
    counts, aside = loaded(site)
    assert (counts["lines"], counts["unchanged"], "new" in counts, aside.total) == (47_372, len(first), False, 0)
    assert dump(tables.database(site.root, "accounting")) == first
