"""What every command does alike: JSON wherever it is asked for, wrong words answered, shells that complete."""

import contextlib
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sites
from click.shell_completion import BashComplete

from jobeff.cli import completing
from jobeff.cli.options import cli
from jobeff.progress import Progress
from jobeff.simulate import DemoOptions, write_site
from jobeff.store import tables


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manners") / "site"
    write_site(folder, DemoOptions(jobs=60, nodes=8, days=3))
    command = [sys.executable, "-m", "jobeff", "-q", "--workers", "0", "-c", folder / "jobeff.toml", "update"]
    subprocess.run(command, check=True)
    return folder


@pytest.mark.parametrize("command", ["report project", "report node", "top", "job 20000001", "check", "sql"])
def test_json_before_and_after_the_command_is_the_same(run, demo, command):
    words = ["sql", "select 1"] if command == "sql" else command.split()
    before = run("-c", demo / "jobeff.toml", "--json", *words)[:2]
    after = run("-c", demo / "jobeff.toml", *words, "--json")[:2]
    assert before == after
    assert json.loads(after[1])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("jbo 1", "jobeff: error: No such command 'jbo'. Did you mean 'job'? 'jobeff --help' says more\n"),
        ("20000001", "jobeff: error: No such command '20000001'. Did you mean 'jobeff job 20000001'? 'jobeff --help' "),
        ("top --since 2024-13-45", "'2024-13-45' is no date. Write it as YYYY-MM-DD"),
        ("report projct", "Did you mean 'project'? 'jobeff report --help' says more\n"),
        ("top --limit x", "'x' is not a whole number. 'jobeff top --help' says more\n"),
        ("job", "jobeff: error: Missing argument '[CLUSTER/]ID...'. 'jobeff job --help' says more\n"),
        ("report project --sinse 1", "'--since'"),
        (
            "report project --since 24-1-1",
            "'24-1-1' is no date. Write it as YYYY-MM-DD, such as 2024-03-31. 'jobeff report ",
        ),
    ],
)
def test_wrong_words_are_one_line_that_says_what_to_do(run, words, says):
    code, out, err = run(*words.split())
    assert (code, out, err.count("\n"), says in err) == (2, "", 1, True), err


def test_no_sentence_of_a_list_of_commands_is_cut(run):
    for words in ((), ("report",), ("load",), ("export",)):
        out = run(*words, "--help")[1]
        assert "..." not in re.split(r"\n(?:Commands|To begin):", out)[1]
        for name in (cli if not words else cli.commands[words[0]]).commands:
            assert re.search(rf"^  {name} ", out, re.MULTILINE), name
        assert max(map(len, out.splitlines())) <= 80 or not words


def completed(folder, words, shell="bash"):
    environment = {
        **{"PATH": "/usr/bin:/bin", "HOME": str(folder), "JOBEFF_CONFIG": str(folder / "jobeff.toml")},
        **{"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_JOBEFF_COMPLETE": f"{shell}_complete"},
    }
    command = [sys.executable, "-c", "from jobeff.cli import main; main([])"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_a_shell_completes_commands_and_what_the_site_knows(demo):
    assert set(completed(demo, "jobeff rep")) == {"report", "repair"}
    assert "20000001" in completed(demo, "jobeff job 2000000")
    assert completed(demo, "jobeff report user --cluster s") == ["snowy"]
    projects = completed(demo, "jobeff report user --project snic")
    assert projects and all(name.startswith("snic2024-5-") for name in projects)
    assert projects == sorted(set(projects))
    assert completed(demo, "jobeff top --flag sev") == ["severely_overbooked"]
    assert completed(demo, "jobeff top --state time") == ["TIMEOUT"]


def test_where_nothing_is_known_nothing_is_offered(tmp_path):
    (tmp_path / "jobeff.toml").write_text("colour = 1")
    assert completed(tmp_path, "jobeff job 2") == []
    assert completed(tmp_path, "jobeff report user --project s") == []
    assert completed(tmp_path, "jobeff report user --cluster s") == []
    site = sites.make(tmp_path / "new")
    assert completed(site.root, "jobeff job 2") == []


def offered(folder, begin, *words):
    """What is offered behind some words, asked for in this process."""
    shell = BashComplete(cli, {}, "jobeff", "_JOBEFF_COMPLETE")
    return [one.value for one in shell.get_completions(["--config", str(folder / "jobeff.toml"), *words], begin)]


def test_job_ids_are_offered_newest_first_and_of_every_length(demo, monkeypatch):
    ids = sorted({row[0] for row in rows_of(demo, "select job_id from jobs")}, reverse=True)
    assert offered(demo, "200000", "job") == [str(one) for one in ids][: completing.MOST]
    assert offered(demo, str(ids[0]), "job") == [str(ids[0])]
    assert offered(demo, "3", "job") == offered(demo, "9" * 18, "job") == offered(demo, "9" * 19, "job") == []
    assert offered(demo, "x", "job") == offered(demo, "\u0662", "job") == offered(demo, "", "job") == []
    monkeypatch.setattr(completing, "MOST", 2)
    assert offered(demo, "2", "job") == [str(one) for one in ids[:2]]


def test_projects_are_offered_in_order_and_not_all_of_many(demo, monkeypatch):
    names = [row[0] for row in rows_of(demo, "select distinct proj_id from jobs order by proj_id")]
    assert offered(demo, "", "report", "user", "--project") == names
    assert offered(demo, names[-1], "report", "user", "--project") == names[-1:]
    assert offered(demo, names[-1] + "x", "report", "user", "--project") == []
    monkeypatch.setattr(completing, "MOST", 2)
    assert offered(demo, "", "report", "user", "--project") == names[:2]


def test_clusters_states_and_flags_are_offered_from_their_beginning(demo):
    assert offered(demo, "s", "report", "user", "--cluster") == ["snowy"]
    assert offered(demo, "x", "report", "user", "--cluster") == []
    assert offered(demo, "c", "top", "--state") == ["CANCELLED", "COMPLETED"]
    flags = offered(demo, "", "top", "--flag")
    assert flags and not any(flag.startswith("!") for flag in flags)
    assert offered(demo, flags[0], "top", "--flag") == [flags[0]]


def test_a_database_that_is_none_offers_nothing_and_says_nothing(tmp_path, capfd):
    site = sites.make(tmp_path / "site")
    path = tables.database(site.root, "accounting")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"no database" * 99)
    assert offered(site.root, "2", "job") == offered(site.root, "s", "report", "user", "--project") == []
    assert offered(tmp_path / "nowhere", "c", "report", "user", "--cluster") == []
    assert capfd.readouterr() == ("", "")


def rows_of(folder, query):
    with contextlib.closing(sqlite3.connect(tables.database(folder, "accounting"))) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("shell", completing.SHELLS)
def test_the_script_of_each_shell(run, shell):
    code, out, err = run("completion", shell)
    assert (code, err, "_JOBEFF_COMPLETE" in out, f"{shell}_complete" in out) == (0, "", True, True)
    assert "%(" not in out


def test_a_bar_tells_rate_and_time_left(monkeypatch):
    import io

    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("jobeff.progress.SHOWN_AFTER_S", -1.0)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(quiet=False).task("walk", 10, "jobs") as advance:
        advance(3)
        advance(2)
    shown = terminal.getvalue()
    assert re.search(r"5/10", shown)
    assert re.search(r"[\d,.]+ jobs/s", shown)
    assert re.search(r"\d:\d\d:\d\d", shown)


def test_long_steps_say_how_far_they_are(run, demo, tmp_path, monkeypatch):
    done = {}

    @contextlib.contextmanager
    def task(_self, what, total, _unit=""):
        done[what] = [total, 0]

        def advance(more):
            done[what][1] += more

        yield advance

    monkeypatch.setattr(Progress, "task", task)
    before = ("-c", demo / "jobeff.toml", "-q", "--workers", 0)
    exports = (["general", tmp_path / "g"], ["efficiency", tmp_path / "e"], ["databases", tmp_path / "d"])
    for words in (["collect"], ["summarise", "--all"], *(["export", *words] for words in exports)):
        assert run(*before, *words)[0] == 0
    site = tmp_path / "site"
    shutil.copytree(demo, site)
    connection = sqlite3.connect(site / "db" / "accounting.sqlite")
    connection.execute("update jobs set user = 'nobody' where seq = 5")
    connection.commit()
    connection.close()
    [shard, *_] = (site / "shards").glob("snowy/*/*.parquet")
    shard.write_bytes(shard.read_bytes()[:-100])
    assert run("-c", site / "jobeff.toml", "-q", "--workers", 0, "repair")[0] == 0
    connection = sqlite3.connect(site / "db" / "efficiency.sqlite")
    [job_id] = connection.execute("select max(job_id) from jobs").fetchone()
    connection.close()
    assert run(*before, "job", job_id)[0] == 0
    said = (
        "collect snowy", "core hours", "core-hour history", "current projects", "export general", "export efficiency",
        "export databases", "check databases", "check", "look again", "repair accounting", "repair archive",
        "repair shards", f"samples of snowy/{job_id}",
    )  # fmt: skip
    assert {what: done[what][0] > 0 and done[what][0] == done[what][1] for what in said} == dict.fromkeys(said, True)


TABLES = [
    "job JOB", "job JOB --samples", "job JOB --why all", "report project", "report project --by week",
    "report user --by month", "report cluster", "report state", "report node", "top", "top project", "top user",
    "top jobname", "check", "summarise", "size --nodes 100 --jobs 1000", "sql 'select * from jobs limit 2'",
    "sql 'select proj_id, count(*) from jobs group by 1'",
]  # fmt: skip


def test_nothing_wraps_in_a_terminal_of_80_columns(demo, tmp_path):
    connection = sqlite3.connect(demo / "db" / "efficiency.sqlite")
    job = str(connection.execute("select job_id from jobs order by nodes_booked desc, cores desc").fetchone()[0])
    connection.close()
    commands = [["-c", str(demo / "jobeff.toml"), *shlex.split(one.replace("JOB", job))] for one in TABLES]
    driver = Path(__file__).with_name("in_terminal.py")
    lines = "".join(f"{json.dumps(words)}\n" for words in commands)
    done = subprocess.run(
        [sys.executable, driver], input=lines, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(TABLES)
    for command, one in zip(TABLES, found, strict=True):
        assert one["code"] == 0, (command, one["out"])
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", one["out"]).replace("\r\n", "\n")
        assert shown.count("\n") > 1, command
        assert max(len(line) for line in re.split(r"[\r\n]", shown)) <= 80, command


def test_a_pipe_gets_neither_bars_nor_colours(demo):
    for words in (["job", "20000001"], ["report", "project"], ["check", "--read-data"], ["summarise", "--all"]):
        command = [sys.executable, "-m", "jobeff", "-c", demo / "jobeff.toml", "--workers", "0", *words]
        done = subprocess.run(command, capture_output=True, check=True)
        assert b"\x1b" not in done.stdout + done.stderr and b"\r" not in done.stdout + done.stderr


def test_no_example_of_help_is_wider_than_a_terminal():
    page = (Path(__file__).resolve().parents[1] / "docs" / "commands.md").read_text()
    assert [line for line in page.splitlines() if len(line) > 80 and not line.startswith("Every command")] == []
