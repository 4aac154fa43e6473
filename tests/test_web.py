"""Pages as they are served: what stands on them, who may see it, and that nothing of Datasette's is open to others."""

import asyncio
import contextlib
import html
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import uvicorn
from datasette.app import Datasette
from uvicorn.server import ServerState

from jobeff import config as configuration
from jobeff.cli import main
from jobeff.errors import JobeffError
from jobeff.views import job as view
from jobeff.views.report import Ask, by_group
from jobeff.views.report_select import Selection
from jobeff.views.tables import cell
from jobeff.views.web import about, chart, pages, patience, plugin, reading, render, routes, serve, static_site, trend
from jobeff.views.web.access import Viewer, viewer

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"
OTHER = "a\u202eb\u2028&\"'<b>"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A demo site that has been updated, with jobs of hostile names."""
    root = tmp_path_factory.mktemp("web") / "site"
    for command in (
        ["demo", str(root), "--jobs", "300", "--days", "9"],
        ["-c", str(root / "jobeff.toml"), "-q", "update"],
    ):
        with pytest.raises(SystemExit) as done:
            main(["--workers", "0", *command] if "update" in command else command)
        assert done.value.code in (0, 3)
    connection = sqlite3.connect(root / "db" / "accounting.sqlite")
    with connection:
        long = (
            "select seq from jobs where nodes <> '' and end > start + 3600 order by cores * (end - start) desc limit 2"
        )
        ids = [row[0] for row in connection.execute(long)]
        for name, seq in zip((HOSTILE, OTHER), ids, strict=True):
            connection.execute("update jobs set jobname = ? where seq = ?", (name, seq))
    connection.close()
    shutil.rmtree(root / "db" / "report")  # it was changed behind its back
    loaded = configuration.load(root / "jobeff.toml")
    rows = _rows(root, f"select * from jobs where seq in ({ids[0]}, {ids[1]}) order by seq = {ids[1]}")
    return SimpleNamespace(root=root, config=loaded, hostile=rows[0], other=rows[1])


def _rows(root, query, name="accounting"):
    connection = sqlite3.connect(root / "db" / f"{name}.sqlite")
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(query)]
    finally:
        connection.close()


def get(made, *paths, client=("127.0.0.1", 5), method="GET", **headers):
    """Answers of an application, in order."""

    async def ask():
        transport = httpx.ASGITransport(app=made.app(), client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            return [await browser.request(method, path, headers=names) for path in paths]

    found = asyncio.run(ask())
    return found[0] if len(found) == 1 else found


@pytest.fixture(scope="session")
def local(site):
    return serve.make(site.config, serve.Ask())


@pytest.fixture(scope="session")
def behind(site):
    """Behind a login, with a member of staff."""
    text = (site.root / "jobeff.toml").read_text()
    path = site.root / "staffed.toml"
    path.write_text('staff = ["boss"]\n' + text)
    return serve.make(configuration.load(path), serve.Ask(user_header="X-User"))


def named(row):
    return f"{row['cluster']}/{row['job_id']}"


def test_the_start_page_says_what_the_report_says(site, local):
    page = get(local, "/")
    assert page.status_code == 200
    when = reading.period(site.config)
    assert str(when.until) == _rows(site.root, "select max(date) as day from jobs")[0]["day"]
    table = by_group(site.config, "project", Ask(Selection(when.since, when.until), limit=pages.LINES))
    for row in table.rows():
        line = dict(zip((column.name for column in table.columns), row, strict=True))
        found = re.search(rf'<tr><td class="text"><a href="/project/{line["project"]}">.*?</tr>', page.text)
        cells = re.findall(r">([^<>]+)</(?:a|td)>", found[0])
        assert cells == [cell(column.kind, line[column.name]) for column in table.columns if column.title]
    for name in ("accounting/jobs", "efficiency/jobs", "current_projects"):
        assert name in page.text


def test_the_trend_adds_up_to_what_was_booked(site):
    when = reading.period(site.config)
    shown = pages.Maker(site.config, reading.read(site.config, when), render.Links).trend()
    booked = sum(bar["booked"] for bar in shown["bars"])
    [expected] = _rows(
        site.root,
        f"select sum(cores * (end - start)) / 3600.0 as h from jobs where nodes <> '' and date between '{when.trend}' "
        f"and '{when.until}'",
    )
    assert booked == pytest.approx(expected["h"]) and booked > 0
    for bar in shown["bars"]:
        assert sum(box["height"] for box in bar["boxes"]) <= chart.HIGH + 1e-9


@pytest.mark.parametrize(("known", "named_below"), [(1, 1), (4, 4), (5, 2), (30, 2)])
def test_a_trend_of_any_length_is_drawn(known, named_below):
    weeks = [f"2024-W{number:02}" for number in range(1, known + 1)]
    shown = trend.bars({week: (1.0, 10.0 * (i + 1), 3.0) for i, week in enumerate(weeks)})
    macro = render.environment().get_template("_parts.html").make_module({"links": None}).trend
    text = str(macro(shown))
    assert text.count("<g>") == known
    below = re.search(r'<p class="ends.*?</p>', text)[0]
    assert below.count("<span>") == named_below and weeks[0] in below and weeks[-1] in below


@pytest.mark.parametrize("what", ["project", "user"])
def test_pages_of_projects_and_users_have_their_jobs_and_no_others(site, local, what):
    column = "proj_id" if what == "project" else "user"
    name = site.hostile[column]
    page = get(local, f"/{what}/{name}")
    [booked] = _rows(
        site.root, f"select count(*) as n, sum(cores * (end - start)) / 3600.0 as h from jobs "
        f"where {column} = '{name}' and nodes <> ''",
    )  # fmt: skip
    assert f"<dd>{booked['n']:,}</dd>" in page.text and f"<dd>{booked['h']:,.0f}</dd>" in page.text
    listed = set(re.findall(r'href="/job/([^"/]+)/(\d+)"', page.text))
    assert listed
    for _, number in listed:
        assert name in [row[column] for row in _rows(site.root, f"select {column} from jobs where job_id = {number}")]


def test_a_job_page_has_its_numbers_and_its_plot(site, local):
    page = get(local, f"/job/{named(site.hostile)}")
    [one] = view.find(site.config, view.parse_id(named(site.hostile)))
    assert f"{one.efficiency['cpu_mean']:.1f} % of the booked cores" in page.text
    assert page.text.count('<figure class="plot"') == len(one.nodes)
    assert 'id="plot-data"' in page.text and "<svg" in page.text


def test_the_plot_draws_the_samples(site):
    from jobeff.views.judge import judge

    [one] = view.find(site.config, view.parse_id(named(site.hostile)))
    judged = judge(site.config, one, False)
    drawn = chart.job(judged, site.config.clock)
    for node, panel, data in zip(judged.nodes, drawn["panels"], drawn["data"]["panels"], strict=True):
        assert panel["title"] == node.node and bool(panel["say"]) == (not node.rows)
        assert drawn["rows"] == 1 and data["times"] == [row.time for row in node.rows]
        values = {series["label"]: series["values"] for series in data["series"]}
        assert values["CPU"] == [round(row.cpu_pct, 2) for row in node.rows]
        assert values["cores in use (above 3 %)"] == [row.above(300) for row in node.rows]
        assert values["memory used"] == [row.used / 100 for row in node.rows]
        path = next(line["path"] for line in panel["axes"][0]["lines"] if line["style"] == "cpu")
        points = [tuple(map(float, part.split())) for part in re.split("[ML]", path)[1:]]
        assert len(points) == len(node.rows)
        assert all(0 <= y <= chart.HIGH for _, y in points)
        for (_, y), row in zip(points, node.rows, strict=True):
            lower = [other for (_, below), other in zip(points, node.rows, strict=True) if below > y]
            assert all(other.cpu_pct < row.cpu_pct for other in lower)


@pytest.mark.parametrize("top", [0.003, 0.5, 1, 3, 7.2, 10, 99, 100, 12345, 4e7])
def test_ticks_are_few_and_round(top):
    found = chart.ticks(top)
    assert found[0] == 0 and found[-1] <= top * (1 + 1e-9) and 3 <= len(found) <= 6
    assert found[-1] >= top * 0.6


def test_attempts_of_one_id_are_told_apart(site, local):
    [again] = _rows(
        site.root, "select cluster, job_id from jobs where nodes <> '' group by 1, 2 having count(*) > 1 limit 1"
    )
    page, first = get(local, f"/job/{named(again)}", f"/job/{named(again)}?attempt=1")
    assert "This id ran 2 times" in page.text
    for shown, this, other in ((page, "2", "1"), (first, "1", "2")):
        links = re.findall(r'href="/job/[^"?]*/(?:(why)/\w+|\d+)\?attempt=(\d)"', shown.text)
        assert {number for why, number in links if not why} == {other}
        assert {number for why, number in links if why} <= {this}
    assert get(local, f"/job/{named(again)}?attempt=9").status_code == 404


@pytest.mark.parametrize(
    "path", ["/", "/project/{proj_id}", "/user/{user}", "/job/{cluster}/{job_id}", "/accounting/jobs?job_id={job_id}"]
)
@pytest.mark.parametrize("which", ["hostile", "other"])
def test_a_hostile_job_name_is_text(site, local, path, which):
    row = getattr(site, which)
    page = get(local, path.format(**row))
    assert page.status_code == 200
    assert "<img src=x" not in page.text and "<script>document" not in page.text and "<b>" not in page.text
    assert "\u202e" not in page.text or "accounting" in path
    if which == "hostile":
        assert "&lt;/script&gt;" in page.text


def test_data_for_scripts_ends_no_script():
    text = render.for_script([HOSTILE, OTHER, "<!--"])
    assert not set("<>&\u2028") & set(text)


def test_search(site, local):
    row = site.hostile
    for asked in (str(row["job_id"]), named(row)):
        found = get(local, f"/search?q={asked}")
        assert (found.status_code, found.headers["location"]) == (303, f"/job/{named(row)}")
    unknown, wrong, empty = get(local, "/search?q=1", "/search?q=%3Cb%3Ehello", "/search?q=")
    assert unknown.status_code == 404 and "<p>Accounting does not know job 1. Is it" in unknown.text
    assert wrong.status_code == 400 and "Not a job" in wrong.text and "<b>" not in wrong.text
    assert empty.status_code == 400


def test_a_page_without_jobs_says_so_once_and_what_to_do(site, local, behind):
    days, project = "since=2030-01-01&until=2030-01-31", site.hostile["proj_id"]
    own = get(behind, f"/?{days}", x_user="somebody")
    theirs = get(local, f"/project/{project}?{days}")
    for page, whose in ((own, "None of your jobs"), (theirs, f"No job of project {project}")):
        said = f"{whose} ended from 2030-01-01 to 2030-01-31. Choose other days above. A job is shown once it has ended"
        assert (page.status_code, page.text.count(said)) == (200, 1)


@pytest.mark.parametrize("days", ["since=2024-13-01", "since=x", "since=2024-04-02&until=2024-04-01"])
def test_days_that_are_none_are_answered(local, days):
    page = get(local, f"/?{days}")
    assert page.status_code == 400 and ("is not a day" in page.text or "No day is in this time" in page.text)


@pytest.mark.parametrize("path", ["/", "/project/{}", "/user/{}"])
@pytest.mark.parametrize(
    "days", ["since=0001-01-01", "until=0001-01-01", "until=9999-12-31", "since=0001-01-01&until=0001-01-02"]
)
def test_days_at_the_ends_of_the_calendar_are_answered(site, local, path, days):
    assert get(local, f"{path.format(site.hostile['proj_id'])}?{days}").status_code == 200


def test_days_that_are_chosen_count(site, local):
    day = site.hostile["date"]
    page = get(local, f"/?since={day}&until={day}")
    [expected] = _rows(site.root, f"select count(*) as n from jobs where nodes <> '' and date = '{day}'")
    assert f"<dd>{expected['n']:,}</dd>" in page.text


def test_every_page_forbids_what_comes_from_elsewhere(local, behind):
    answers = [*get(local, "/", "/nothing", "/accounting/jobs", "/search?q=1", "/-/jobeff/jobeff.js"), get(behind, "/")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "http" not in policy and "*" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY"
    assert "unsafe" not in answers[0].headers["content-security-policy"]
    outside = re.compile(r"""(?:src|href|action)=["']?(?:https?:)?//(?!datasette\.io|localhost/)""")
    for answer in answers:
        assert not outside.search(answer.text)


def test_nothing_can_be_written(site, local):
    before = (site.root / "db" / "accounting.sqlite").read_bytes()
    assert get(local, "/accounting/jobs", method="POST").status_code == 405
    for statement in (
        "delete from jobs",
        "update jobs set user = 'x'",
        "attach 'x.sqlite' as x",
        "pragma user_version = 9",
    ):
        assert get(local, f"/accounting?sql={statement}").status_code == 400
    with pytest.raises(sqlite3.OperationalError):
        asyncio.run(local.get_database("accounting").execute_write("delete from jobs"))
    assert (site.root / "db" / "accounting.sqlite").read_bytes() == before


def test_a_database_that_was_replaced_is_read_anew(site, tmp_path):
    root = tmp_path / "site"
    shutil.copytree(site.root / "db", root / "db", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(site.root / "jobeff.toml", root)
    made = serve.make(configuration.load(root / "jobeff.toml"), serve.Ask())
    query = "/accounting.json?sql=select+count(*)+as+n+from+jobs&_shape=array"
    before = get(made, query).json()[0]["n"]
    path, new = root / "db" / "accounting.sqlite", root / "db" / "new.sqlite"
    shutil.copy(path, new)
    with contextlib.closing(sqlite3.connect(new)) as connection, connection:
        connection.execute("delete from jobs where job_id in (select job_id from jobs limit 5)")
        left = connection.execute("select count(*) from jobs").fetchone()[0]
    new.replace(path)
    assert left < before
    assert [answer.json()[0]["n"] for answer in get(made, query, query, query, query)] == [left] * 4
    (root / "db" / "projects.sqlite").rename(root / "db" / "away.sqlite")
    assert get(made, "/projects").status_code == 404
    (root / "db" / "away.sqlite").rename(root / "db" / "projects.sqlite")
    assert get(made, "/projects").status_code == 200


THEIRS = [
    "/accounting", "/accounting.json", "/accounting/jobs", "/accounting/jobs.json", "/accounting/jobs.csv",
    "/-/databases", "/efficiency/jobs.json?_shape=array", "/accounting?sql=select+*+from+jobs",
    "/accounting.json?sql=select+1", "/.json", "/accounting.csv?sql=select+1", "/accounting.db",
    "/efficiency/jobs/snowy,1,1", "/efficiency/jobs/snowy,1,1.json", "/-/", "/_internal",
    "/_internal/databases.json", "/_memory", "/-/databases.json", "/-/metadata.json", "/-/threads.json",
    "/-/permissions", "/-/plugins", "/-/settings", "/-/auth-token", "/-/messages", "/-/allow-debug", "/-/patterns",
    "/-/logout", "/-/static/app.css", "/tables", "/.jsono", "//accounting/jobs", "/accounting/jobs/",
    "/%61ccounting/jobs.json", "/search/../accounting", "/job/../accounting", "/job/a/b/../../../accounting",
    "/accounting~2ejson", "/-/jobeff/../databases", "/accounting/jobs.blob?_blob_column=user",
    "/user/x/../../accounting",
]  # fmt: skip


@pytest.mark.parametrize("headers", [{"x_user": "anna"}, {}, {"x_user": ""}, {"x_user": "bos"}])
def test_tables_and_queries_are_for_staff_alone(behind, headers):
    for path, answer in zip(THEIRS, get(behind, *THEIRS, **headers), strict=True):
        assert answer.status_code in (403, 404), path
        assert "snic2024" not in answer.text, path


def test_staff_see_tables_and_all_jobs(site, behind):
    for path in ("/accounting/jobs.json", "/tables", f"/job/{named(site.hostile)}", f"/user/{site.hostile['user']}"):
        assert get(behind, path, x_user="boss").status_code == 200, path


def test_csv_of_tables_runs_no_formula(behind):
    query = "select '=1' as [=a], 'x;=1' as b, -5 as c, 'plain' as d"
    answer = get(behind, f"/accounting.csv?sql={query}", x_user="boss")
    assert answer.text == "'=a,b,c,d\r\n'=1,x;'=1,-5,plain\r\n"


def test_datasette_itself_refuses_who_is_no_staff(behind):
    async def allowed(name):
        actor = name and {"id": name}
        asked = [
            ("view-instance", None),
            ("view-database", "accounting"),
            ("view-table", ("accounting", "jobs")),
            ("execute-sql", "accounting"),
        ]
        return [await behind.permission_allowed(actor, action, of, default=True) for action, of in asked]

    assert asyncio.run(allowed("anna")) == asyncio.run(allowed(None)) == [False] * 4
    assert asyncio.run(allowed("boss")) == [True] * 4


def test_people_see_their_own_jobs_and_their_projects(site, behind):
    rows = _rows(site.root, "select * from jobs where nodes <> ''")
    names = sorted({row["user"] for row in rows})
    checked = set()
    for name in names[:4]:
        mine = viewer(site.config, name).projects
        projects = sorted({row["proj_id"] for row in rows})
        for project, answer in zip(
            projects, get(behind, *(f"/project/{one}" for one in projects), x_user=name), strict=True
        ):
            assert answer.status_code == (200 if project in mine else 403)
            checked.add(answer.status_code)
        for other, answer in zip(names, get(behind, *(f"/user/{one}" for one in names), x_user=name), strict=True):
            assert answer.status_code == (200 if other == name else 403)
        some = rows[:: max(1, len(rows) // 40)]
        for row, answer in zip(
            some, get(behind, *(f"/job/{named(row)}?attempt=1" for row in some), x_user=name), strict=True
        ):
            same = [one for one in rows if named(one) == named(row)]
            may = any(one["user"] == name or one["proj_id"] in mine for one in same)
            assert answer.status_code == (200 if may else 404)
            checked.add(answer.status_code)
        start = get(behind, "/", x_user=name)
        [sums] = _rows(site.root, f"select count(*) as n from jobs where user = '{name}' and nodes <> ''")
        assert f"<dd>{sums['n']:,}</dd>" in start.text
        for other in set(projects) - mine:
            assert f"/project/{other}" not in start.text
    assert checked == {200, 403, 404}


def test_what_may_not_be_seen_looks_like_what_is_not_there(site, behind):
    foreign = next(
        row for row in _rows(site.root, "select * from jobs where nodes <> ''")
        if row["user"] != "anna" and row["proj_id"] not in viewer(site.config, "anna").projects
    )  # fmt: skip
    pairs = [
        (f"/search?q={foreign['job_id']}", "/search?q=99999999", str(foreign["job_id"]), "99999999"),
        (f"/job/{named(foreign)}", f"/job/{foreign['cluster']}/99999999", str(foreign["job_id"]), "99999999"),
        (f"/project/{foreign['proj_id']}", "/project/nothing", foreign["proj_id"], "nothing"),
        (f"/user/{foreign['user']}", "/user/nobody", foreign["user"], "nobody"),
    ]
    for there, nowhere, one, other in pairs:
        seen, unseen = get(behind, there, nowhere, x_user="anna")
        assert seen.status_code == unseen.status_code
        assert seen.text.replace(one, "*") == unseen.text.replace(other, "*")


def test_pages_are_kept_for_one_person_alone(behind):
    texts = [get(behind, "/", x_user=name).text for name in ("anna", "boss", "anna", "nobody")]
    assert texts[0] == texts[2] and len(set(texts)) == 3


def test_a_header_is_believed_from_the_login_alone(behind):
    assert get(behind, "/", x_user="boss", client=("10.0.0.9", 5)).status_code == 403
    assert get(behind, "/", x_user="boss", client=("10.0.0.9", 5), x_forwarded_for="127.0.0.1").status_code == 403
    assert get(behind, "/", x_user="boss", client=None).status_code == 200
    assert get(behind, "/", x_user="boss", client=("::1", 5)).status_code == 200
    known = serve.make(behind.jobeff.config, serve.Ask(user_header="x-user", proxies=("10.0.0.9",)))
    assert get(known, "/", x_user="boss", client=("10.0.0.9", 5)).status_code == 200
    assert get(known, "/", x_user="boss", client=("::ffff:10.0.0.9", 5)).status_code == 200
    assert get(known, "/", x_user="boss", client=("10.0.0.8", 5)).status_code == 403

    async def twice():
        transport = httpx.ASGITransport(app=behind.app(), client=("127.0.0.1", 5))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
            return await browser.get("/", headers=[("x-user", "boss"), ("x-user", "anna")])

    assert asyncio.run(twice()).status_code == 403


@pytest.mark.parametrize("client", ["localhost", "127.0.0.1.example.org", "::ffff:127.0.0.1%", "unix"])
def test_what_is_no_address_is_not_believed(behind, client):
    assert get(behind, "/", x_user="boss", client=(client, 5)).status_code == 403


def test_a_cookie_that_is_none_is_no_key(site):
    made = serve.make(site.config, serve.Ask(port=8001), key="secret")
    for cookie in ("jobeff-key-8001", "a/b=1", "a/b=secret; jobeff-key-8001=secret", "\udcff", "=;=;="):
        assert get(made, "/", cookie=cookie.encode("utf-8", "surrogateescape")).status_code == 403


def test_only_requests_for_pages_are_let_in(behind):
    """Datasette would answer others without having been told who asks."""
    sent = []

    async def send(message):
        sent.append(message)

    async def ask():
        await behind.app()({"type": "websocket", "path": "/", "headers": [(b"x-user", b"boss")]}, None, send)

    asyncio.run(ask())
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_members_are_whole_names(site, tmp_path):
    shutil.copytree(site.root / "db", tmp_path / "db", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(site.root / "jobeff.toml", tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "db" / "projects.sqlite")) as connection, connection:
        connection.execute(
            "update projects set pi = 'Anders Berg', deputy = null, technical = 'carl', members = 'eva,jo  ann'"
        )
    config = configuration.load(tmp_path / "jobeff.toml")
    assert all(viewer(config, name).projects for name in ("eva", "jo", "ann", "carl", "Anders Berg"))
    assert not any(viewer(config, name).projects for name in ("Anders", "Berg", "ev", "Eva", "jo  ann", "", "eva,jo"))


def test_nobody_sees_nothing():
    nobody = Viewer()
    assert not nobody.sees_user("") and not nobody.sees_project("") and not nobody.sees_job({"user": "", "proj_id": ""})


def test_without_a_login_an_address_needs_its_key(site):
    made = serve.make(site.config, serve.Ask(port=8001), key="secret")
    assert (
        get(made, "/").status_code
        == get(made, "/?key=wrong").status_code
        == get(made, "/accounting.json").status_code
        == 403
    )
    assert re.findall(r"<a [^>]*href=.*?>", get(made, "/").text) == ['<a class="skip" href="#main">']
    assert get(made, "/-/jobeff/jobeff.css").status_code == 200  # for the page that refuses
    entered = get(made, "/?key=secret")
    assert entered.status_code == 303 and entered.headers["location"] == "/"
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert get(made, "/", cookie=cookie.partition(";")[0]).status_code == 200
    assert get(made, "/", cookie=cookie.partition(";")[0], host="evil.example").status_code == 403


def test_pages_below_a_path(site):
    made = serve.make(site.config, serve.Ask(base="/jobeff/"))
    page = get(made, "/jobeff/")
    assert page.status_code == 200 and 'href="/jobeff/project/' in page.text and 'href="/project/' not in page.text
    refused = serve.make(site.config, serve.Ask(base="/jobeff/", user_header="X-User"))
    assert get(refused, "/jobeff/accounting/jobs.json", x_user="anna").status_code == 403
    assert get(refused, "/accounting/jobs.json", x_user="anna").status_code == 403


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "--user-header"),  # noqa: S104
        (["--host", "0.0.0.0", "--user-header", "X-User"], "--proxy"),  # noqa: S104
        (["--user-header", "X User"], "no name of a header"),
        (["--proxy", "login.example"], "no address"),
    ],
)
def test_what_would_be_open_to_others_is_refused(site, run, options, said):
    status, _, errors = run("-c", site.root / "jobeff.toml", "serve", *options)
    assert status == 2 and said in errors and errors.count("\n") == 1


def test_a_missing_extra_is_said(site, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasette.app", None)
    status, _, errors = run("-c", site.root / "jobeff.toml", "serve", "--port", "0")
    assert status == 1 and "pip install 'jobeff[web]'" in errors and errors.count("\n") == 1


def test_a_taken_port_is_said(site, run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, errors = run("-c", site.root / "jobeff.toml", "serve", "--port", port)
    assert status == 1 and "already in use" in errors and "--port" in errors and errors.count("\n") == 1


def test_a_missing_database_is_said(tmp_path, run):
    (tmp_path / "jobeff.toml").write_text('[clusters.c]\naccounting = "a"\n')
    status, _, errors = run("-c", tmp_path / "jobeff.toml", "serve", "--port", "0")
    assert status == 1 and "jobeff update" in errors and errors.count("\n") == 1


@contextlib.contextmanager
def serving(site, *options):
    """A server of its own process, and what it says first."""
    command = [sys.executable, "-m", "jobeff", "-c", str(site.root / "jobeff.toml"), "serve", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it(site, number, status):
    with serving(site, "--port", "0") as (process, said):
        url = re.search(r"http://\S+", said)[0]
        with httpx.Client(follow_redirects=True) as browser:
            assert browser.get(url).status_code == 200
            process.send_signal(number)
            assert process.wait(20) == status
        assert "Traceback" not in process.stderr.read()


def test_a_socket_file(site, tmp_path):
    path = tmp_path / "web.sock"
    old = socket.socket(socket.AF_UNIX)
    old.bind(str(path))
    old.close()  # as a killed server leaves it
    with serving(site, "--socket", str(path), "--user-header", "X-User") as (process, said):
        assert str(path) in said
        assert Path(path).stat().st_mode & 0o777 == 0o660
        until = time.monotonic() + 30
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path), retries=3), base_url="http://x") as browser:
            assert browser.get("/", headers={"X-User": "anna"}, timeout=until - time.monotonic()).status_code == 200
            assert browser.get("/accounting.json", headers={"X-User": "anna"}).status_code == 403
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert not path.exists()


@pytest.fixture
def served(site, run, monkeypatch):
    """Runs the command up to where it would wait for requests; gives what it says, and how it would serve."""
    asked = []

    def serving(_made, opened, ask):
        asked.append(ask)
        opened.close()

    monkeypatch.setattr(serve, "run", serving)

    def command(*options, before=()):
        status, out, errors = run("-c", site.root / "jobeff.toml", *before, "serve", *options)
        assert status == 0, errors
        return out, errors, asked[-1]

    return command


def test_what_is_said_of_where_it_serves(served, tmp_path):
    out, errors, ask = served("--port", "0")
    assert re.fullmatch(rf"serving http://127.0.0.1:{ask.port}/\?key=\S{{20,}}   .*\n", out)
    assert errors == ""
    out, errors, ask = served("--port", "0", before=["--json"])
    assert json.loads(out)["url"].startswith(f"http://127.0.0.1:{ask.port}/?key=")
    assert "?key=" in served("--port", "0", before=["-q"])[0], "without it nobody gets in"
    out, errors, ask = served("--port", "0", "--host", "::1", "--base-url", "eff", "--user-header", "X-User")
    assert out.startswith(f"serving http://[::1]:{ask.port}/eff/   ")
    assert "can pretend to be anybody; --socket leaves them out" in errors
    out, errors, ask = served("--port", "0", "--user-header", "X-User", before=["-q"])
    assert (out, "pretend to be anybody" in errors) == ("", True)
    path = tmp_path / "web.sock"
    out, errors, ask = served("--socket", path, "--user-header", "X-User")
    assert (out.startswith(f"serving {path}, addresses begin with /   "), errors, ask.socket) == (True, "", path)


def test_a_socket_file_that_is_none_or_is_taken_is_left_alone(tmp_path):
    path = tmp_path / "web.sock"
    path.write_text("mine")
    with pytest.raises(JobeffError, match="there is a file that is no socket"):
        serve.listen(serve.Ask(socket=path))
    assert path.read_text() == "mine"
    path.unlink()
    with serve.listen(serve.Ask(socket=path)), pytest.raises(JobeffError, match="Is it running already"):
        serve.listen(serve.Ask(socket=path))


def written(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pages_as_files_lead_to_each_other(site, tmp_path, run):
    folder = tmp_path / "pages"
    status, said, _ = run("-c", site.root / "jobeff.toml", "report", "--html", folder, "--jobs", 5)
    assert status == 0 and "index.html" in said
    files = written(folder)
    assert len([name for name in files if name.startswith("job/")]) >= 5
    projects = {row["proj_id"] for row in _rows(site.root, "select proj_id from jobs where nodes <> ''")}
    assert len([name for name in files if name.startswith("project/")]) == len(projects)
    for name, content in files.items():
        if name.endswith(".html"):
            text = content.decode()
            assert "http:" not in text and "https:" not in text and "Content-Security-Policy" in text
            for link in re.findall(r'(?:href|src)="([^"#][^"]*)"', text):
                if not link.startswith("data:"):
                    assert ((folder / name).parent / link.partition("?")[0]).resolve().is_file(), (name, link)
    assert "<img src=x" not in "".join(content.decode("utf-8", "replace") for content in files.values())
    assert {path.stat().st_mode & 0o007 for path in folder.rglob("*")} == {0}


def test_old_pages_go_and_nothing_else(site, tmp_path, run):
    folder = tmp_path / "pages"
    command = ("-c", site.root / "jobeff.toml", "-q", "report", "--html", folder)
    assert run(*command, "--jobs", 5)[0] == 0
    before = written(folder)
    (folder / "job" / "mine.html").write_text("mine")
    (tmp_path / "outside.html").write_text("outside")
    listed = folder / ".jobeff-pages.json"
    listed.write_text(
        listed.read_text().replace('"files": [', '"files": ["job/../../outside.html", "../outside.html", ')
    )
    assert run(*command, "--jobs", 0)[0] == 0
    after = written(folder)
    assert {name for name in before if name.startswith("job/")} & set(after) == set()
    assert after["job/mine.html"] == b"mine" and (tmp_path / "outside.html").exists()
    assert set(after) - set(before) == {"job/mine.html"}


def test_a_folder_of_others_is_left_as_it_is(site, tmp_path, run):
    (tmp_path / "index.html").write_text("theirs")
    status, _, errors = run("-c", site.root / "jobeff.toml", "report", "--html", tmp_path)
    assert status == 2 and "has not written" in errors
    assert written(tmp_path) == {"index.html": b"theirs"}


def test_files_without_names(site, tmp_path, run):
    folder = tmp_path / "pages"
    assert run("-c", site.root / "jobeff.toml", "report", "--html", folder, "--anonymous")[0] == 0
    rows = _rows(site.root, "select * from jobs where nodes <> ''")
    text = " ".join(name + content.decode() for name, content in written(folder).items() if name.endswith("html"))
    assert "project-" in text and "user-" in text
    for column in ("proj_id", "user", "job_id"):
        for value in {str(row[column]) for row in rows}:
            assert not re.search(rf"\b{re.escape(value)}\b", text), value
    assert not (folder / "job").exists()


def test_times_of_files_without_names_tell_no_order_of_names(site, tmp_path, run, monkeypatch):
    put, order = static_site._put, []
    monkeypatch.setattr(static_site, "_put", lambda path, content: (order.append(path.name), put(path, content)))
    assert run("-c", site.root / "jobeff.toml", "report", "--html", tmp_path / "pages", "--anonymous")[0] == 0
    projects = [name for name in order if name.startswith("project-")]
    assert projects == sorted(projects) and len(projects) > 2 and order[-2] == "index.html"


def test_days_of_files(site, tmp_path, run):
    day = site.hostile["date"]
    folder = tmp_path / "pages"
    assert run("-c", site.root / "jobeff.toml", "report", "--html", folder, "--since", day, "--until", day)[0] == 0
    [expected] = _rows(site.root, f"select count(*) as n from jobs where nodes <> '' and date = '{day}'")
    assert f"<dd>{expected['n']:,}</dd>" in (folder / "index.html").read_text()


@pytest.mark.parametrize(
    "arguments", [["--since", "2024-01-01"], ["--html", "x", "project"], ["--anonymous", "project"]]
)
def test_options_that_do_not_fit_are_said(site, run, arguments):
    status, _, errors = run("-c", site.root / "jobeff.toml", "report", *arguments)
    assert status == 2 and "--html" in errors


# What goes wrong while a page is made


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (sqlite3.OperationalError("disk I/O error"), 503, "OperationalError: disk I/O error"),
        (OSError(5, "Input/output error"), 503, "OSError: [Errno 5] Input/output error"),
        (JobeffError("cannot read x.sqlite", why="malformed"), 500, "annot read x.sqlite: malformed"),
    ],
)
def test_the_cause_of_a_failure_is_for_staff_and_all_are_told_what_to_do(behind, monkeypatch, error, status, said):
    def fail(*_):
        raise error

    monkeypatch.setattr(routes, "_visible", fail)
    theirs, staff = (get(behind, "/search?q=1", x_user=name) for name in ("anna", "boss"))
    assert (theirs.status_code, staff.status_code) == (status, status)
    assert said in html.unescape(staff.text)
    assert said not in html.unescape(theirs.text)
    todo = "The site's staff can find out why" if status == 500 else "try again in a minute"
    assert todo in html.unescape(theirs.text)


def test_one_id_on_two_clusters_is_asked_about(site, tmp_path):
    root = tmp_path / "site"
    shutil.copytree(site.root / "db", root / "db", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(site.root / "jobeff.toml", root)
    job_id, cluster = site.other["job_id"], site.other["cluster"]
    with contextlib.closing(sqlite3.connect(root / "db" / "accounting.sqlite")) as connection, connection:
        names = ", ".join(row[1] for row in connection.execute("pragma table_info(jobs)") if row[1] != "seq")
        other = names.replace("cluster", "'zz'", 1)
        connection.execute(f"insert into jobs ({names}) select {other} from jobs where job_id = {job_id}")
    page = get(serve.make(configuration.load(root / "jobeff.toml"), serve.Ask()), f"/search?q={job_id}")
    assert (page.status_code, "2 jobs have that id" in page.text) == (200, True)
    assert all(f'href="/job/{name}/{job_id}"' in page.text for name in (cluster, "zz"))


def test_another_datasette_in_the_same_process_is_left_alone():
    """The plugin is found by all of a machine's; only our own has our pages and our guard."""
    other = Datasette(memory=True)
    assert (plugin.register_routes(other), plugin.actor_from_request(other, None)) == ([], None)
    assert plugin.asgi_wrapper(other)(get) is get
    assert plugin.permission_allowed(other, None) is None
    assert plugin.render_cell({}, 1, "job_id", "jobs", "accounting", other) is None


def test_what_is_known_of_projects_where_a_database_is_empty_or_gone(site, tmp_path):
    root = tmp_path / "site"
    shutil.copytree(site.root / "db", root / "db", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(site.root / "jobeff.toml", root)
    config = configuration.load(root / "jobeff.toml")
    project = site.other["proj_id"]
    names = {name for name, _ in about.updates(config)}
    whole = dict(about.project(config, project))
    assert {"principal investigator", "runs"} <= whole.keys()
    assert any(name.startswith("30 days on ") for name in whole)
    (root / "db" / "projects.sqlite").write_bytes(b"")
    (root / "db" / "current_projects.sqlite").unlink()
    assert {name for name, _ in about.updates(config)} < names


# Connections


def test_a_connection_on_which_nobody_asks_is_closed_and_no_other(monkeypatch):
    monkeypatch.setattr(patience, "REQUEST_S", 0.05)
    idle_is_closed = asyncio.Event()

    async def app(_scope, _receive, send):
        await idle_is_closed.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def ask():
        config, state = uvicorn.Config(app, lifespan="off"), ServerState()
        config.load()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: patience.Patience(config, state, {}), "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            streams = [await asyncio.open_connection(*address) for _ in range(3)]
            (reader, asking), (nothing, _), (cut, begun) = streams
            asking.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            begun.write(b"GET / HTTP/1.1\r\nhost:")
            assert [await nothing.read(), await cut.read()] == [b"", b""]
            idle_is_closed.set()
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            for _, writer in streams:
                writer.close()

    asyncio.run(asyncio.wait_for(ask(), 60))
