"""What is there already just as it would be written gets a second name; all else is written."""

import contextlib
import errno
import os
import shutil

import pytest
import sites
from crash_dump import differences, dump
from test_dask import collected  # noqa: F401  (a fixture)

from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.rebuild import rebuild
from jobeff.steps.site import Site
from jobeff.store import batch, unchanged

WHOLE = bytes(range(256)) * 40


def taken_over(old, new, whole=WHOLE):
    return unchanged.take_over(old, new, memoryview(whole), new.parent.stat().st_gid)


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old"
    path.write_bytes(WHOLE)
    path.chmod(0o640)
    return path


def test_the_same_file_gets_a_second_name(old, tmp_path):
    assert taken_over(old, tmp_path / "new")
    assert (tmp_path / "new").samefile(old)


def a_link(old):
    old.rename(old.with_name("elsewhere"))
    old.symlink_to("elsewhere")


def a_pipe(old):
    old.unlink()
    os.mkfifo(old, 0o640)


OTHERS = {
    "shorter": lambda old: old.write_bytes(WHOLE[:-1]),
    "longer": lambda old: old.write_bytes(WHOLE + b"x"),
    "first byte": lambda old: old.write_bytes(b"x" + WHOLE[1:]),
    "last byte": lambda old: old.write_bytes(WHOLE[:-1] + b"x"),
    "others may read it": lambda old: old.chmod(0o644),
    "its group may not": lambda old: old.chmod(0o600),
    "gone": os.unlink,
    "a link": a_link,
    "a pipe": a_pipe,
    "a folder": lambda old: (old.unlink(), old.mkdir(0o640)),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_file_does_not(old, tmp_path, other):
    OTHERS[other](old)
    assert not taken_over(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("field", [4, 5], ids=["owner", "group"])
def test_nor_does_one_of_another_owner_or_group(old, tmp_path, monkeypatch, field):
    found = list(old.lstat())
    found[field] += 1
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result(found))
    assert not taken_over(old, tmp_path / "new")


def test_nor_does_one_that_more_people_may_read_than_its_mode_says(old, tmp_path, monkeypatch):
    assert not set(os.listxattr(old)) & {unchanged.RIGHTS}
    monkeypatch.setattr(os, "listxattr", lambda file: [unchanged.RIGHTS] * (type(file) is int))
    assert not taken_over(old, tmp_path / "new")


@pytest.mark.parametrize("known", [True, False], ids=["not by the file system", "not by the system"])
def test_where_there_are_no_lists_of_rights_modes_say_all(old, tmp_path, monkeypatch, known):
    def failing(*_, **__):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "listxattr", failing) if known else monkeypatch.delattr(os, "listxattr")
    assert taken_over(old, tmp_path / "new")


@pytest.mark.parametrize("call", ["open", "link"])
def test_nor_does_one_that_cannot_be_read_or_where_there_are_no_second_names(old, tmp_path, monkeypatch, call):
    def failing(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, failing)
    assert not taken_over(old, tmp_path / "new")


def test_another_file_keeps_its_name(old, tmp_path):
    (tmp_path / "new").write_bytes(WHOLE)
    assert not taken_over(old, tmp_path / "new")
    assert not (tmp_path / "new").samefile(old)


@pytest.mark.parametrize("read_soon", [True, False])
def test_a_batch_writes_what_is_not_the_same(old, tmp_path, read_soon):
    with batch.Batch(tmp_path, read_soon) as some_files:
        for name in ("a/same", "a/too", "b/other"):
            whole = bytearray(WHOLE)
            whole[-1] ^= 255 * (name == "b/other")
            some_files.put(tmp_path / name, memoryview(whole), old)
            whole[:] = bytes(len(whole))  # its memory is used for the next one
        some_files.put(tmp_path / "c" / "new", memoryview(WHOLE))
        some_files.commit()
    assert (tmp_path / "a" / "same").samefile(old)
    assert (tmp_path / "a" / "too").samefile(old)
    assert (tmp_path / "b" / "other").read_bytes() == WHOLE[:-1] + b"\0"
    new = tmp_path / "c" / "new"
    assert new.read_bytes() == WHOLE
    assert new.stat().st_nlink == 1
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"old", "same", "too", "other", "new"}


@pytest.mark.parametrize("again", [False, True], ids=["once", "again"])
@pytest.mark.parametrize("read_soon", [True, False])
def test_a_file_that_has_been_taken_over_already_leaves_no_other_name(old, tmp_path, read_soon, again):
    """As where a shard is made a second time, by a task that is done again or for frames that were found later."""
    for _ in range(1 + again):
        with batch.Batch(tmp_path, read_soon) as some_files:
            some_files.put(tmp_path / "new", memoryview(WHOLE), old)
            some_files.commit()
    assert {path.name for path in tmp_path.iterdir()} == {"old", "new"}
    assert (tmp_path / "new").samefile(old)


@pytest.mark.parametrize("stray", ["aaa", "~", "zzz.parquet"])
def test_a_file_among_the_nodes_is_in_nobody_s_way(collected, tmp_path, monkeypatch, stray):  # noqa: F811
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("jobeff.steps.rebuild.MANY", 1)
    site = Site(sites.config(shutil.copytree(collected, tmp_path / "site")))
    ingest(site)
    for _ in range(2):
        (site.config.shards / "c1" / stray).write_bytes(b"x")
        rebuild(site)
    assert not list(site.config.shards.glob(".[or]*"))


def shards_of(root):
    return {path.relative_to(root): path.stat().st_ino for path in root.glob("shards/c1/*/*.parquet")}


def test_a_rebuild_takes_over_the_shards_that_are_sound(collected, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("os.fsync", lambda _: None)
    root = shutil.copytree(collected, tmp_path / "site")
    site = Site(sites.config(root))
    ingest(site)
    compute(site)
    before, rows = shards_of(root), dump(root)
    assert len(before) > 5
    rebuild(site)
    assert shards_of(root) == before
    damaged, gone, opened, *rest = before
    with contextlib.ExitStack() as held:
        for path in before:  # or their numbers may be used again
            held.enter_context((root / path).open("rb"))
        whole = bytearray((root / damaged).read_bytes())
        whole[len(whole) // 2] ^= 1
        (root / damaged).write_bytes(whole)
        (root / gone).unlink()
        (root / opened).chmod(0o644)
        rebuild(site)
    after = shards_of(root)
    assert {path for path in before if after[path] != before[path]} == {damaged, gone, opened}
    assert {path: after[path] for path in rest} == {path: before[path] for path in rest}
    assert all(path.stat().st_nlink == 1 and path.stat().st_mode & 0o777 == 0o640 for path in map(root.joinpath, after))
    assert not differences(rows, dump(root))
