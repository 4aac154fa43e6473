"""export databases: whole copies, for readers elsewhere."""

import os
import sqlite3
import stat

import pytest
import sites
from conftest import dump
from test_compute import a_job, files_of

from jobeff.errors import ConfigError
from jobeff.steps.publish import publish
from jobeff.steps.update import update
from jobeff.store import tables


@pytest.fixture
def site(tmp_path):
    site = sites.make(tmp_path / "site")
    sites.Night([a_job(1)], files_of(a_job(1))).fall(site.root, "day")
    update(site)
    return site


def test_copies_are_whole_and_private(site, tmp_path):
    result = publish(site, tmp_path / "copies")
    names = {path.stem for path in (tmp_path / "copies").iterdir()}
    assert {"accounting", "efficiency"} <= names <= set(tables.SCHEMAS) - {"collected"}
    assert result.counts["databases"] == len(names)
    for name in ("accounting", "efficiency"):
        copy = tmp_path / "copies" / f"{name}.sqlite"
        assert dump(copy) == dump(tables.database(site.root, name)) != []
        assert stat.S_IMODE(copy.stat().st_mode) == 0o640


def test_a_database_with_nothing_in_it_yet_is_left_out(site, tmp_path, run):
    """Who was making it was killed. Whoever can do without one that is not there can do without this one."""
    tables.database(site.root, "projects").touch(0o640)
    tables.database(site.root, "efficiency").write_bytes(b"")
    publish(site, tmp_path / "copies")
    names = {path.stem for path in (tmp_path / "copies").iterdir()}
    assert "accounting" in names
    assert not {"projects", "efficiency"} & names
    config = ("-c", site.config.file)
    shown = run(*config, "job", 1)
    tables.database(site.root, "efficiency").unlink()
    assert shown == run(*config, "job", 1)
    assert shown[0] == 0
    tables.database(site.root, "efficiency").touch(0o640)
    assert run(*config, "-q", "summarise")[::2] == (0, "")
    next(site.config.shards.rglob("*.parquet")).write_bytes(b"damaged")
    code, _, said = run(*config, "-q", "--workers", 0, "compute", "--all")
    assert (code, "1 x shard" in said) == (3, True), said


def test_a_reader_keeps_what_it_has_opened(site, tmp_path):
    publish(site, tmp_path / "copies")
    copy = tmp_path / "copies" / "efficiency.sqlite"
    reader = sqlite3.connect(copy)
    assert reader.execute("select count(*) from jobs").fetchone() == (1,)
    sites.Night([a_job(2)], files_of(a_job(2))).fall(site.root, "later")
    update(site)
    publish(site, tmp_path / "copies")
    assert reader.execute("select count(*) from jobs").fetchone() == (1,)
    reader.close()
    assert len(dump(copy)) == 2


def test_a_run_that_dies_leaves_the_old_copy(site, tmp_path, monkeypatch):
    publish(site, tmp_path / "copies")
    before = dump(tmp_path / "copies" / "efficiency.sqlite")
    sites.Night([a_job(2)], files_of(a_job(2))).fall(site.root, "later")
    update(site)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        publish(site, tmp_path / "copies")
    monkeypatch.undo()
    assert dump(tmp_path / "copies" / "efficiency.sqlite") == before
    publish(site, tmp_path / "copies")
    assert len(dump(tmp_path / "copies" / "efficiency.sqlite")) == 2
    assert not list((tmp_path / "copies").glob(".*"))


@pytest.mark.parametrize("folder", ["db", "db/copies", "archive", "shards/c1"])
def test_into_what_the_data_root_keeps_itself_is_refused(site, run, folder):
    code, _, err = run("-c", site.config.file, "export", "databases", site.root / folder)
    assert (code, "keeps its own files there" in err) == (2, True)


def test_the_databases_of_another_site_are_left_as_they_are(site, tmp_path):
    """It may have lost all but what `collect` keeps."""
    other = sites.make(tmp_path / "other")
    sites.Night([a_job(2)], files_of(a_job(2))).fall(other.root, "day")
    update(other)
    tables.database(other.root, "efficiency").unlink()
    before = dump(tables.database(other.root, "accounting"))
    with pytest.raises(ConfigError, match="a data root keeps its databases there"):
        publish(site, other.root / "db")
    assert dump(tables.database(other.root, "accounting")) == before
    assert not tables.database(other.root, "efficiency").exists()
