"""`jobeff plot`: what is drawn, that text stays text, and that the same job gives the same bytes."""

import json
import math
import sqlite3
import stat
import statistics
import sys
import xml.etree.ElementTree
from array import array
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sites
from conftest import dump
from test_job import START, booked, made, raw

from jobeff.clock import Clock
from jobeff.config import load
from jobeff.errors import JobeffError
from jobeff.simulate import DemoOptions, write_site
from jobeff.steps.site import Site
from jobeff.steps.update import update
from jobeff.store.tables import database
from jobeff.views import advice, coverage, evidence, job, job_text, plot, plot_band, plot_frame, plot_job, plot_project

pytest.importorskip("matplotlib")

CLOCK = Clock(sites.TIMEZONE)
HOSTILE = "$\\frac{1}{$ <script>alert(1)</script> --> ]]> &amp; \x1b[31m \u202e"


def judged(nodes=1, rows=12, gap=(), limit=800, swap=0, name="x", length=3600):
    """A job of 4 cores on each of its nodes; node i uses i % 4 of them."""
    found = []
    for i in range(nodes):
        cores = array("H", [10_000 if core < i % 4 else 0 for core in range(4)])
        times = [START + 300 * k + i for k in range(rows) if k not in gap]
        found.append(
            evidence.NodeSamples(
                f"n{i}", [evidence.Sample(f"n{i}", t, limit, 100 + i, 150 + i, swap, cores, 0, 0) for t in times]
            )
        )
    names = ",".join(node.node for node in found)
    known = {
        **{"cluster": "c1", "job_id": 1, "job_id_text": None, "jobname": name, "proj_id": "p$1$", "user": "u"},
        **{"jobstate": "COMPLETED", "nodes": names, "cores": 4 * nodes, "start": START, "end": START + length},
    }
    view = job.JobView(known, None, 300, ((names, START, START + length),))
    told = coverage.of_job(view, found, CLOCK)
    return job_text.Judged(view, found, ["overbooked:50%"], advice.Advice("", [], None), told)


def drawn(one):
    """Lines of each panel, by label, and the figure."""
    with plot.styled():
        figure = (plot_job.panels if len(one.nodes) <= plot_frame.EACH else plot_band.band)(one, CLOCK)
    found = defaultdict(dict)
    for axis in figure.axes:
        for line in axis.get_lines():
            found[tuple(round(edge, 6) for edge in axis.get_position().bounds)][line.get_label()] = line
    return figure, list(found.values())


def values(line):
    return [None if math.isnan(value) else float(value) for value in line.get_ydata()]


def test_each_node_has_a_panel_with_its_lines():
    _, panels = drawn(judged(3, swap=50))
    assert len(panels) == 3
    for i, lines in enumerate(panels):
        assert values(lines["CPU"]) == [100.0 * i] * 12 + [None]
        assert values(lines["cores in use (above 3 %)"]) == [100.0 * i] * 12 + [None]
        assert values(lines["cores booked"]) == [400, 400]
        assert values(lines["memory used"]) == [1 + i / 100] * 12 + [None]
        assert values(lines["memory maximum"]) == [1.5 + i / 100] * 12 + [None]
        assert values(lines["memory limit"]) == [8.0] * 12 + [None]
        assert values(lines["swap in use"]) == [0.5] * 12
        assert [round(x * 86_400) for x in lines["CPU"].get_xdata()][:12] == [START + 300 * k + i for k in range(12)]


def test_a_gap_is_a_gap_and_a_row_alone_a_dot():
    [lines] = drawn(judged(gap=(3, 4, 6)))[1]
    assert values(lines["CPU"]) == [0.0] * 3 + [None] + [0.0, None] + [0.0] * 5 + [None]
    assert len(values(lines["_alone"])) == 1
    figure, _ = drawn(judged(rows=1))
    dots = {line.get_marker() for axis in figure.axes for line in axis.get_lines() if line.get_label() == "_alone"}
    assert dots == {"o", "x", "s", "^", "_"}  # told apart without colour, and by the legend
    assert dots <= {handle.get_marker() for handle in figure.legends[0].legend_handles}


def test_what_is_unknown_is_said():
    figure, [lines] = drawn(judged(limit=0))
    assert "memory limit" not in lines
    assert "memory limit unknown" in [axis.get_title("right") for axis in figure.axes]
    unseen = judged(2)
    unseen.nodes[1].rows.clear()
    figure, _ = drawn(unseen)
    assert "booked but never used\n(no sample)" in [text.get_text() for axis in figure.axes for text in axis.texts]


def test_many_rows_become_few_points_that_keep_the_largest():
    long = judged(rows=3000, length=900_000)
    peak = long.nodes[0].rows[1234]
    long.nodes[0].rows[1234] = peak._replace(max_used=790)
    figure, [lines] = drawn(long)
    assert len(values(lines["memory used"])) <= plot_frame.POINTS + 1
    assert max(value for value in values(lines["memory maximum"]) if value is not None) == 7.9
    assert "a point: 7 rows" in " ".join(axis.get_title("right") for axis in figure.axes)


def test_very_many_nodes_are_a_band_with_the_worst_named():
    one = judged(200)
    one.nodes[7].rows.clear()
    one.nodes[9].rows[3] = one.nodes[9].rows[3]._replace(swap=5)
    one = replace(one, coverage=coverage.of_job(one.view, one.nodes, CLOCK))
    figure, [cpu, memory] = drawn(one)
    busy = [100.0 * (i % 4) for i in range(200) if i != 7]
    assert values(cpu["CPU: median"]) == [statistics.median(busy)] * 12
    assert {"least busy: n0 (0 %)", "least busy: n100 (0 %)"} <= set(cpu)
    assert any(label.startswith("fullest: n199 (3 GiB)") for label in memory)
    said = [text.get_text() for text in figure.texts]
    assert {"node n7 booked but never used (no sample)", "swap in use on n9"} <= set(said)


def test_a_panel_says_when_its_node_was_lost():
    one = judged(2, rows=12)
    del one.nodes[1].rows[6:]
    figure, _ = drawn(replace(one, coverage=coverage.of_job(one.view, one.nodes, CLOCK)))
    assert "lost after 00:25" in [axis.get_title("right") for axis in figure.axes]


@pytest.mark.parametrize("form", plot.FORMATS)
@pytest.mark.parametrize("nodes", [1, 60])
def test_the_same_job_gives_the_same_bytes(form, nodes):
    one = judged(nodes, name=HOSTILE)
    content = plot_job.plot(one, CLOCK, form)
    assert content == plot_job.plot(one, CLOCK, form)
    assert content[:4] == (b"\x89PNG" if form == "png" else b"<?xm")


def test_names_are_text_and_nothing_else():
    one = judged(name=HOSTILE)
    figure, _ = drawn(one)
    assert figure.texts[0].get_text() == "c1/1  " + HOSTILE.encode("unicode_escape").decode()
    assert not any(text.get_parse_math() for text in figure.texts)
    tree = xml.etree.ElementTree.fromstring(plot_job.plot(one, CLOCK, "svg"))  # noqa: S314  (our own)
    assert {element.tag.rpartition("}")[2] for element in tree.iter()}.isdisjoint({"script", "image", "foreignObject"})
    long, _ = drawn(judged(name="y" * 500))
    assert long.texts[0].get_text().endswith("y...")


def test_a_users_own_style_is_left_out(monkeypatch):
    import matplotlib as mpl

    before = plot_job.plot(judged(), CLOCK, "png")
    monkeypatch.setitem(mpl.rcParams, "text.usetex", True)
    monkeypatch.setitem(mpl.rcParams, "font.size", 30.0)
    assert plot_job.plot(judged(), CLOCK, "png") == before
    assert mpl.rcParams["font.size"] == 30.0


def test_a_job_that_never_started():
    one = judged()
    never = replace(one, view=replace(one.view, accounting={**one.view.accounting, "nodes": ""}), nodes=[])
    figure, _ = drawn(never)
    assert "the job never started" in [text.get_text() for axis in figure.axes for text in axis.texts]


# The command


def test_plot_on_the_command_line(run, tmp_path, monkeypatch):
    site = made(tmp_path, [booked(1), booked(1, start=START + 7200)], [raw(1, "n1", 6)])
    monkeypatch.chdir(tmp_path)
    file = site.config.file
    code, out, err = run("-c", file, "plot", "c1/1")
    assert (code, out) == (0, "c1-1-2.png\n")
    assert "attempt 2 of 2" in err
    assert stat.S_IMODE((tmp_path / "c1-1-2.png").stat().st_mode) == 0o640
    code, out, err = run("-c", file, "plot", 1, "--attempt", 1, "-o", tmp_path / "a.svg")
    assert (code, err, (tmp_path / "a.svg").read_bytes()[:5]) == (0, "", b"<?xml")
    for wrong in (["1", "2"], ["project"], ["1", "--attempt", "3"], ["1", "-o", "x.pdf"], ["x"]):
        assert run("-c", file, "plot", *wrong)[0] == 2, wrong
    assert run("-c", file, "plot", 9)[0] == 1
    assert run("-c", file, "plot", "project", "p", "-o", "p.png")[0] == 0
    code, _, err = run("-c", file, "plot", "project", "q/../..", "-o", "p.png")
    assert (code, "knows no job of project" in err) == (1, True)
    assert run("-c", file, "plot", "project", "p", "--since", "2030-01-01")[0] == 2
    assert run("-c", file, "plot", 1, "-o", tmp_path / "none" / "x.png")[0] in (0, 1)


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(JobeffError, match=r"pip install 'jobeff\[plot\]'"):
        plot_job.plot(judged(), CLOCK, "png")


# A project's weeks


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "site"
    write_site(folder, DemoOptions(jobs=300, nodes=8, days=9))
    config = load(folder / "jobeff.toml")
    update(Site(config, 0))
    return config


def week_by_week(config, project):
    """Minute by minute is too slow, so midnight by midnight: core hours of each job in each week."""
    zone = config.clock.zone
    rows = {(row[1], row[0], row[14]): row for row in dump(database(config.root, "efficiency"))}
    found = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    for row in dump(database(config.root, "accounting")):
        job_id, proj_id, start, end, cores, cluster = row[1], row[2], row[4], row[5], row[7], row[8]
        if proj_id != project:
            continue
        seen = rows.get((cluster, job_id, start))
        while start < end:
            day = datetime.fromtimestamp(start, zone).date()
            midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
            after = min(end, int((midnight + timedelta(days=1)).timestamp()))
            hours = cores * (after - start) / 3600
            year, week, _ = day.isocalendar()
            total = found[f"{year}-W{week:02}"]
            total[0] += hours
            if seen:
                cpu, peak, limit = seen[4] / 100, seen[7], seen[9]
                total[1] += hours
                total[2] += hours * cpu
                total[3] += hours * max(cpu, peak / limit if limit else 0)
            start = after
    return found


def test_weeks_of_projects(demo):
    projects = sorted({row[2] for row in dump(database(demo.root, "accounting"))})
    with sqlite3.connect(database(demo.root, "corehour_usage")) as connection:
        query = "select proj_id, week, sum(used) from corehour_weekly group by 1, 2"
        charged = {(project, week): used for project, week, used in connection.execute(query)}
    connection.close()
    several = 0
    for project in projects:
        expected = week_by_week(demo, project)
        rows = plot_project.weeks(demo, project)
        several += len(rows) > 1
        assert {row["week"] for row in rows if row["booked"]} == set(expected)
        for row in rows:
            booked_hours, measured, used, best = expected.get(row["week"], (0, 0, 0, 0))
            assert row["booked"] == pytest.approx(booked_hours) == pytest.approx(charged.get((project, row["week"]), 0))
            assert (row["measured"], row["used"]) == (pytest.approx(measured), pytest.approx(used))
            assert row["efficiency"] == (pytest.approx(best / measured) if measured else None)
    assert several


def test_weeks_between_days_and_their_plot(demo):
    project = dump(database(demo.root, "accounting"))[0][2]
    rows = plot_project.weeks(demo, project, "2024-03-01", "2024-04-30")
    assert [row["week"] for row in rows] == [f"2024-W{week:02}" for week in range(9, 19)]
    assert rows[0] == {"week": "2024-W09", "booked": 0.0, "measured": 0.0, "used": 0.0, "efficiency": None}
    for form in plot.FORMATS:
        content = plot_project.plot("$x^2$<script>", rows, form)
        assert content == plot_project.plot("$x^2$<script>", rows, form)
    xml.etree.ElementTree.fromstring(content)  # noqa: S314  (our own)


@pytest.mark.parametrize(
    ("since", "until", "weeks"),
    [("0001-01-01", "1970-01-11", ["1970-W01", "1970-W02"]), ("9999-12-14", "9999-12-31", ["9999-W50", "9999-W51"])],
)
def test_weeks_at_the_ends_of_the_calendar(demo, since, until, weeks):
    project = dump(database(demo.root, "accounting"))[0][2]
    assert [row["week"] for row in plot_project.weeks(demo, project, since, until)] == weeks


def test_a_band_of_nodes_without_samples_says_so():
    one = judged(200)
    for node in one.nodes:
        node.rows.clear()
    figure, [cpu] = drawn(replace(one, coverage=coverage.of_job(one.view, one.nodes, CLOCK)))
    assert "no node has a sample" in [text.get_text() for axis in figure.axes for text in axis.texts]
    assert values(cpu["cores booked"]) == [400, 400]


def test_a_band_of_one_sampling_time_has_its_spread_and_its_median_drawn():
    """A surface of no width would show nothing."""
    one = judged(200, rows=1, limit=0)
    figure, [cpu, memory] = drawn(one)
    assert "memory limit (largest)" not in memory
    assert (values(cpu["CPU: median"]), cpu["CPU: median"].get_marker()) == ([150.0], "o")
    spread, quartiles = (lines.get_segments() for lines in figure.axes[0].collections[:2])
    ends = [sorted(float(y) for y in segment[:, 1]) for segment in (*spread, *quartiles) if len(segment)]
    assert ends == [[0, 300], [75, 225]]


def test_plots_for_machines_and_jobs_of_two_clusters(run, tmp_path):
    site = made(tmp_path, [booked(1)], [raw(1, "n1", 6)])
    target = tmp_path / "x.png"
    code, out, err = run("-c", site.config.file, "--json", "plot", 1, "-o", target)
    assert (code, json.loads(out), err) == (0, {"file": str(target)}, "")
    code, out, _ = run("-c", site.config.file, "--json", "plot", "project", "p", "-o", target)
    assert (code, json.loads(out)["weeks"][0]["booked"] > 0) == (0, True)
    assert run("-c", site.config.file, "-q", "plot", 1, "-o", target) == (0, "", "")
    code, _, err = run("-c", site.config.file, "plot", "project", "p", "--since", "2021-06-02", "--until", "2021-06-01")
    assert (code, "--since is after --until" in err) == (2, True)
    with sqlite3.connect(database(site.root, "accounting")) as connection:
        names = ", ".join(row[1] for row in connection.execute("pragma table_info(jobs)") if row[1] != "seq")
        other = names.replace("cluster", "'c2'")
        connection.execute(f"insert into jobs ({names}) select {other} from jobs")
    connection.close()
    code, _, err = run("-c", site.config.file, "plot", 1, "-o", target)
    assert (code, "Give one of c1/1, c2/1" in err) == (2, True)
