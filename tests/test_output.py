"""Where output goes: who reads it may stop, the disk it goes to may be full, what it shows is cut and escaped."""

import os
import subprocess
import sys

import pytest
import sites

from jobeff.errors import MESSAGE_CHARACTERS, JobeffError, printable
from jobeff.store import tables

COMMANDS = [
    "--help",
    "--version",
    "report --help",
    "report project",
    "--json report project",
    "sql select+1",
    "load slurm",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    sites.make(root)
    for name in ("accounting", "efficiency"):
        tables.open_database(tables.database(root, name), name).close()
    return root


def jobeff(site, command, **streams):
    arguments = [word.replace("+", " ") for word in command.split()]
    environment = os.environ | {"JOBEFF_CONFIG": str(site / "jobeff.toml")}
    return subprocess.run([sys.executable, "-m", "jobeff", *arguments], env=environment, check=False, **streams)


@pytest.fixture
def closed():
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("command", COMMANDS)
def test_who_reads_may_stop(site, closed, command):
    done = jobeff(site, command, stdout=closed, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("closing", "command"), [(">&-", "report project"), ("2>&-", "nonsense"), ("<&- >&- 2>&-", "compute")]
)
def test_closed_streams_go_nowhere(site, closing, command):
    """Or the next file that is opened would be them."""
    words = f"exec {sys.executable} -m jobeff -c {site}/jobeff.toml --workers 0 {command} {closing}"
    done = subprocess.run(["sh", "-c", words], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2 * (command == "nonsense"), b"", b"")


def test_who_reads_errors_may_stop_and_the_work_goes_on(site, closed):
    done = jobeff(site, "load slurm --replace", stdout=subprocess.PIPE, stderr=closed)
    assert done.returncode in (0, 3)
    assert done.stdout.startswith(b"step")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_1_and_one_line(site, command):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = jobeff(site, command, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == done.stderr.count(b"No space left on device") == 1


def test_what_should_not_happen_is_one_line(run, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("\x1b[31m" + 1000 * "x")

    monkeypatch.setattr("jobeff.config.find", fails)
    status, out, told = run("report", "project")
    assert (status, out, told.count("\n")) == (1, "", 1)
    assert told.startswith("jobeff: error: this should not have happened: ZeroDivisionError: \\x1b[31mxxx")
    assert len(told) < 500
    status, _, told = run("-v", "report", "project")
    assert (status, told.splitlines()[0]) == (1, "Traceback (most recent call last):")
    assert max(map(len, told.splitlines())) < 500
    assert "\x1b" not in told


@pytest.mark.parametrize(
    "text", ["a b", "a\nb", "\x1b[31m", "\x9b", "\u202e", "\udcff", "å", "\u2028", "\0", "x" * 5000, "\x7f\x08"]
)
def test_messages_are_printable_and_short(text):
    said = printable(str(JobeffError("what", where=text)))
    assert said.isprintable()
    assert len(said) <= MESSAGE_CHARACTERS + 3
    said.encode()
