"""compute: what has changed, and nothing else, is computed again."""

import math
import os
from datetime import datetime, timedelta

import naive
import pytest
import sites
from conftest import dump
from strategies import PLAIN, local_time
from test_chain import MONTH_END, assert_same, efficiency

from jobeff.steps import compute as step
from jobeff.steps import computing
from jobeff.steps.collect import collect
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.load import load_slurm
from jobeff.steps.rebuild import rebuild
from jobeff.steps.site import Site
from jobeff.steps.update import update
from jobeff.store import tables

START = MONTH_END
MONTH = 30 * 86_400


def usage(rows, *cores, first=START):
    """A raw file."""
    row = "8.0 1.25 0.0 " + " ".join(f"{core:.1f}" for core in cores or (50.0,))
    lines = [f"{local_time(t)} {t} {row}" for t in range(first, first + 300 * rows, 300)]
    return "\n".join([PLAIN, *lines, ""]).encode()


def a_job(job_id, start=START, length=900, nodes=("n1",), cluster="c1"):
    return naive.Job(cluster, job_id, "p", "u", start, start + length, 2, "COMPLETED", nodes)


def files_of(*jobs, rows=3):
    """A raw file on each node of each job."""
    return [
        naive.RawFile(job.cluster, node, job.job_id, usage(rows, job.job_id % 100, 5.0, first=job.start + 9))
        for job in jobs
        for node in job.nodes
    ]


def night(site, jobs=(), files=(), name="day"):
    """What comes to be seen; what compute has counted of it, without what is 0."""
    sites.Night(list(jobs), list(files)).fall(site.root, name)
    result = sites.result_of(update(site), "compute")
    assert result.aside.total == 0
    return {what: number for what, number in result.counts.items() if number}


@pytest.fixture
def site(tmp_path):
    return sites.make(tmp_path / "site")


def test_only_new_jobs_are_computed(site):
    first, second = [a_job(i) for i in range(1, 6)], [a_job(6), a_job(7, START - 86_400)]
    assert night(site, first, files_of(*first)) == {"jobs": 5}
    assert night(site) == {}
    assert night(site, second, files_of(*second), "later") == {"jobs": 2}
    assert_same(efficiency(site.root), naive.efficiency(first + second, files_of(*first, *second)))


def test_a_late_file_has_its_own_job_computed(site):
    jobs = [a_job(1, nodes=("n1", "n2")), a_job(2, nodes=("n1", "n2"))]
    files = files_of(*jobs)
    assert night(site, jobs, files[:3]) == {"jobs": 2}
    before = efficiency(site.root)
    assert night(site, [], files[3:]) == {"jobs": 1}
    after = efficiency(site.root)
    assert after["c1", 1, START] == before["c1", 1, START]
    assert (before["c1", 2, START]["nodes_seen"], after["c1", 2, START]["nodes_seen"]) == (1, 2)
    assert_same(after, naive.efficiency(jobs, files))


def test_a_new_attempt_takes_its_rows_from_one_in_an_older_month(site):
    """The file was written by both; until the second was known, its rows near the first were the first one's."""
    first, second = a_job(1, START - 1200, 1000), a_job(1, START - 100, 900)
    file = naive.RawFile("c1", "n1", 1, usage(7, 40.0, 0.0, first=START - 1191))
    other = a_job(2, START - 1200, 1000)
    assert night(site, [first, other], [file, *files_of(other)]) == {"jobs": 2}
    alone = efficiency(site.root)["c1", 1, first.start]
    assert night(site, [second], (), "later") == {"jobs": 2}
    both = efficiency(site.root)
    assert both["c1", 1, first.start]["counts"] < alone["counts"]
    assert_same(both, naive.efficiency([first, second, other], [file, *files_of(other)]))


def test_a_changed_record_changes_its_row(site):
    job = a_job(1)
    night(site, [job], files_of(job))
    longer = naive.Job("c1", 1, "other", "u", START, START + 3000, 4, "NODE_FAIL", ("n1", "n2"))
    assert night(site, [longer], (), "later") == {"jobs": 1}
    assert_same(efficiency(site.root), naive.efficiency([longer], files_of(job)))


@pytest.mark.parametrize("purged", [False, True])
def test_a_record_that_ends_in_another_month_takes_its_samples_along(site, purged):
    job = a_job(1, START - 1200, 1000)
    night(site, [job], files_of(job))
    if purged:
        for path in (site.root / "slurm" / "uppmax_jobstats").glob("*/*"):
            path.unlink()
    longer = a_job(1, START - 1200, 1500)
    assert night(site, [longer], (), "later") == {"jobs": 1}
    assert_same(efficiency(site.root), naive.efficiency([longer], files_of(job)))


def test_everything_anew_is_the_same(site):
    jobs = [a_job(i, START + MONTH * (i % 3), nodes=("n1", "n2")[: i % 2 + 1]) for i in range(1, 10)]
    night(site, jobs, files_of(*jobs))
    path = tables.database(site.root, "efficiency")
    before = dump(path), dump(path, "computed")
    assert compute(site, everything=True).counts["jobs"] == 9
    assert (dump(path), dump(path, "computed")) == before
    assert not list(path.parent.glob("*.new*"))


def test_everything_anew_forgets_what_accounting_does_not_know(site):
    """The database is made from the views below it alone."""
    night(site, [a_job(1)], files_of(a_job(1)))
    path = tables.database(site.root, "efficiency")
    connection = tables.open_database(path, "efficiency")
    connection.execute("update jobs set job_id = 9")
    connection.close()
    compute(site, everything=True)
    assert list(efficiency(site.root)) == [("c1", 1, START)]


def test_a_killed_computation_of_everything_is_done_again(site):
    night(site, [a_job(1)], files_of(a_job(1)))
    path = tables.database(site.root, "efficiency")
    path.with_name("efficiency.sqlite.new").write_bytes(path.read_bytes())
    connection = tables.open_database(path.with_name("efficiency.sqlite.new"), "efficiency")
    connection.execute("update jobs set cpu_mean = 99")
    connection.close()
    assert compute(site, everything=True).counts["jobs"] == 1
    assert_same(efficiency(site.root), naive.efficiency([a_job(1)], files_of(a_job(1))))


def test_what_a_killed_computation_of_everything_has_left_is_never_used(site):
    jobs = [a_job(1), a_job(2)]
    night(site, jobs[:1], files_of(jobs[0]))
    path = tables.database(site.root, "efficiency")
    path.with_name("efficiency.sqlite.new").write_bytes(path.read_bytes())
    assert night(site, jobs[1:], files_of(jobs[1]), "later") == {"jobs": 1}
    assert_same(efficiency(site.root), naive.efficiency(jobs, files_of(*jobs)))


@pytest.mark.parametrize("everything", [False, True])
def test_what_is_ingested_meanwhile_is_computed_next_time(site, monkeypatch, everything):
    """A shard that has grown since it was read is not held to be computed."""
    job = a_job(1, nodes=("n1", "n2"))
    files = files_of(job)
    night(site, [job], files[:1])
    sites.write_raw(site.root, files[1])
    sites.write_log(site.root, "later", [a_job(2)])
    load_slurm(site)
    collect(site)

    def and_ingest(*given):
        ingest(Site(site.config))
        return real(*given)

    real = computing.finish
    monkeypatch.setattr(computing, "finish", and_ingest)
    compute(site, everything)
    monkeypatch.undo()
    assert efficiency(site.root)["c1", 1, START]["nodes_seen"] == 1
    compute(site)
    assert_same(efficiency(site.root), naive.efficiency([job], files))


def test_jobs_without_samples_are_counted(site):
    never = naive.Job("c1", 5, "p", "u", START, START, 1, "CANCELLED", ())
    jobs = [a_job(1), a_job(2), a_job(3, length=299), a_job(4, length=300), never]
    assert night(site, jobs, files_of(jobs[0])) == {"jobs": 1, "no samples": 2, "too short": 1}
    assert night(site) == {}
    assert list(efficiency(site.root)) == [("c1", 1, START)]


def test_a_job_that_loses_its_samples_loses_its_row(site):
    """A record that says it ran elsewhere: the samples on its old node are not its own."""
    night(site, [a_job(1)], files_of(a_job(1)))
    assert night(site, [a_job(1, nodes=("n2",))], (), "later") == {"no samples": 1}
    assert efficiency(site.root) == {}


# Clusters


def two_clusters(root):
    """Two real clusters, of different intervals, with the same node names."""
    text = sites.CONFIG.replace('"slurm/', '"slurm/c1/')
    text += text[text.index("[clusters") :].replace("c1", "c2") + "interval = 600\n"
    for cluster in ("c1", "c2"):
        for folder in ("accounting", "extended_uppmax_jobstats", "uppmax_jobstats/n1"):
            (root / "slurm" / cluster / folder).mkdir(parents=True)
    (root / "jobeff.toml").write_text(text)
    return Site(sites.config(root))


def test_clusters_do_not_mix(tmp_path):
    site = two_clusters(tmp_path)
    jobs = [a_job(1, length=3000), a_job(1, length=3000, cluster="c2"), a_job(2, cluster="c2")]
    files = [
        naive.RawFile("c1", "n1", 1, usage(5, 10.0, 20.0)),
        naive.RawFile("c2", "n1", 1, usage(5, 30.0, 40.0)),
        naive.RawFile("c2", "n1", 2, usage(2, 1.0, 2.0)),
    ]
    for job in jobs:
        with (tmp_path / "slurm" / job.cluster / "accounting" / "day").open("a") as log:
            log.write(sites.accounting_line(job))
    for file in files:
        path = tmp_path / "slurm" / file.cluster / "uppmax_jobstats" / "n1" / str(file.job_id)
        path.write_bytes(file.text)
    assert sites.result_of(update(site), "compute").counts["jobs"] == 3
    expected = naive.efficiency(jobs[:1], files[:1]) | naive.efficiency(jobs[1:], files[1:], interval=600)
    assert_same(efficiency(tmp_path), expected)
    rebuild(site)
    assert_same(efficiency(tmp_path), expected)


def test_a_virtual_cluster_has_its_samples_from_the_one_it_is_part_of(site):
    real, virtual = a_job(1), a_job(2, cluster="c1.proj")
    (site.root / "slurm" / "accounting" / "proj").mkdir()
    sites.write_log(site.root, "proj/day", [virtual])
    files = [naive.RawFile("c1", "n1", i, usage(3, 10.0 * i, 0.0)) for i in (1, 2)]
    assert night(site, [real], files) == {"jobs": 2}
    expected = naive.efficiency([real], files) | naive.efficiency(
        [virtual], [naive.RawFile("c1.proj", "n1", 2, files[1].text)]
    )
    assert_same(efficiency(site.root), expected)
    rebuild(site)
    assert_same(efficiency(site.root), expected)
    later = naive.RawFile("c1", "n1", 3, usage(3, 30.0, 0.0))
    sites.write_log(site.root, "proj/later", [a_job(3, cluster="c1.proj")])
    assert night(site, [], [later]) == {"jobs": 1}
    assert efficiency(site.root)["c1.proj", 3, START]["cpu_mean"] == 15


def test_workers_compute_the_same(site, executors):
    jobs = [a_job(i, nodes=tuple(f"n{k}" for k in range(i % 4 + 1))) for i in range(1, 30)]
    night(site, jobs, files_of(*jobs))
    path = tables.database(site.root, "efficiency")
    before = dump(path)
    for workers in (1, 2):
        path.unlink()
        compute(Site(site.config, workers, _pool=executors[workers]))
        assert dump(path) == before
    assert all(math.isfinite(value) for row in before for value in row if isinstance(value, float))


def test_each_database_says_when_its_table_was_last_updated(site):
    night(site, [a_job(1)], files_of(a_job(1)))
    for name in ("accounting", "efficiency"):
        ((table, date, time),) = dump(tables.database(site.root, name), "last_updated")
        assert table == "jobs"
        assert abs(
            datetime.fromisoformat(f"{date} {time}") - datetime.now(site.config.clock.zone).replace(tzinfo=None)
        ) < (timedelta(minutes=5))


def test_the_databases_have_the_indexes_that_consumers_rely_on(site):
    night(site, [a_job(1)], files_of(a_job(1)))
    wanted = {
        "accounting": {
            ("cluster", "job_id", "start"), ("nodes", "start"), ("job_id",), ("job_id", "cluster"),
            ("proj_id", "cluster"), ("proj_id", "end", "start", "cluster"), ("cluster", "date"), ("end", "cluster"),
        },
        "efficiency": {("cluster", "job_id", "start"), ("proj_id", "date_finished")},
    }  # fmt: skip
    for name, indexes in wanted.items():
        connection = tables.read_database(tables.database(site.root, name), name)
        found = {
            tuple(column[2] for column in connection.execute(f"pragma index_info({index[1]})")): bool(index[2])
            for index in connection.execute("pragma index_list(jobs)")
        }
        connection.close()
        assert indexes <= found.keys()
        assert found["cluster", "job_id", "start"], "unique"


def test_a_month_whose_jobs_never_ran_is_rebuilt(site):
    """Its archive holds what no job claims."""
    orphan = naive.RawFile("c1", "n1", 5, usage(3, 40.0, first=START + 9))
    never = naive.Job("c1", 4, "p", "u", START + 9000, START + 9000, 2, "CANCELLED", ())
    ran = a_job(1, START - MONTH)
    sites.Night([never, ran], [orphan, *files_of(ran)]).fall(site.root, "day")
    os.utime(
        site.root / "slurm" / "uppmax_jobstats" / "n1" / "5", (START, START)
    )  # so it is taken though no job names it
    update(site)
    ingested, computed = rebuild(site)
    assert (ingested.counts["raw files"], computed.counts["jobs"]) == (2, 1)
    assert_same(efficiency(site.root), naive.efficiency([ran], files_of(ran)))


def test_the_new_database_is_durable_before_it_takes_the_place_of_the_old_one(site, monkeypatch):
    """It is made without waiting for the disk; nobody has it yet."""
    jobs = [a_job(i) for i in range(1, 4)]
    night(site, jobs, files_of(*jobs))
    synced, found = {}, []
    fsync, replace = os.fsync, step.replace_database

    def noted(handle):
        fsync(handle)
        about = os.fstat(handle)
        synced[about.st_ino] = about.st_size, about.st_mtime_ns

    def replacing(new, old, *hold):
        about = new.stat()
        found.append(synced[about.st_ino] == (about.st_size, about.st_mtime_ns) and new.parent.stat().st_ino in synced)
        replace(new, old, *hold)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(step, "replace_database", replacing)
    assert compute(site, everything=True).counts["jobs"] == 3
    assert found == [True]
