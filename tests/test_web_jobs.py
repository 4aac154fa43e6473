"""Pages of jobs that the demo site has none of: tasks of an array, a job on very many nodes; and each number's rows."""

import re
from html import unescape
from types import SimpleNamespace

import naive
import pytest
import sites
from test_accounting_forms import JOB, as_sacct
from test_job import START, booked, raw
from test_web import _rows, get

from jobeff import config as configuration
from jobeff.sources.sacct import COLUMNS
from jobeff.steps.update import update
from jobeff.store.tables import EFFICIENCY_COLUMNS, database
from jobeff.views.web import chart, serve

ARRAY, WIDE, ALONE = 100, 777, 888
NODES = tuple(f"n{number}" for number in range(1, 61))


def record(job, text=None):
    """A line of `sacct -P`."""
    return as_sacct(
        JOB._replace(
            cluster="c1", job_id=job.job_id, job_id_text=text, proj_id=job.proj_id, user=job.user, submit=job.start,
            start=job.start, end=job.end, cores=job.cores, jobstate=job.state, nodes=",".join(job.nodes),
        )
    )  # fmt: skip


def make(root):
    """Tasks of an array by two people, and a job on 60 nodes, of which one was never used."""
    site = sites.make(root)
    other = naive.Job("c1", ARRAY + 2, "q", "v", START, START + 1800, 1, "FAILED", ("n1",))
    jobs = [(booked(ARRAY), f"{ARRAY}_2"), (booked(ARRAY + 1, nodes=("n2",)), f"{ARRAY}_0"), (other, f"{ARRAY}_1")]
    jobs += [(booked(WIDE, nodes=NODES, cores=120, length=3600, start=START + 86_400), None)]
    jobs += [(booked(ALONE, nodes=("n3",)), None)]
    lines = b"".join(record(*job) for job in jobs)
    (root / "slurm" / "accounting" / "day").write_bytes(f"{COLUMNS}\n".encode() + lines)
    for job_id, node in ((ARRAY, "n1"), (ARRAY + 1, "n2")):
        sites.write_raw(root, raw(job_id, node, 6))
    for number, node in enumerate(NODES[:-1]):
        cores = (100.0, float(number))
        sites.write_raw(root, raw(WIDE, node, 12, START + 86_400, cores, used=1 + number / 100))
    update(site)
    return site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("jobs") / "site"
    config = make(root).config
    path = root / "staffed.toml"
    path.write_text('staff = ["boss"]\n' + (root / "jobeff.toml").read_text())
    behind = serve.make(configuration.load(path), serve.Ask(user_header="X-User"))
    return SimpleNamespace(root=root, config=config, local=serve.make(config, serve.Ask()), behind=behind)


def test_tasks_of_an_array_lead_to_jobs(site):
    page = get(site.local, f"/job/c1/{ARRAY}_%5B%2A%5D")
    assert page.status_code == 200 and f"Tasks of job array c1/{ARRAY}" in page.text
    listed = re.findall(r'<li><a href="(/job/[^"]+)">c1/(\S+) +(\w+)</a>', page.text)
    assert listed == [
        (f"/job/c1/{ARRAY}", f"{ARRAY}_2", "COMPLETED"),
        (f"/job/c1/{ARRAY + 1}", f"{ARRAY}_0", "COMPLETED"),
        (f"/job/c1/{ARRAY + 2}", f"{ARRAY}_1", "FAILED"),
    ]
    for (href, text, _), task in zip(listed, get(site.local, *(href for href, _, _ in listed)), strict=True):
        assert task.status_code == 200 and f"c1/{text}" in task.text, href


def test_tasks_of_others_are_not_listed(site):
    mine, theirs, nobody, staff = (
        get(site.behind, f"/job/c1/{ARRAY}_%5B%2A%5D", x_user=name) for name in ("u", "v", "w", "boss")
    )
    tasks = [set(re.findall(r"100_\d", page.text)) for page in (mine, theirs, staff)]
    assert tasks == [{"100_0", "100_2"}, {"100_1"}, {"100_0", "100_1", "100_2"}]
    assert nobody.status_code == 404 and "_0" not in nobody.text


def test_very_many_nodes_are_a_band(site):
    page = get(site.local, f"/job/c1/{WIDE}")
    assert page.text.count('<figure class="plot"') == 1
    assert "59 of 60 nodes together: median, middle half, lowest to highest" in page.text
    for style in ("cpu-all", "cpu-half", "memory-all", "memory-half"):
        [path] = re.findall(rf'<path class="{style}" d="([^"]*)"', page.text)
        assert path.startswith("M") and path.endswith("Z")
    assert "<li>least busy: n1 (100 % of one core), n2 (101 % of one core), n3 (102 % of one core)</li>" in page.text
    assert (
        "<li>fullest: n59 (1.58 GiB), n58 (1.57 GiB), n57 (1.56 GiB)</li>" in page.text
        and "most swap:" not in page.text
    )
    assert "swap used</span>" not in page.text and "middle half of the nodes" in page.text
    nodes = page.text[page.text.index("<h2>Nodes</h2>") :]
    assert re.findall(r'<tr><td class="text">(n\d+)', nodes) == list(NODES) and "never seen" in nodes


def test_a_band_has_the_values_of_the_nodes(site):
    from jobeff.views import job
    from jobeff.views.judge import judge

    [one] = job.find(site.config, job.parse_id(f"c1/{WIDE}"))
    [panel] = chart.job(judge(site.config, one, False), site.config.clock)["data"]["panels"]
    values = {series["label"]: series["values"] for series in panel["series"]}
    for share, label in enumerate(("lowest", "a quarter below", "median", "a quarter above", "highest")):
        number = 58 * share / 4
        assert values[f"CPU {label}"] == pytest.approx([100 + number] * 12)
        assert values[f"memory {label}"] == pytest.approx([1 + number / 100] * 12, abs=0.0051)


def test_each_number_leads_to_the_samples_behind_it(site):
    page = get(site.local, f"/job/c1/{ARRAY}")
    hrefs = [unescape(href) for href in re.findall(r'<a href="([^"]*/why/[^"]*)"', page.text)]
    columns = [href.partition("/why/")[2].partition("?")[0] for href in hrefs]
    assert (
        {"cpu_mean", "mem_peak", "mem_median", "cores_used_peak", "coverage"} <= set(columns) <= set(EFFICIENCY_COLUMNS)
    )
    [row] = _rows(site.root, f"select * from jobs where job_id = {ARRAY}", "efficiency")
    for column, answer in zip(columns, get(site.local, *hrefs), strict=True):
        assert answer.status_code == 200, column
        assert f"<dt>stored</dt><dd>{'unknown' if row[column] is None else row[column]}</dd>" in answer.text
        assert "<dt>computed again</dt>\n<dd>the same</dd>" in answer.text
    peak = get(site.local, f"/job/c1/{ARRAY}/why/mem_peak")
    assert f" {START} 8.0 1.25 0.0 50.0</code>" in peak.text and " byte " in peak.text


def test_all_columns_of_all_jobs_can_be_shown(site):
    paths = [f"/job/c1/{job_id}/why/{column}" for job_id in (ARRAY, WIDE) for column in EFFICIENCY_COLUMNS]
    for path, answer in zip(paths, get(site.local, *paths), strict=True):
        assert answer.status_code == 200 and "the same" in answer.text, path


def test_a_number_that_is_not_there_is_said(site):
    unknown, without = get(site.local, f"/job/c1/{ARRAY}/why/nothing", f"/job/c1/{ALONE}/why/cpu_mean")
    assert unknown.status_code == without.status_code == 404
    assert f"Job c1/{ARRAY}_2 has no number nothing." in unknown.text
    assert "/why/" not in get(site.local, f"/job/c1/{ALONE}").text


def test_a_number_that_differs_is_said(tmp_path):
    import contextlib
    import sqlite3

    made = make(tmp_path / "site")
    with contextlib.closing(sqlite3.connect(database(made.root, "efficiency"))) as connection, connection:
        connection.execute("update jobs set counts = 7")
    page = get(serve.make(made.config, serve.Ask()), f"/job/c1/{ARRAY}/why/counts")
    assert "<dt>stored</dt><dd>7</dd>" in page.text and "6, which differs" in page.text


def test_samples_are_for_who_may_see_the_job(site):
    paths = [f"/job/c1/{job_id}/why/{column}" for job_id in (ARRAY, WIDE) for column in ("mem_peak", "user", "nothing")]
    for path, own, staff, other, nowhere in zip(
        paths,
        get(site.behind, *paths, x_user="u"),
        get(site.behind, *paths, x_user="boss"),
        get(site.behind, *paths, x_user="v"),
        get(site.behind, *(path.replace("/job/c1/", "/job/c1/9") for path in paths), x_user="v"),
        strict=True,
    ):
        assert own.status_code == staff.status_code == (404 if "nothing" in path else 200), path
        assert other.status_code == nowhere.status_code == 404
        job_id = path.split("/")[3]
        assert other.text.replace(job_id, "*") == nowhere.text.replace(f"9{job_id}", "*"), path
    assert get(site.behind, f"/job/c1/{ARRAY}/why/mem_peak").status_code == 403
    assert get(site.behind, f"/job/c1/{ARRAY}/why/mem_peak.json", x_user="u").status_code == 403
