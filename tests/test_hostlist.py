from __future__ import annotations

import re
from pathlib import Path

import hostlist as python_hostlist
import pytest
from ClusterShell.NodeSet import NodeSet
from hypothesis import given
from hypothesis import strategies as st

from jobeff.names import is_name
from jobeff.sources.hostlist import HostListError, expand

ACCOUNTING = Path(__file__).resolve().parents[2] / "shared" / "data" / "accounting"
DAYS = ["rackham_2021-05-30", "rackham_2021-06-15", "rackham_2022-01-15"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("r380", "r380"),
        ("n[01-03]", "n01 n02 n03"),
        ("n[1-03]", "n1 n2 n3"),
        ("n[01-3]", "n01 n02 n03"),
        ("n[099-101]", "n099 n100 n101"),
        ("n[9-11,08]", "n9 n10 n11 n08"),
        ("n[1,01]", "n1 n01"),
        ("rack[0-1]n[01-02]-ib", "rack0n01-ib rack0n02-ib rack1n01-ib rack1n02-ib"),
        ("n[1-2][3-4]", "n13 n14 n23 n24"),
        ("[7-8]", "7 8"),
        ("b2,a[2],a1", "b2 a2 a1"),
        ("a b,c , d\t  e", "a b c d e"),
        ("n2,n[1-3],n2", "n2 n1 n3"),
    ],
)
def test_expands_in_the_order_written(text: str, names: str) -> None:
    assert expand(text) == names.split()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty item"),
        (",a", "empty item"),
        ("a,,b", "empty item"),
        ("a,", "empty item"),
        ("a ", "empty item"),
        ("n[1-2", "bracket out of place"),
        ("n1]", "bracket out of place"),
        ("n[1[2-3]]", "bracket out of place"),
        ("n[]", "not a number or range"),
        ("n[1,]", "not a number or range"),
        ("n[1-]", "not a number or range"),
        ("n[1-2-3]", "not a number or range"),
        ("n[a-b]", "not a number or range"),
        ("n[1, 2]", "not a number or range"),
        ("n[٣]", "not a number or range"),
        ("n[" + "9" * 5000 + "]", "not a number or range"),
        ("n[3-1]", "runs backwards"),
        ("../../etc/x", "not a node name"),
        ("/abs", "not a node name"),
        ("n1\n", "not a node name"),
        ("n\0", "not a node name"),
        ("n[1-2]/x", "not a node name"),
        ("-[1-2]", "not a node name"),
        ("n" * 62 + "[9-10]", "not a node name"),
        ("(null)", "not a node name"),
    ],
)
def test_refuses(text: str, why: str) -> None:
    with pytest.raises(HostListError, match=why):
        expand(text)


def test_message_is_printable_and_short() -> None:
    with pytest.raises(HostListError) as caught:
        expand("\x1b[31m" + "ä" * 5000)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text", ["n[1-999999999]", "n[1-999999999999999999]", "n" + "[0-9]" * 60, "n[1-99999],m[1-99999]"]
)
def test_too_many_names_are_refused_before_any_is_made(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(_: object) -> list[str]:
        raise AssertionError("expanded")

    monkeypatch.setattr("jobeff.sources.hostlist._names", made)
    with pytest.raises(HostListError, match="more than 100000 nodes"):
        expand(text)


def test_limit_is_the_most_that_is_made() -> None:
    assert len(expand("n[1-4]m[1-5]", limit=20)) == 20
    with pytest.raises(HostListError, match="more than 19 nodes"):
        expand("n[1-4]m[1-5]", limit=19)


@st.composite
def ranges(draw: st.DrawFn) -> str:
    low = draw(st.integers(0, 130))
    high = low + draw(st.integers(0, 5))
    # ClusterShell refuses a padded low bound that is shorter than the high one.
    width = draw(st.sampled_from([1, len(str(high)), len(str(high)) + 1]))
    return f"{low:0{width}}" if low == high else f"{low:0{width}}-{high:0{width}}"


BRACKETS = st.lists(ranges(), min_size=1, max_size=3).map(lambda items: f"[{','.join(items)}]")
# ClusterShell takes neither two brackets side by side nor a number between two of them.
LETTERS = st.from_regex(r"[a-z][a-z._-]{0,3}", fullmatch=True)
ITEMS = st.builds(
    lambda parts, suffix: "".join(parts) + suffix,
    st.lists(st.builds(str.__add__, LETTERS, BRACKETS), max_size=2),
    LETTERS | LETTERS.map(lambda text: text + "7"),
)
LISTS = st.lists(ITEMS, min_size=1, max_size=5).map(",".join)


@given(LISTS)
def test_equals_python_hostlist(text: str) -> None:
    assert expand(text) == python_hostlist.expand_hostlist(text)


@given(LISTS)
def test_equals_clustershell(text: str) -> None:
    # As sets: ClusterShell sorts nodes by their numbers, Slurm's order is that of the list.
    names = expand(text)
    assert set(names) == {str(node) for node in NodeSet(text)}
    assert len(set(names)) == len(names)


@given(st.text(alphabet="an01239[],- -\t\n/\0é", max_size=30))
def test_any_text_gives_names_or_is_refused(text: str) -> None:
    try:
        names = expand(text, limit=2000)
    except HostListError:
        return
    assert names
    assert all(map(is_name, names))


@pytest.mark.skipif(not ACCOUNTING.is_dir(), reason="the real accounting days are not here")
def test_every_node_list_of_the_real_days() -> None:
    text = b"\n".join((ACCOUNTING / day).read_bytes() for day in DAYS).decode()
    lists = set(re.findall(r"^.{19} jobstate=.* submit=\d+ nodes=(\S+) procs=", text, re.MULTILINE))
    assert len(lists) == 828
    for listed in lists:
        names = expand(listed)
        assert names == python_hostlist.expand_hostlist(listed)
        assert set(names) == {str(node) for node in NodeSet(listed)}
