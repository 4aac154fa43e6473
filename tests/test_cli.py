"""The command line: what it prints, how it exits, and a whole site from demo to report."""

import importlib
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time

import click
import naive
import pytest
import sites
from strategies import PLAIN, local_time
from test_chain import MONTH_END, assert_same, efficiency

from jobeff import config
from jobeff.bench import run as benchmark
from jobeff.cli import cli, main
from jobeff.steps.update import update

START = MONTH_END
HOSTILE = 'a\x1b[31m<b> \u202e=cmd|" jobstate=FAILED username=root'


def usage(rows, first=START):
    lines = [f"{local_time(t)} {t} 8.0 1.25 0.0 50.0" for t in range(first, first + 300 * rows, 300)]
    return "\n".join([PLAIN, *lines, ""]).encode()


def a_job(job_id, start=START, length=900, nodes=("n1",)):
    return naive.Job("c1", job_id, "p", "u", start, start + length, 1, "COMPLETED", nodes)


TEXTS = {1: usage(3), 5: usage(2, START + 9), 6: usage(3) + usage(3, START + 7200)}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A site with a job of each kind; nobody changes it. Gives its configuration."""
    site = sites.make(tmp_path_factory.mktemp("small") / "site")
    jobs = [
        *(a_job(1), a_job(2, length=20), a_job(3, nodes=()), a_job(4)),
        *(a_job(5, START, 100, ("n2",)), a_job(5, START + 9, 900)),
        *(a_job(6), a_job(6, START + 7200)),
    ]
    sites.Night(jobs, [naive.RawFile("c1", "n1", i, text) for i, text in TEXTS.items()]).fall(site.root, "day")
    log = site.root / "slurm" / "accounting" / "day"
    log.write_text(log.read_text().replace("jobname=x", f"jobname={HOSTILE}"))
    update(site)
    return site.config.file


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The site of ``jobeff demo``, with all that is in it after an update, by way of the command line."""
    folder = tmp_path_factory.mktemp("demo") / "site"
    command = [sys.executable, "-m", "jobeff", "--workers", "0"]
    made = subprocess.run([*command, "demo", folder, "--jobs", "300", "--nodes", "8", "--days", "5"], check=True)
    updated = subprocess.run([*command, "-c", folder / "jobeff.toml", "update"], capture_output=True, check=False)
    assert (made.returncode, updated.returncode) == (0, 0), updated.stderr
    return folder


HOLDER = """
import pathlib, sys
from jobeff.store.locks import lock
with lock(pathlib.Path(sys.argv[1]), sys.argv[2]):
    print(flush=True)
    input()
"""

# Help


def commands(group=cli, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", [(), *(path for path, _ in commands())], ids=" ".join)
def test_help(run, path):
    code, out, err = run(*path, "--help")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100


def examples_of(run, path):
    """The examples in a command's help."""
    examples = re.findall(
        r"\bjobeff [^;\n]+", re.split(r"Examples?\b|To try it", run(*path, "--help")[1], maxsplit=1)[-1]
    )
    return [re.split(r" >>? ", example)[0] for example in examples if " ".join(path) in example]


@pytest.mark.parametrize("command", ["job", "plot", "top", "report", "sql", "export raw", "export efficiency"])
def test_who_pastes_an_example_at_the_demo_site_sees_something(run, demo, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBEFF_CONFIG", str(demo / "jobeff.toml"))
    paths = [path for path, leaf in commands() if " ".join(path).startswith(command) and not hasattr(leaf, "commands")]
    examples = {example for path in {tuple(command.split()), *paths} for example in examples_of(run, path)}
    for example in examples - {"jobeff sql"}:  # which asks
        code, out, _ = run("--workers", "0", *shlex.split(example)[1:])
        assert (code, bool(out)) == (0, True), example


@pytest.mark.parametrize(
    "path", [(), *(path for path, command in commands() if not isinstance(command, click.Group))], ids=" ".join
)
def test_the_examples_of_the_help_can_be_run(run, monkeypatch, path):
    """Each is parsed to its end; only what the command then does is left out."""
    examples = examples_of(run, path)
    assert examples
    for _, leaf in commands():
        if not isinstance(leaf, click.Group):
            monkeypatch.setattr(leaf, "callback", lambda **_: None)
    for example in examples:
        assert run(*shlex.split(example)[1:])[0] == 0, example


# Exit status


@pytest.mark.parametrize(
    "arguments",
    [["--nonsense"], ["nonsense"], ["demo"], ["--workers", "-1", "update"], ["report", "project", "--since", "x"]],
)
def test_wrong_usage_is_2(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("top --min-core-hours nan", "'nan' is not a finite number. 'jobeff top --help' says more"),
        ("size --nodes 1 --jobs 1 --years nan", "'nan' is not a finite number. 'jobeff size --help' says more"),
        ("load slurm --pause inf", "is not in the range 0<=x<=3600. 'jobeff load slurm --help' says more"),
        ("job ''", "not a job: an empty id. Give a job id"),
        ("report project x", "extra argument (x). 'jobeff report project --help' says more"),
        ("report project --csv --parquet x.parquet", "give --csv or --parquet FILE, not both. 'jobeff report project"),
        ("top --csv --parquet x.parquet", "give --csv or --parquet FILE, not both. 'jobeff top --help' says more"),
        ("serve --user-header", "requires an argument. 'jobeff serve --help' says more"),
        ("slurm resume", "all have ended. Nothing was done. See 'jobeff slurm status'"),
        ("slurm cancel nope", "there is no run nope. Nothing was done. See 'jobeff slurm status'"),
        ("load slurm --cluster nope FILE", "there is no cluster nope. Nothing was loaded. Known are snowy; "),
        ("export databases FILE", "is a file. 'jobeff export databases --help' says more"),
        ("export raw --sqlite FILE", "is a file. 'jobeff export raw --help' says more"),
        ("report --html FILE", "is a file. 'jobeff report --help' says more"),
        ("report --html FOLDER --since 2090-01-01", "Say an earlier --since, or a later --until"),
    ],
)
def test_wrong_usage_says_what_to_do(run, demo, tmp_path, command, told):
    (tmp_path / "file").write_text("")
    words = [{"FILE": tmp_path / "file", "FOLDER": tmp_path / "pages"}.get(word, word) for word in shlex.split(command)]
    code, out, err = run("-c", demo / "jobeff.toml", "--workers", 0, *words)
    assert (code, out) == (2, "")
    assert told in err


ALWAYS = [
    "update", "collect", "ingest", "compute", "summarise", "rebuild", "check", "repair", "load slurm", "job 1",
    "report project",
]  # fmt: skip
"""Commands for which any site has enough."""

COMMANDS = [
    *(*ALWAYS, "sql x", "import x"),
    *(f"load {source}" for source in ("projects", "storage", "corehours")),
    *(f"export {what} x" for what in ("general", "efficiency", "raw --sqlite", "databases")),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_configuration_it_is_10(run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOBEFF_CONFIG", raising=False)
    code, out, err = run(*command.split())
    assert (code, out, err.count("\n")) == (10, "", 1)
    assert err.startswith("jobeff: error: there is no configuration at jobeff.toml: no such file. Nothing was done. ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_configuration_that_is_wrong_is_2(run, tmp_path, command):
    (tmp_path / "x.toml").write_text("colour = 1")
    code, _, err = run("-c", tmp_path / "x.toml", *command.split())
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("command", ["collect", "compute", "summarise", "rebuild", "job 1", "report project"])
def test_before_anything_is_loaded_it_is_1(run, tmp_path, command):
    root = sites.make(tmp_path).root
    code, out, err = run("-c", root / "jobeff.toml", "--workers", 0, *command.split())
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "'jobeff update' makes it" in err


def test_with_something_set_aside_it_is_3(run, tmp_path):
    root = sites.make(tmp_path).root
    (root / "slurm" / "accounting" / "day").write_text("\x1b[31m\n" + sites.accounting_line(a_job(1)))
    code, out, err = run("-c", root / "jobeff.toml", "--workers", 0, "load", "slurm")
    assert code == 3
    assert out.splitlines()[1].split()[:-1] == ["load", "slurm", "1", "0", "0", "1"]
    assert err.splitlines()[0] == "jobeff: set aside: 1 x accounting line"
    assert err.splitlines()[1].startswith(f"  {root}/slurm/accounting/day:1: ")
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("command", "target"),
    [("load slurm", "accounting"), ("collect", "archive"), ("ingest", "shards"), ("compute", "efficiency"),
     ("compute --all", "efficiency"), ("rebuild", "shards"), ("rebuild", "efficiency"), ("update", "archive")],
)  # fmt: skip
def test_what_another_process_writes_is_11(run, tmp_path, command, target):
    root = sites.make(tmp_path).root
    sites.write_log(root, "day", [a_job(1)])
    assert run("-c", root / "jobeff.toml", "-q", "load", "slurm") == (0, "", "")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, root, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        code, out, err = run("-c", root / "jobeff.toml", "-q", "--workers", 0, *command.split())
        assert (code, out, err.count("\n")) == (11, "", 1)
        assert re.search(rf"another run is writing {target} .*process {other.pid} on \S+ since 2\d{{3}}-", err)
        other.kill()
    assert run("-c", root / "jobeff.toml", "-q", "--workers", 0, *command.split())[0] == 0


def test_a_full_disk_is_1_and_one_line(run, tmp_path, monkeypatch):
    root = sites.make(tmp_path).root
    sites.Night([a_job(1)], [naive.RawFile("c1", "n1", 1, usage(3))]).fall(root, "day")
    assert run("-c", root / "jobeff.toml", "-q", "load", "slurm")[0] == 0

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = run("-c", root / "jobeff.toml", "-q", "collect")
    assert (code, err.count("\n")) == (1, 1)
    assert "No space left on device" in err
    assert str(root) in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_so_and_leaves_no_process(demo, tmp_path, number, code):
    root = shutil.copytree(demo, tmp_path / "site")
    command = [sys.executable, "-m", "jobeff", "-c", root / "jobeff.toml", "--workers", "2", "-q", "update"]
    ended = 0
    while ended == 0:  # it was done before the signal came
        for view in ("archive", "shards", "db"):
            shutil.rmtree(root / view)
        with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as run:
            while not (root / "archive").exists():
                time.sleep(0.001)
            run.send_signal(number)
            ended = run.wait(10)
            error = run.stderr.read()  # ends when the last process that has it open is gone
    assert ended == code
    assert b"Traceback" not in error
    again = subprocess.run(command, check=False)
    assert again.returncode == 0
    assert len(efficiency(root)) == len(efficiency(demo))


# Output


def test_every_result_can_be_had_as_json(run, small, tmp_path):
    root = shutil.copytree(small.parent, tmp_path / "site")
    for command in (*ALWAYS, "compute --all", "load corehours", "job c1/5 --samples", "job 3"):
        code, out, err = run("-c", root / "jobeff.toml", "--workers", 0, "--json", *command.split())
        assert (code, isinstance(json.loads(out), list | dict)) == (0, True), (command, err)
    code, out, _ = run("--json", "demo", tmp_path / "demo", "--jobs", 5)
    assert json.loads(out)["jobs"] >= 5
    code, out, _ = run("--json", "-c", tmp_path / "new.toml", "init")
    assert json.loads(out) == {"file": str(tmp_path / "new.toml"), "clusters": []}


def test_what_was_set_aside_is_in_the_json(run, tmp_path):
    root = sites.make(tmp_path).root
    (root / "slurm" / "accounting" / "day").write_text("nonsense\n")
    code, out, _ = run("-c", root / "jobeff.toml", "--json", "load", "slurm")
    [step] = json.loads(out)
    assert (code, step["step"], step["set_aside"]) == (3, "load slurm", {"accounting line": 1})
    assert step["examples"][0]["where"] == f"{root}/slurm/accounting/day:1"


@pytest.mark.parametrize("command", ["update", "ingest"])
def test_quiet_is_quiet(run, small, tmp_path, command):
    root = shutil.copytree(small.parent, tmp_path / "site")
    assert run("-c", root / "jobeff.toml", "--workers", 0, "-q", command) == (0, "", "")


def test_an_error_shows_its_traceback_when_asked_to(small, run):
    code, _, err = run("-v", "-c", small, "job", "99")
    assert code == 1
    assert "Traceback" in err
    assert "jobeff: error: accounting does not know job 99" in err


def test_files_are_not_for_others(small):
    for folder in ("archive", "shards", "db"):
        for path in (small.parent / folder, *(small.parent / folder).rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o750 if path.is_dir() else 0o640), path


# job


def test_job(run, small):
    code, out, err = run("-c", small, "job", 1)
    assert (code, err) == (0, "")
    lines = {line[2:14].strip(): line[14:] for line in out.splitlines()[1:]}
    assert out.startswith("c1/1  ")
    assert lines["ran"] == "2021-06-01 00:00:00 to 2021-06-01 00:15:00 (00:15:00)"
    assert lines["booked"] == "1 core on 1 node: n1"
    assert lines["cpu"] == "50.0 % of the booked cores"
    assert lines["memory"].startswith("1.25 GiB at most of 8.00 GiB (16 %)")
    assert lines["coverage"] == "complete: 3 rows"
    assert lines["flags"] == "none"


@pytest.mark.parametrize(
    ("job_id", "why"), [(2, "too short"), (3, "never started"), (4, "no raw file with a valid row")]
)
def test_a_job_without_samples_says_why(run, small, job_id, why):
    code, out, _ = run("-c", small, "job", job_id)
    assert code == 0
    assert re.search(rf"coverage +none: .*{why}", out)


def test_too_short_is_by_the_interval_of_the_cluster(run, small, tmp_path):
    root = shutil.copytree(small.parent, tmp_path / "site")
    (root / "jobeff.toml").write_text((root / "jobeff.toml").read_text() + "interval = 1000\n")
    assert "too short" in run("-c", root / "jobeff.toml", "job", 4)[1]


def test_all_attempts_of_a_job_are_shown(run, small):
    out = run("-c", small, "job", "c1/6")[1]
    titles = [line for line in out.splitlines() if line.startswith("c1/6  ")]
    assert [title[-14:] for title in titles] == ["attempt 1 of 2", "attempt 2 of 2"]
    assert "00:00:00 to 2021-06-01 00:15:00" in out
    assert "02:00:00 to 2021-06-01 02:15:00" in out


@pytest.mark.parametrize(
    ("job", "code"), [("99", 1), ("c2/1", 1), ("x", 2), ("007", 2), ("../1", 2), ("c1/", 2), ("-1", 2)]
)
def test_a_job_that_is_not_known(run, small, job, code):
    found, out, err = run("-c", small, "job", job)
    assert (found, out) == (code, "")
    assert err


def test_numbers_are_explained_of_the_attempts_that_have_some(run, small):
    code, out, _ = run("-c", small, "job", "5")
    assert out.count("attempt") >= 2
    code, out, err = run("-c", small, "job", "5", "--why", "cpu_mean")
    assert (code, out.count("cpu_mean = "), err) == (0, 1, "")


def test_a_hostile_name_is_escaped(run, small):
    out = run("-c", small, "job", 1)[1]
    assert out.replace("\n", "").isprintable()
    assert out.splitlines()[0] == "c1/1  " + HOSTILE.encode("unicode_escape").decode()
    assert "root" not in "".join(out.splitlines()[1:])
    assert json.loads(run("-c", small, "--json", "job", 1)[1])[0]["accounting"]["jobname"] == HOSTILE


def test_the_samples_of_a_job(run, small):
    rows = run("-c", small, "job", 1, "--samples")[1].splitlines()[-4:]
    assert rows[0].split() == ["node", "time", "limit", "used", "max", "swap", "cpu", "cores"]
    assert rows[1].split() == ["n1", "06-01", "00:00:00", "8", "1.25", "-", "0", "50", "50"]
    samples = json.loads(run("-c", small, "--json", "job", 1, "--samples")[1])[0]["samples"]
    assert [sample["time"] for sample in samples] == [START, START + 300, START + 600]
    assert {**samples[0], "time": 0} == {
        **{"node": "n1", "time": 0, "limit_gib": 8, "used_gib": 1.25, "max_used_gib": None, "swap_gib": 0},
        "cores_pct": [50],
    }


@pytest.mark.parametrize("job_id", [1, 6])
def test_the_raw_text_of_a_job_is_verbatim(small, capsysbinary, job_id):
    with pytest.raises(SystemExit):
        main(["-c", str(small), "job", str(job_id), "--raw"])
    assert capsysbinary.readouterr().out == f"==> c1/n1/{job_id} <==\n".encode() + TEXTS[job_id]


def test_the_raw_text_is_that_of_all_nodes_and_attempts(small, capsysbinary):
    """The first attempt ran on a node without a file, the second on another."""
    with pytest.raises(SystemExit):
        main(["-c", str(small), "job", "5", "--raw"])
    assert capsysbinary.readouterr().out == b"==> c1/n1/5 <==\n" + TEXTS[5]


# init


def slurm_root(folder):
    for path in (
        "rackham/accounting",
        "rackham/uppmax_jobstats",
        "snowy.x/extended_uppmax_jobstats",
        "etc/x",
        "a b/accounting",
    ):
        (folder / path).mkdir(parents=True)
    (folder / "rackham" / "grantfile").touch()
    return folder


def test_init_finds_the_clusters(run, tmp_path):
    slurm, file = slurm_root(tmp_path / "slürm"), tmp_path / "jobeff.toml"
    assert run("-c", file, "init", "--slurm-root", slurm)[0] == 0
    found = config.load(file).clusters
    assert list(found) == ["rackham", "snowy.x"]
    assert found["rackham"] == config.Cluster(
        name="rackham",
        accounting=(slurm / "rackham" / "accounting",),
        jobstats=(slurm / "rackham" / "uppmax_jobstats",),
        grants=slurm / "rackham" / "grantfile",
    )
    assert found["snowy.x"].jobstats == (slurm / "snowy.x" / "extended_uppmax_jobstats",)


def test_init_writes_an_example(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("init")[0] == 0
    assert list(config.load(tmp_path / "jobeff.toml").clusters) == ["rackham"]


def test_init_writes_over_nothing_unless_told_to(run, tmp_path):
    file = tmp_path / "jobeff.toml"
    file.write_text("mine")
    code, _, err = run("-c", file, "init")
    assert (code, file.read_text()) == (2, "mine")
    assert "--force" in err
    assert run("-c", file, "init", "--force")[0] == 0
    assert config.load(file)


@pytest.mark.parametrize("slurm", ["missing", "empty"])
def test_init_where_there_is_no_cluster(run, tmp_path, slurm):
    (tmp_path / "empty").mkdir()
    code, _, err = run("-c", tmp_path / "x.toml", "init", "--slurm-root", tmp_path / slurm)
    assert (code, err.count("\n")) == (1, 1)
    assert not (tmp_path / "x.toml").exists()


# The whole


def test_the_demo_site_comes_out_as_it_was_made(demo):
    truth = [json.loads(line) for line in (demo / "truth.jsonl").read_text().splitlines()]
    assert len(truth) > 100
    assert_same(efficiency(demo), {(row["cluster"], row["job_id"], row["start"]): row for row in truth})


def test_the_demo_site_in_other_ways(demo, run, tmp_path):
    root = shutil.copytree(demo, tmp_path / "site")
    before = efficiency(root)
    for command in ("update", "rebuild", "compute --all"):
        assert run("-c", root / "jobeff.toml", "--workers", 2, "-q", *command.split()) == (0, "", "")
        assert efficiency(root) == before


def test_a_report(demo, run):
    rows = json.loads(run("-c", demo / "jobeff.toml", "--json", "report", "project")[1])
    jobs = efficiency(demo).values()
    measured = {
        project: [job for job in jobs if job["proj_id"] == project] for project in {job["proj_id"] for job in jobs}
    }
    for row in rows:
        some = measured.get(row["project"], [])
        hours = [job["cores"] * (job["end"] - job["start"]) / 3600 for job in some]
        assert (row["measured"], row["measured_core_hours"] or 0) == (len(some), pytest.approx(sum(hours)))
        if some:
            cpu = sum(job["cpu_mean"] * hour for job, hour in zip(some, hours, strict=True)) / sum(hours)
            assert row["cpu_pct"] == pytest.approx(cpu)
            assert 0 <= row["wasted_core_hours"] <= row["measured_core_hours"] <= row["core_hours"]
    day = ("--since", "2024-03-26", "--until", "2024-03-26")
    rows_of_day = json.loads(run("-c", demo / "jobeff.toml", "--json", "report", "project", *day)[1])
    assert sum(row["measured"] for row in rows_of_day) == sum(job["date_finished"] == day[1] for job in jobs)
    out = run("-c", demo / "jobeff.toml", "report", "project")[1]
    assert out.split()[:2] == ["project", "jobs"]
    assert rows[0]["project"] in out.splitlines()[1]
    assert "No job" in run("-c", demo / "jobeff.toml", "report", "project", "--since", "2030-01-01")[1]


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_report_fits_the_terminal(demo, run, monkeypatch, columns):
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((columns, 24)))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for command in ("report project", "report user", "report node", "top"):
        _, out, _ = run("-c", demo / "jobeff.toml", *command.split())
        assert columns - 20 <= max(map(len, out.splitlines())) <= columns


def test_a_process_that_imports_the_main_module_runs_no_command():
    """As workers do of whatever their parent was started from."""
    assert importlib.import_module("jobeff.__main__").command is importlib.import_module("jobeff.start").command


def test_bench_in_words_in_a_folder_that_is_made_and_left(run, tmp_path, monkeypatch):
    asked = []

    def measured(folder, size, _):
        asked.append((folder.is_dir(), size.days, size.peers))
        return {"days": [3]}

    monkeypatch.setattr(benchmark, "run", measured)
    monkeypatch.setattr(benchmark, "lines", lambda found: [f"{found['days']}", "done"])
    folder = tmp_path / "a" / "b"
    assert run("bench", "--days", 3, "--folder", folder) == (0, "[3]\ndone\n", "")
    assert (asked, folder.is_dir()) == ([(True, (3,), 0)], True)
    assert run("bench", "--folder", folder)[0] != 0  # what is there is left alone
    assert len(asked) == 1


def test_a_quiet_init_says_nothing(run, tmp_path):
    assert run("-q", "-c", tmp_path / "x.toml", "init") == (0, "", "")
    assert (tmp_path / "x.toml").is_file()
