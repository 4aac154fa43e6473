"""How commands end: each way has a status, and says in one line what happened and what to do."""

import errno
import io
import os
import sqlite3
import sys

import click
import pytest

from jobeff.cli import run as runner
from jobeff.cli.options import PipeError, cli
from jobeff.errors import RIGHTS, JobeffError, LockedError

WHOLE = "What is written is whole."
AGAIN = f"{WHOLE} Mend the cause and run again"
MAYBE_DAMAGED = "'jobeff check --read-data' tells whether a file is damaged, 'jobeff repair' mends it"


def raising(monkeypatch, error):
    def main(*_given, **_options):
        raise error

    monkeypatch.setattr(cli, "main", main)


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (SystemExit(4), 4, None),
        (SystemExit(None), 0, None),
        (SystemExit("words"), 1, None),
        (click.Abort(), 130, "interrupted; what was written is whole, run again to go on"),
        (KeyboardInterrupt(), 130, "interrupted; what was written is whole, run again to go on"),
        (JobeffError("cannot go on"), 1, "cannot go on"),
        (LockedError("somebody works"), 11, "somebody works"),
        (OSError(errno.ENOSPC, "No space", "x"), 1, f"cannot go on at {{here}}/x: No space. {AGAIN}"),
        (OSError(errno.EIO, "Bad disk", b"/\xff"), 1, f"cannot go on at /\\udcff: Bad disk. {AGAIN}"),
        (PermissionError(errno.EACCES, "Denied", "/x"), 1, f"cannot go on at /x: Denied. {WHOLE} {RIGHTS}"),
        (OSError("nobody knows where"), 1, f"nobody knows where. {AGAIN}"),
        (sqlite3.OperationalError("disk I/O error"), 1, f"disk I/O error. {AGAIN}. {MAYBE_DAMAGED}"),
        (PipeError("Broken pipe"), 1, "a process that this one works with has gone"),
        (
            ZeroDivisionError("\x1b[31m"), 1,
            "this should not have happened: ZeroDivisionError: \\x1b[31m. What is written is whole. "
            f"{MAYBE_DAMAGED}; if not, run again with -v, and tell those who make jobeff what it says",
        ),
    ],
)  # fmt: skip
def test_each_way_to_end_has_a_status_and_a_line(monkeypatch, capsys, tmp_path, error, status, says):
    monkeypatch.chdir(tmp_path)
    raising(monkeypatch, error)
    assert runner._status(["update"], False) == status
    expected = "" if says is None else f"jobeff: error: {says.format(here=tmp_path)}\n"
    assert capsys.readouterr() == ("", expected)


def test_who_asks_for_it_is_shown_where_it_happened(monkeypatch, run):
    raising(monkeypatch, ZeroDivisionError("\x1b[31m"))
    status, out, said = run("update", "-v")
    lines = said.splitlines()
    assert (status, out, lines[0]) == (1, "", "Traceback (most recent call last):")
    assert any("test_ends.py" in line for line in lines)
    assert lines[-2] == "ZeroDivisionError: \\x1b[31m"
    assert lines[-1].startswith("jobeff: error: this should not have happened")
    assert "Traceback" not in run("update")[2]


def test_long_arguments_are_not_shown_whole(run):
    status, _, said = run("top", "--limit", "x" * 5000)
    assert (status, said.count("\n")) == (2, 1)
    assert 0 < said.count("x") < 300


def test_a_command_that_wants_more_words_shows_its_help(run):
    status, _, said = run("report")
    assert (status, "Usage: jobeff report" in said, "jobeff: error" in said) == (2, True, False)


class Full(io.StringIO):
    """What nothing more can be written to."""

    def __init__(self, error):
        super().__init__()
        self.error, self.file = error, os.open(os.devnull, os.O_WRONLY)

    def flush(self):
        raise self.error

    def fileno(self):
        return self.file


@pytest.mark.parametrize(
    ("error", "before", "after", "says"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, 0, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 3, 3, ""),
        (OSError(errno.ENOSPC, "No space left on device"), 0, 1, "standard output is not whole"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, 3, ""),
    ],
)
def test_output_that_cannot_be_written_any_more(monkeypatch, capsys, error, before, after, says):
    """Who reads only the beginning is no error; a full disk is one."""
    monkeypatch.setattr(sys, "stdout", Full(error))
    with pytest.raises(SystemExit) as done:
        runner._leave(before)
    said = capsys.readouterr().err
    assert (done.value.code, says in said, bool(says) == bool(said)) == (after, True, True)


def test_whether_anybody_reads_a_pipe():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        assert not runner._reader_gone(stream)
        os.close(reader)
        assert runner._reader_gone(stream)
    assert not runner._reader_gone(stream), "it is closed"
    assert not runner._reader_gone(io.StringIO())


def test_a_reader_that_has_gone_is_no_error(monkeypatch, capsys):
    raising(monkeypatch, PipeError("Broken pipe"))
    monkeypatch.setattr(runner, "_reader_gone", lambda stream: stream is sys.stdout)
    assert runner._status(["top"], False) == 0
    assert capsys.readouterr().err == ""


def test_errors_that_nobody_reads_are_no_error_of_their_own(monkeypatch):
    def gone(*_given, **_options):
        raise BrokenPipeError

    monkeypatch.setattr(click, "echo", gone)
    assert runner._fail("something", 3) == 3
    assert runner._status(["no-such-command"], False) == 2
