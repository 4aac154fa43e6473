"""Who may read what we keep: modes whatever the umask, a group where one is named, a warning where others can read."""

import contextlib
import grp
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import sites
from test_chain import efficiency
from test_compute import a_job, files_of

from jobeff.cli import main
from jobeff.errors import RIGHTS, ConfigError
from jobeff.steps.rebuild import rebuild
from jobeff.steps.update import update
from jobeff.store import rights

ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files to any group")
GROUP = "games"
NOBODY = 65_534


def tree(root):
    for name in rights.TOP:
        yield from [root / name, *(root / name).rglob("*")]


@pytest.fixture
def site(tmp_path):
    root = tmp_path / "site"
    sites.make(root)
    shutil.copy(root / "jobeff.toml", root / "slurm" / "accounting" / "junk")  # nothing in it is a job
    return root


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_whatever_the_umask(site, run, umask):
    os.umask(umask)
    assert run("-c", site / "jobeff.toml", "load", "slurm")[0] == 3
    out = site / "out" / "general.sqlite"
    assert run("-c", site / "jobeff.toml", "export", "general", out)[0] == 0
    made = [*(site / "db").rglob("*"), site / "db", out, out.parent]
    assert len(made) > 3
    assert {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in made} == {(True, 0o750), (False, 0o640)}


@pytest.mark.parametrize("too_open", ["db", "db/accounting.sqlite", "shards", "archive/c1", "archive/c1/2021-06.txt"])
def test_what_others_can_read_is_told_with_what_mends_it(site, run, too_open):
    status, _, told = run("-c", site / "jobeff.toml", "load", "slurm")
    assert (status, "warning" in told) == (3, False)
    for name in ("shards", "archive", "archive/c1"):
        (site / name).mkdir(mode=0o750)
    (site / "archive/c1/2021-06.txt").touch(0o640)
    assert rights.check(site, None) == []
    (site / too_open).chmod(0o755)
    _, _, told = run("-c", site / "jobeff.toml", "load", "slurm")
    [line] = [line for line in told.splitlines() if "warning" in line]
    assert str(site / too_open) in line
    subprocess.run(line.partition("run: ")[2], shell=True, check=True)  # noqa: S602  (as an admin would)
    assert rights.check(site, None) == []


def test_what_a_link_leads_to_is_not_looked_at(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "2021-06.txt").touch()
    (elsewhere / "2021-06.txt").chmod(0o644)
    for name in rights.TOP:
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name).chmod(0o750)
        (tmp_path / "site" / name / "link").symlink_to(elsewhere)
    assert rights.check(tmp_path / "site", None) == []


def test_a_group_that_is_not_there_or_not_mine(site, run, monkeypatch):
    config = site / "jobeff.toml"
    text = config.read_text()
    config.write_text('group = "no such group"\n' + text)
    status, _, told = run("-c", config, "load", "slurm")
    assert status == 2
    assert "there is no such group" in told
    assert not (site / "db").exists()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(os, "getgroups", lambda: [12345])
    monkeypatch.setattr(os, "getegid", lambda: 12345)
    with pytest.raises(ConfigError, match="not a member"):
        rights.prepare(site, GROUP)


@ROOT_ONLY
def test_all_that_is_made_gets_the_group(site, run):
    config = site / "jobeff.toml"
    config.write_text(f'group = "{GROUP}"\n' + config.read_text())
    status, _, told = run("-c", config, "load", "slurm")
    assert (status, "warning" in told) == (3, False)
    gid = grp.getgrnam(GROUP).gr_gid
    assert {path.stat().st_gid for path in tree(site)} == {gid}
    assert all(path.stat().st_mode & stat.S_ISGID for path in tree(site) if path.is_dir())


@ROOT_ONLY
def test_a_group_that_is_named_later_is_asked_for(site, run):
    config = site / "jobeff.toml"
    run("-c", config, "load", "slurm")
    config.write_text(f'group = "{GROUP}"\n' + config.read_text())
    _, _, told = run("-c", config, "load", "slurm")
    [line] = [line for line in told.splitlines() if "warning" in line]
    assert f"its group is not {GROUP}" in line
    subprocess.run(line.partition("run: ")[2], shell=True, check=True)  # noqa: S602
    _, _, told = run("-c", config, "load", "slurm")
    assert "warning" not in told


@contextlib.contextmanager
def read_only(folder):
    """Nobody may write to it: root by a mount, others by its mode."""
    if os.getuid() != 0:
        folder.chmod(0o550)
        yield
        folder.chmod(0o750)
        return
    mounts = (["--bind", folder, folder], ["-o", "remount,bind,ro", folder])
    if any(subprocess.run(["mount", *mount], check=False, capture_output=True).returncode for mount in mounts):
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("command", [("update",), ("load", "slurm"), ("compute",), ("summarise",), ("check",)])
def test_a_folder_of_databases_that_may_not_be_written(site, run, command):
    """One line names it, nothing is changed, and who only reads is not in the way."""
    config = site / "jobeff.toml"
    assert run("-c", config, "load", "slurm")[0] == 3
    before = {path.name: path.read_bytes() for path in (site / "db").glob("*.sqlite")}
    assert before
    with read_only(site / "db"):
        status, _, told = run("-q", "-c", config, *command)
        assert status == 1
        assert len(told.splitlines()) == 1
        assert told.startswith("jobeff: error: ")
        assert str(site / "db") in told
        read = run("-q", "-c", config, "sql", "select count(*) from accounting.jobs")
        assert (read[0], read[2]) == (0, "")
    assert {path.name: path.read_bytes() for path in (site / "db").glob("*.sqlite")} == before


# Another user


@pytest.fixture(scope="module")
def second_night(tmp_path_factory):
    """A site with more to do, where everybody can get at it; what another user needs of this process is loaded."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "site"
        Path(folder).chmod(0o755)
        site = sites.make(root)
        sites.Night([a_job(1)], files_of(a_job(1))).fall(root, "day-1")
        update(site)
        sites.Night([a_job(2)], files_of(a_job(2))).fall(root, "day-2")
        tried = shutil.copytree(root, tmp_path_factory.mktemp("tried") / "site")
        with pytest.raises(SystemExit):
            main(["-c", str(tried / "jobeff.toml"), "--workers", "0", "-q", "update"])
        rebuild(sites.Site(sites.config(tried), 0))
        yield root


@pytest.fixture
def theirs(second_night):
    """A copy of it that belongs to another user, where that is possible."""
    root = shutil.copytree(second_night, second_night.with_name("theirs"))
    if os.getuid() == 0:
        for path in [root, *root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
    yield root
    shutil.rmtree(root)


def as_nobody(folder, *arguments):
    """In a copy of this process that gives up the rights of root: exit status, and what it says."""
    said = folder.with_name("said")
    if (pid := os.fork()) == 0:
        status = 99
        try:
            os.dup2(os.open(said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), 2)
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            if os.getuid() == 0:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            main(["-c", str(folder / "jobeff.toml"), "--workers", "0", "-q", *arguments])
        except SystemExit as done:
            status = done.code
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.read_text()


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize(
    ("folder", "before", "command"),
    [
        ("db", [], "update"), ("db", [], "load slurm"), ("db", ["load slurm"], "collect"), ("db", [], "rebuild"),
        ("archive/c1", ["load slurm"], "collect"), ("shards/c1/n1", ["load slurm", "collect"], "ingest"),
        ("shards", ["load slurm", "collect"], "rebuild"),
    ],
)  # fmt: skip
def test_a_folder_that_another_user_may_not_write(theirs, folder, before, command):
    """One line: what at which path, why, what is safe, what to do; nothing is changed, and then all goes on."""
    for done in before:
        assert as_nobody(theirs, *done.split()) == (0, "")
    (theirs / folder).chmod(0o550)
    found = contents(theirs)
    status, said = as_nobody(theirs, *command.split())
    assert status == 1
    assert re.fullmatch(
        rf"jobeff: error: .* at {theirs / folder}\S*: Permission denied\. .* is whole\. .*\n", said
    ) or (
        re.fullmatch(rf"jobeff: error: .* at {theirs / folder}: Permission denied\. Nothing was changed\. .*\n", said)
    )
    assert "a user who" in said
    assert contents(theirs) == found
    (theirs / folder).chmod(0o750)
    assert as_nobody(theirs, "update") == (0, "")
    assert set(efficiency(theirs)) == {("c1", job.job_id, job.start) for job in (a_job(1), a_job(2))}


def test_a_root_that_another_user_may_not_write(theirs):
    """Nothing is there yet, and nothing can be made."""
    for name in ("db", "archive", "shards"):
        shutil.rmtree(theirs / name)
    theirs.chmod(0o550)
    found = contents(theirs)
    status, said = as_nobody(theirs, "update")
    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith(f"jobeff: error: cannot go on at {theirs / 'db'}: Permission denied. ")
    assert contents(theirs) == found


def test_what_cannot_be_removed_is_named_by_its_whole_path(theirs):
    """The old generation of shards, when the new one has taken its place."""
    (theirs / "shards/c1/n1").chmod(0o550)
    status, said = as_nobody(theirs, "rebuild")
    assert status == 1
    assert re.match(rf"jobeff: error: cannot go on at {theirs}/shards/\.old/c1/n1/\S*: Permission denied\. ", said)
    (theirs / "shards/.old/c1/n1").chmod(0o750)
    assert as_nobody(theirs, "rebuild") == (0, "")
    assert not (theirs / "shards/.old").exists()


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("db/accounting.sqlite", "load slurm"), ("db/efficiency.sqlite", "compute"),
        ("db/efficiency.sqlite", "report project"), ("db", "report project"), ("archive/c1", "update"),
        ("archive/c1/2021-06.txt", "update"), ("shards/c1/.ingested/2021-06.json", "update"),
    ],
)  # fmt: skip
def test_what_another_user_may_not_read(theirs, path, command):
    """One line: at which path, why, what is safe, what to do."""
    (theirs / path).chmod(0)
    status, said = as_nobody(theirs, *command.split())
    assert status == 1
    assert re.fullmatch(rf"jobeff: error: cannot [^:]* at {theirs / path}\S*: Permission denied\. .*\n", said), said
    assert re.search(r"is whole|was not changed|Nothing was changed|are as they were", said)
    assert RIGHTS in said
    (theirs / path).chmod(0o750)
    assert as_nobody(theirs, "update") == (0, "")
    assert set(efficiency(theirs)) == {("c1", job.job_id, job.start) for job in (a_job(1), a_job(2))}


@pytest.mark.parametrize("path", ["uppmax_jobstats/n1/2", "uppmax_jobstats/n1", "uppmax_jobstats", "accounting/day-2"])
def test_sources_that_another_user_may_not_read_are_set_aside(theirs, path):
    (theirs / "slurm" / path).chmod(0)
    status, said = as_nobody(theirs, "update")
    assert (status, f"{theirs / 'slurm' / path}: " in said, "Permission denied" in said) == (3, True, True)
    (theirs / "slurm" / path).chmod(0o750)
    assert as_nobody(theirs, "update") == (0, "")
    assert set(efficiency(theirs)) == {("c1", job.job_id, job.start) for job in (a_job(1), a_job(2))}
