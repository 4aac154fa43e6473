"""What is set aside stays: no later file takes its name, and a run that was killed leaves no second copy."""

import os

import pytest

from jobeff.errors import SetAside
from jobeff.store import aside
from jobeff.store.archive import set_torn_aside


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_damaged_file_has_a_name_of_its_own(tmp_path):
    path, wanted = tmp_path / "x.parquet", {}
    for number, name in enumerate(("x.parquet.damaged", "x.parquet.damaged-2", "x.parquet.damaged-3")):
        path.write_bytes(b"%d" % number)
        wanted[name] = b"%d" % number
        assert aside.damaged_name(path).name == name
        assert aside.set_aside(path).name == name
        assert contents(tmp_path) == wanted


@pytest.mark.parametrize("keep", [True, False])
def test_a_file_that_is_gone_or_was_set_aside_by_a_run_that_was_killed_then(tmp_path, keep):
    path = tmp_path / "x.sqlite"
    aside.set_aside(path, keep)
    aside.set_aside(tmp_path / "folder that is gone" / "x", keep)
    assert contents(tmp_path) == {}
    path.write_bytes(b"first")
    aside.set_aside(path)
    path.write_bytes(b"second")
    assert aside.set_aside(path, keep=True).name == "x.sqlite.damaged-2"
    assert aside.set_aside(path, keep).name == "x.sqlite.damaged-2"
    kept = {"x.sqlite.damaged": b"first", "x.sqlite.damaged-2": b"second"}
    assert contents(tmp_path) == kept | ({"x.sqlite": b"second"} if keep else {})


def test_a_journal_goes_aside_with_its_database(tmp_path):
    """It must not be rolled into the database that takes its place, nor into one that was set aside before."""
    path, journal = tmp_path / "x.sqlite", tmp_path / "x.sqlite-journal"
    wanted = {}
    for number, name in [(b"1", "x.sqlite.damaged"), (b"2", "x.sqlite.damaged-2")]:
        path.write_bytes(number)
        journal.write_bytes(b"of " + number)
        assert aside.set_aside(path, keep=number == b"1").name == name
        wanted |= {name: number, f"{name}-journal": b"of " + number}
        assert contents(tmp_path) == wanted | ({"x.sqlite": b"1"} if number == b"1" else {})
        path.unlink(missing_ok=True)
    (tmp_path / "x.sqlite.damaged-2").unlink()
    path.write_bytes(b"3")
    assert aside.set_aside(path).name == "x.sqlite.damaged-3"


def test_a_file_that_lies_elsewhere_goes_beside_its_name(tmp_path):
    path, elsewhere = tmp_path / "x.sqlite", tmp_path / "old"
    path.write_bytes(b"damaged")
    os.link(path, elsewhere)
    assert aside.set_aside(path).name == "x.sqlite.damaged"
    path.write_bytes(b"new")
    assert aside.damaged_name(path, elsewhere).name == "x.sqlite.damaged"
    assert aside.set_aside(path, file=elsewhere).name == "x.sqlite.damaged"
    assert contents(tmp_path) == {"x.sqlite": b"new", "x.sqlite.damaged": b"damaged"}
    elsewhere.write_bytes(b"other")
    assert aside.set_aside(path, file=elsewhere).name == "x.sqlite.damaged-2"
    assert contents(tmp_path) == {"x.sqlite": b"new", "x.sqlite.damaged": b"damaged", "x.sqlite.damaged-2": b"other"}


def test_a_link_that_leads_nowhere_takes_a_name_too(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"1")
    (tmp_path / "x.damaged").symlink_to("nowhere")
    assert aside.set_aside(path).name == "x.damaged-2"
    assert not (tmp_path / "nowhere").exists()


def test_torn_tails_at_the_same_place_are_all_kept(tmp_path):
    month, told = tmp_path / "2021-06.txt", SetAside()
    (tmp_path / "2021-06.txt.torn-3").mkdir()
    names = []
    for tail in (b"tail", b"tall", b"tai", b"tail"):
        month.write_bytes(b"abc" + tail)
        names.append(set_torn_aside(month, 3, told).name)
        assert month.read_bytes() == b"abc"
    assert names == [f"2021-06.txt.torn-3-{number}" for number in (2, 3, 4, 2)]
    assert [(tmp_path / name).read_bytes() for name in names] == [b"tail", b"tall", b"tai", b"tail"]
    assert told.examples[1][2] == f"a frame was cut off there; moved to {names[1]}"
