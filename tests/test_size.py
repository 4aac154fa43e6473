"""size: costs explain what they were fitted to, load is what accounting tells, and the table fits a terminal."""

import json
import os

import naive
import pytest
import sites
from click.testing import CliRunner
from test_compute import START, a_job

from jobeff.bench import calibrate, commands, history, size
from jobeff.cli import cli
from jobeff.engine.pool import default_workers
from jobeff.steps.load import load_slurm
from jobeff.views.size import amount, duration, lines

COSTS = size.Costs(0.1, 4000, 300, 80, 1e-5, (2, 1e-8, 1e-3), (2, 4e-9, 3e-4), (2, 1e-9, 1e-3), 0.8, 0.6)


WORKERS = 4


def seconds(cost, parallel, text, shards, workers=WORKERS):
    start, per_text, per_shard = cost
    return start + (1 - parallel + parallel / workers) * (per_text * text + per_shard * shards)


def site(text, shards, jobs=1000.0):
    """What a machine of `COSTS` takes with all workers."""
    took = [seconds(cost, parallel, text, shards) for cost, parallel in ((COSTS.rebuild, 0.8), (COSTS.recompute, 0.6))]
    night = seconds(COSTS.night, 0, text / 3, shards / 2)
    return calibrate.Measured(
        text, text / 3, shards / 2, shards, jobs, jobs, *took, night, 80 + 1e-5 * jobs, 0.1 * text + 4000 * shards,
        300 * jobs,
    )  # fmt: skip


def alone(text, shards):
    """And with one."""
    return calibrate.Alone(*(seconds(cost, 0, text, shards) for cost in (COSTS.rebuild, COSTS.recompute)))


def test_costs_are_those_that_explain_what_was_measured():
    found = [site(1e8, 100, 1e4), site(5e8, 100, 5e4), site(1e8, 1000, 1e4)]
    costs = calibrate.fitted(found, [alone(1e8, 100), alone(5e8, 100)], WORKERS)
    for name, value in vars(COSTS).items():
        assert getattr(costs, name) == pytest.approx(value, rel=1e-6), name
    assert calibrate.fitted(found, [alone(1e8, 100), alone(5e8, 100)], 1).rebuild_parallel == 1


def test_no_cost_is_below_nothing():
    found = [site(1e8, 100), site(5e8, 100, 5000), site(1e8, 1000)]
    odd = [one._replace(rebuild=seconds, night=seconds) for one, seconds in zip(found, (5.0, 3.0, 4.0), strict=True)]
    for one, more in ((9.0, 1.0), (1.0, 9.0), (1.0, 1.0)):
        costs = calibrate.fitted(odd, [calibrate.Alone(one, one), calibrate.Alone(more, more)], 2)
        assert min(*costs.rebuild, *costs.night, costs.rebuild_parallel, costs.memory_job) >= 0
        assert max(costs.rebuild_parallel, costs.recompute_parallel) <= 1


def test_what_is_predicted_grows_with_what_there_is():
    def said(days=100, workers=1, **more):
        given = {"nodes": 100, "interval": 300, "jobs": 1000, "cores_per_node": 20, "nodes_per_job": 1.5}
        load = size.made_up(**{**given, "cores_per_job": 4, "booked": 0.5, **more})
        return vars(size.predict(load, days, workers, COSTS))

    one = said()
    assert one["archive"] == 100 * size.made_up(100, 300, 1000, 20, 1.5, 4, 0.5).text
    assert said(days=200)["rebuild_s"] > one["rebuild_s"] > said(workers=8)["rebuild_s"]
    assert said(days=200)["night_s"] == one["night_s"]
    assert said(interval=60)["archive"] > 4 * one["archive"]
    assert said(nodes=200)["shards"] > one["shards"]
    assert said(jobs=2000)["databases"] == 2 * one["databases"]


def test_the_load_of_a_site_is_that_of_its_accounting(tmp_path):
    jobs = [a_job(1, length=3000, nodes=("n1", "n2")), a_job(2, START - 86_400, 600), a_job(3, length=100)]
    found = sites.make(tmp_path / "site")
    sites.Night([*jobs, naive.Job("c1", 4, "p", "u", START, START, 2, "CANCELLED", ())]).fall(found.root, "day")
    assert size.of_site(found.root, "c1", 300) is None
    load_slurm(found)
    assert size.of_site(found.root, "c1", 300) == size.Load(
        2, 1.5, 1.5, (2 * 10 + 2) / 2, (20 + 4) / 2, 1.5 * size.FRAME_BYTES + 11 * size.ROW_BYTES + 12 * 6
    )  # fmt: skip
    assert size.of_site(found.root, None, 300) == size.of_site(found.root, "c1", 300)


def test_how_long_rows_are_is_what_the_archive_tells(tmp_path):
    """In this history one raw file in four has more columns, and not every other one."""
    written = history.write(tmp_path, history.Shape(20, 200), 4)
    load = size.of_site(tmp_path, history.CLUSTER, history.INTERVAL)
    assert load.text * 4 == pytest.approx(written, rel=0.01)
    for path in (tmp_path / "archive" / history.CLUSTER).iterdir():
        path.rename(path.with_suffix(".txt.gz"))  # of a compressed one nobody knows before it has been read
    assert size.of_site(tmp_path, history.CLUSTER, history.INTERVAL).text * 4 > 1.05 * written


@pytest.fixture
def calibrated(tmp_path, monkeypatch):
    """A home in which this machine has been measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibrate, "_measured", lambda _: COSTS)
    assert calibrate.costs(print) == COSTS
    monkeypatch.setattr(calibrate, "_measured", lambda _: pytest.fail("it was measured before"))
    assert calibrate.costs(print) == COSTS
    return tmp_path


def test_a_machine_is_measured_once(calibrated, monkeypatch):
    path = calibrated / "cache" / "jobeff" / "size.json"
    about = json.loads(path.read_text())
    monkeypatch.setattr(calibrate, "_measured", lambda _: "anew")
    monkeypatch.setattr(calibrate, "asdict", lambda _: {})
    for spoilt in ("", "{", "[]", "{}", json.dumps({**about, "about": ["other"]}), json.dumps({**about, "x": 1})):
        path.write_text(spoilt)
        assert calibrate.costs(print) == "anew"


@pytest.mark.usefixtures("calibrated")
@pytest.mark.parametrize(
    "given", [["--nodes", "100", "--jobs", "9"], ["--nodes", "1000000", "--jobs", "100000000", "--years", "100"]]
)
def test_the_table_fits_a_terminal(given):
    done = CliRunner().invoke(cli, ["size", *given])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    assert "32 workers" in done.output
    done = CliRunner().invoke(cli, ["--json", "--workers", str(default_workers()), "size", *given])
    (one,) = json.loads(done.stdout)["sizes"]
    assert one["workers"] == default_workers()


@pytest.mark.usefixtures("calibrated")
def test_what_is_missing_is_said(tmp_path, run):
    assert CliRunner().invoke(cli, ["size", "--nodes", "3"]).exit_code == 2
    site = sites.make(tmp_path / "site")
    status, _, said = run("-c", site.config.file, "size", "--from-site")
    assert (status, "its accounting has no jobs. " in said, "'jobeff load slurm'" in said) == (2, True, True)


@pytest.mark.usefixtures("calibrated")
def test_the_load_of_a_site_is_that_of_its_clusters(tmp_path, run):
    """One cluster has jobs; the other has none yet."""
    site = sites.make(tmp_path / "site")
    text = site.config.file.read_text()
    site.config.file.write_text(f'{text}\n[clusters.new]\naccounting = "new"\n')
    sites.Night([a_job(1, START, 3600, ("n1", "n2"))]).fall(site.root, "day")
    os.utime(site.root / "slurm" / "accounting" / "day", (START, START))
    load_slurm(site)
    status, out, said = run("-c", site.config.file, "--json", "size", "--from-site")
    assert status == 0, said
    found = json.loads(out)["load_of_a_day"]
    assert (found["nodes"], found["jobs"], found["files"]) == (2, 1, 2)


def test_a_home_that_cannot_be_written_is_measured_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "_measured", lambda _: COSTS)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert calibrate.costs(print) == COSTS
    monkeypatch.delenv("XDG_CACHE_HOME")

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(calibrate.Path, "home", homeless)
    assert calibrate.costs(print) == COSTS


def test_a_machine_is_measured_by_whole_commands(tmp_path, monkeypatch):
    """What is measured is what was done on each site, the quicker one of two, and all that it left on disk."""
    done, said = [], []

    def command(root, *given):
        done.append((root.name, *given))
        folder = root / "shards" / "c" / "n1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "2021-01.parquet").write_bytes(b"x" * 7000)
        (root / "db").mkdir(exist_ok=True)
        (root / "db" / "efficiency.sqlite").write_bytes(b"x" * 500)
        return commands.Run(10.0 + len(done), 100.0 + len(done))

    monkeypatch.setattr(calibrate.commands, "jobeff", command)
    monkeypatch.setattr(calibrate, "SITES", ((10, 3, 1), (10, 9, 1), (30, 3, 1)))
    found = calibrate.measure(tmp_path / "site", history.Shape(10, 3), 2, 4)
    assert [one[3] for one in done] == ["rebuild", "rebuild", "compute", "compute", "update", "update"]
    assert {one[:3] for one in done} == {("site", "--workers", "4")}
    assert (found.nodes, found.shards, found.shard_bytes) == (10, 1, 7000)
    assert found.database_bytes == sum(one.stat().st_size for one in (tmp_path / "site" / "db").glob("*.sqlite")) > 500
    assert (found.jobs, found.jobs_in_month) == (3 * 4, 3 * 2)
    assert (found.rebuild, found.recompute, found.night, found.memory) == (11, 13, 16, 103)
    assert found.month_text == found.text > 0, "all days are of one month"
    done.clear()
    monkeypatch.setattr(calibrate, "fitted", lambda *given: given)
    sites_found, alone_found, workers = calibrate._measured(said.append)
    assert [one.nodes for one in sites_found] == [10, 10, 30]
    assert (len(alone_found), workers) == (2, default_workers())
    assert [line.partition(":")[0] for line in said] == ["calibrating"] * 3
    with_one = [name for name, _, workers, *_ in done[: len(done) - 6] if workers == "1"]
    assert with_one == ["0"] * 4 + ["1"] * 4 or default_workers() == 1


def test_amounts():
    assert [amount(x) for x in (0, 999, 1500, 2.5e8, 1e18)] == ["0 B", "999 B", "1.5 kB", "250 MB", "1000 PB"]
    assert [duration(x) for x in (1.25, 600, 7200)] == ["1.2 s", "10.0 min", "2.0 h"]
    assert lines(size.Load(1, 1, 1, 1, 1, 1), 1, {1: size.predict(size.Load(1, 1, 1, 1, 1, 1), 9, 1, COSTS)})
