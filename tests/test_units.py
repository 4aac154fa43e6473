"""Cron lines and systemd units: they are valid, and what they call is there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from jobeff.cli import cli

SCRIPTS = Path(__file__).parents[1] / "scripts"
UNITS = sorted((SCRIPTS / "systemd").iterdir())
INSTANCES = {"jobeff-load@": ("slurm", "projects", "storage", "corehours"), "jobeff@": ("collect", "summarise")}
PROGRAM = "/opt/jobeff/.venv/bin/jobeff"


def instances(unit):
    """Names under which a unit can be started."""
    stem, dot, suffix = unit.name.partition(".")
    return [stem + instance + dot + suffix for instance in INSTANCES.get(stem, ("",))]


def called():
    """Commands that the examples call, as lists of words."""
    for line in (SCRIPTS / "crontab").read_text().splitlines():
        if "* * *" in line:
            yield from (words.split() for words in re.findall(r"jobeff -q ([a-z -]+[a-z])", line))
    for unit in UNITS:
        for command in re.findall(f"^ExecStart={PROGRAM} (.*)", unit.read_text(), re.MULTILINE):
            for instance in instances(unit):
                yield command.replace("%i", instance.partition("@")[2].partition(".")[0]).split()


@pytest.mark.parametrize("words", list(called()), ids=" ".join)
def test_what_is_called_is_there(words):
    command = cli
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    assert not isinstance(command, click.Group)


def test_each_loader_and_all_of_them_can_be_called():
    words = [" ".join(words) for words in called()]
    for command in ("update", *(f"load {name}" for name in cli.commands["load"].commands)):
        assert words.count(command) == 2, command


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_unit(tmp_path, unit):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on this machine")
    for other in UNITS:
        for name in instances(other):
            (tmp_path / name).write_text(other.read_text().replace(PROGRAM, sys.executable))
    for name in instances(unit):
        done = subprocess.run(
            ["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True, check=False
        )
        assert (done.returncode, [line for line in done.stderr.splitlines() if "jobeff" in line]) == (0, [])
