"""Grant files: both forms, and whatever else stands in them."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobeff.errors import SetAside, SourceError
from jobeff.sources import grants


def read(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    aside = SetAside()
    return grants.read(path, aside), aside


@pytest.mark.parametrize(
    ("line", "grant"),
    [
        ("p1:2000", {"p1": 2000}),
        ("p1:2000:", {"p1": 2000}),
        ("p1:2000:batch:u1,u2,u3,u4,u5", {"p1": 2000}),
        ("snic2021-5-1 : 0.5 : x", {"snic2021-5-1": 0.5}),
        ("p1,Some Body: PI,3000,x", {"p1": 3000}),
        ("p1,x,3000,", {"p1": 3000}),
        ("p1:0:x", {"p1": 0}),
        ("p1:2e3:x\r", {"p1": 2000}),
        ("# p1:2000:x", {}),
        ("   ", {}),
    ],
)
def test_lines(tmp_path, line, grant):
    found, aside = read(tmp_path / "grantfile", f"\n# head\n{line}\n")
    assert (found, aside.total) == (grant, 0)


@pytest.mark.parametrize(
    "line",
    [
        "p1", "p1:", "p1:x:y", "p1:-1:x", "p1:nan:x", "p1:inf:x", "p1:1e999:x", "p1:1_000:x", "p1:٣:x", "p1:0x10",
        ":5:x", "../etc:5:x", "a b:5:x", "p\0:5:x", "x" * 64 + ":5", "p1,2000", "p1,x,2000", "p1,x,-5,y", "\x1b[31m:5",
        b"\xff\xfe:5", "p1:" + "9" * 400, b"p1:5:" + b"x" * 2**20,
    ],
)  # fmt: skip
def test_what_is_no_grant_is_set_aside_by_its_line(tmp_path, line):
    raw = line if isinstance(line, bytes) else line.encode()
    found, aside = read(tmp_path / "grantfile", b"good:1:x\n" + raw + b"\nlast:2")
    assert found == {"good": 1, "last": 2}
    ((kind, where, why),) = aside.examples
    assert (kind, where) == ("grant", f"{tmp_path / 'grantfile'}:2")
    assert why.isprintable()
    assert len(why) < 300


def test_of_grants_that_differ_the_last_counts(tmp_path):
    found, aside = read(tmp_path / "grantfile", "p:1:x\nq:5:x\np:2:x\nq:5.0:y\n")
    assert found == {"p": 2, "q": 5}
    assert [where for _, where, _ in aside.examples] == [f"{tmp_path / 'grantfile'}:1"]


@given(st.binary(max_size=200))
def test_nothing_in_a_file_raises(tmp_path_factory, text):
    found, _ = read(tmp_path_factory.getbasetemp() / "any-grantfile", text)
    assert all(hours >= 0 for hours in found.values())


def test_a_file_that_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        with pytest.raises(SourceError, match="cannot read grants"):
            grants.read(path, SetAside())
