"""The pages in docs/: generated parts are up to date, each query runs, each JSON shape is what is printed."""

import functools
import importlib.machinery
import importlib.util
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import pytest

from jobeff.cli import cli, main
from jobeff.config import load
from jobeff.simulate import DemoOptions, write_site
from jobeff.store.tables import database
from jobeff.views import sql

HERE = Path(__file__).resolve().parents[1]
DOCS = HERE / "docs"
TYPES = {
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "text": lambda value: isinstance(value, str),
    "true or false": lambda value: isinstance(value, bool),
    "anything": lambda _: True,
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "site"
    write_site(folder, DemoOptions(jobs=200, nodes=8, days=5))
    command = [sys.executable, "-m", "jobeff", "-q", "--workers", "0", "-c", folder / "jobeff.toml", "update"]
    subprocess.run(command, check=True)
    return folder


def generator():
    loader = importlib.machinery.SourceFileLoader("docs_script", str(HERE / "scripts" / "docs"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("docs_script", loader))
    loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert [path.name for path in generator().stale()] == [], "run scripts/docs"


@pytest.mark.parametrize("query", re.findall(r"```sql\n(.*?)```", (DOCS / "tables.md").read_text(), re.DOTALL))
def test_queries_of_the_tables(demo, query):
    connection = sql.connect(load(demo / "jobeff.toml"))
    try:
        assert connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("accounting", "jobs"), ("efficiency", "jobs"), ("corehour_usage", "corehour_monthly"),
        ("corehour_usage", "corehour_weekly"), ("corehour_usage", "corehour_daily"),
        ("corehour_history", "corehour_history"), ("storage_history", "storage_history"), ("projects", "projects"),
        ("current_projects", "current_projects"), ("projects", "last_updated"),
    ],
)  # fmt: skip
def test_each_column_is_told_of(demo, name, table):
    connection = sqlite3.connect(database(demo, name))
    columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
    connection.close()
    page = (DOCS / "tables.md").read_text()
    heading = rf"^## [^\n]*\b{name + '.' if name == 'efficiency' else ''}{table}\b.*?(?=^## |\Z)"
    [section] = re.findall(heading, page, re.DOTALL | re.MULTILINE)[:1]
    assert columns
    assert [column for column in columns if f"`{column}`" not in section and f"`{column} " not in section] == []


def fits(value, shape, at):
    """Whether a value is of a shape; the first place where it is not."""
    if isinstance(shape, str):
        kind = shape.removesuffix(" or null")
        return "" if TYPES[kind](value) or (value is None and shape != kind) else f"{at}: {value!r} is not {shape}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{at} is no array"
        return next((wrong for i, one in enumerate(value) if (wrong := fits(one, shape[0], f"{at}[{i}]"))), "")
    if value is None and ("?" in shape or at.endswith("efficiency")):
        return ""
    if not isinstance(value, dict):
        return f"{at} is no object"
    named = {key: one for key, one in shape.items() if key not in ("*", "?")}
    if missing := named.keys() - value.keys():
        return f"{at} has no {missing}"
    if "*" not in shape and (new := value.keys() - named.keys()):
        return f"{at} has {new}, of which docs/json.md does not tell"
    found = (fits(one, named.get(key, shape.get("*")), f"{at}.{key}") for key, one in value.items())
    return next((wrong for wrong in found if wrong), "")


SHAPES = re.findall(r"<!-- jobeff ([^\n]*) -->\n```json\n(.*?)```", (DOCS / "json.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(("command", "shape"), SHAPES, ids=[command for command, _ in SHAPES])
def test_json_is_as_documented(demo, run, tmp_path, monkeypatch, command, shape):
    if command.startswith("plot"):
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    connection = sqlite3.connect(database(demo, "efficiency"))
    jobs = connection.execute("select job_id, proj_id from jobs order by cores desc, job_id limit 12").fetchall()
    connection.close()
    for job_id, project in jobs if " JOB" in command else jobs[:1]:
        words = shlex.split(command.replace("JOB", str(job_id)).replace("PROJECT", project))
        before = [] if words[0] == "-c" else ["-c", demo / "jobeff.toml"]
        code, out, err = run(*before, "--workers", 0, *words, "--json")
        assert code == 0, err
        value = json.loads(out)
        assert value
        assert fits(value, json.loads(shape), "$") == ""


def test_json_of_the_benchmark_is_as_documented(run, monkeypatch):
    """A small one, whose commands run in this process."""
    from jobeff.bench import commands, history, two_cores
    from jobeff.bench import run as benchmark

    def in_process(root, *arguments, cores=None):  # noqa: ARG001
        arguments = ["--workers", "0", *(word for word in arguments if word not in ("--workers", "1", "2"))]
        assert run("-c", root / "jobeff.toml", "-q", *arguments)[0] == 0
        return commands.Run(1.0, 1.0)

    small = functools.partial(benchmark.Size, shape=history.Shape(nodes=20, jobs_per_day=1500), repeat=1)
    monkeypatch.setattr(benchmark, "Size", small)
    monkeypatch.setattr(benchmark, "PLAIN_JOBS", 50)
    monkeypatch.setattr(two_cores, "apart", lambda *_: 1.0)  # in one process only one can run
    monkeypatch.setattr(commands, "jobeff", in_process)
    peers = ["--peers"] if importlib.util.find_spec("polars") else []
    code, out, err = run("bench", "--days", 1, *peers, "--json")
    assert code == 0, err
    [shape] = re.findall(r"<!-- bench -->\n```json\n(.*?)```", (DOCS / "json.md").read_text(), re.DOTALL)
    expected, found = json.loads(shape), json.loads(out)
    if not peers:
        del expected["peers"], expected["alone"]
    assert fits(found, expected, "$") == ""
    found["commands"][0] |= {"days": 384, "text_gb": 12.6, "seconds": 123.4, "mb_s": 12345.6, "peak_mb": 1234.5}
    assert max(len(line) for line in benchmark.lines(found) if line.startswith("|")) <= 80


def test_a_measured_command_prints_nothing(capfd):
    from jobeff.bench import commands

    assert commands.run([sys.executable, "-c", "print('numbers')"]).seconds > 0
    assert capfd.readouterr().out == ""


def test_every_column_of_a_job_in_json_is_one_of_its_table(demo, run):
    connection = sqlite3.connect(database(demo, "efficiency"))
    [(job_id,)] = connection.execute("select job_id from jobs limit 1").fetchall()
    connection.close()
    [found, *_] = json.loads(run("-c", demo / "jobeff.toml", "job", job_id, "--json")[1])
    page = (DOCS / "tables.md").read_text()
    assert [key for part in ("accounting", "efficiency") for key in found[part] if f"`{key}`" not in page] == []


def test_shapes_that_differ_are_found():
    shape = {"a": "integer", "b": ["text or null"]}
    assert fits({"a": 1, "b": ["x", None]}, shape, "$") == ""
    for wrong in ({"a": 1}, {"a": True, "b": []}, {"a": 1, "b": [2]}, {"a": 1, "b": [], "c": 1}, [], {"a": 1, "b": {}}):
        assert fits(wrong, shape, "$") != ""


WALK = re.findall(
    r"^jobeff ([^#\n]*)",
    "".join(re.findall(r"```sh\n(.*?)```", (DOCS / "walk.md").read_text(), re.DOTALL)),
    re.MULTILINE,
)


SHOWN = re.findall(r"<!-- output of: jobeff ([^\n]*) -->", (DOCS / "walk.md").read_text())
"""These are run for their output, which stands in the page."""


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The site of quickstart."""
    folder = tmp_path_factory.mktemp("walk") / "site"
    with pytest.raises(SystemExit):
        main(["-q", "demo", str(folder)])
    with pytest.raises(SystemExit) as done:
        main(["-q", "--workers", "0", "-c", str(folder / "jobeff.toml"), "update"])
    assert done.value.code == 0
    return folder


@pytest.mark.parametrize(
    "words", [shlex.split(words) for words in WALK if words not in SHOWN and words.split()[0] not in ("serve", "init")],
    ids=" ".join,
)  # fmt: skip
def test_commands_of_the_walk_that_show_nothing_there_run(walked, run, tmp_path, monkeypatch, words):
    if words[0] == "plot":
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    code, out, err = run("-c", walked / "jobeff.toml", "--workers", 0, *words)
    assert (code, err) == (0, "")
    if words[0] == "plot":
        assert Path(out.strip()).read_bytes().startswith(b"\x89PNG")
    if "--why" in words:
        assert "archive/snowy/2024-03.txt byte" in out and out.endswith("stored    the same\n")


def test_the_address_that_serve_says_in_the_walk_opens(walked):
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("datasette")
    assert "serve" in WALK
    command = [sys.executable, "-m", "jobeff", "-c", walked / "jobeff.toml", "serve", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            address = re.search(r"http://\S+", server.stdout.readline())[0]
            page = httpx.get(address, follow_redirects=True, timeout=60)
        finally:
            server.terminate()
    assert page.status_code == 200 and "snic2024-5-157" in page.text


@pytest.mark.parametrize("words", [shlex.split(words) for words in WALK], ids=" ".join)
def test_commands_of_the_walk_are_understood(words):
    context = cli.make_context("jobeff", list(words))
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    assert context.command.name in words


def test_links_lead_somewhere():
    for page in [HERE / "README.md", *DOCS.glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), (page.name, link)
