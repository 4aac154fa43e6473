"""load projects: what stands in the file is in the database, and nobody is ended by a damaged file."""

import io
import json
import sqlite3

import pytest
import sites
from conftest import dump
from hypothesis import given
from hypothesis import strategies as st

from jobeff.config import PROJECT_KEYS
from jobeff.errors import ConfigError, SetAside, SourceError
from jobeff.sources import projects
from jobeff.steps.load_projects import load_projects
from jobeff.store import tables

TODAY = "2021-06-15"
WHOLE = """\
Name: p1
Start: 20210101
End: 2021-12-31
Principal: Ada Lovelace: the first
Deputy: bob
Technical: cyd
Members: ada bob cyd
Type: small
Mail: ada@example.org
Shortgrants: none of our business

Name: p2
Principal: dan
"""
P1 = ("p1", "2021-01-01", "2021-12-31", "Ada Lovelace: the first", "bob", "cyd", "ada bob cyd", "small")
P1 += ("ada@example.org", True)
P2 = ("p2", None, None, "dan", None, None, None, None, None, True)


def read(content, keys=PROJECT_KEYS):
    """Projects of a file, how many things of each kind were set aside, and whether it names all there are."""
    content = content if isinstance(content, bytes) else content.encode()
    aside, found = SetAside(), projects.Found()
    projects.read(io.BytesIO(content), keys, where="file", aside=aside, found=found)
    return list(found.projects.values()), dict(aside.counts), not found.doubt


@pytest.fixture
def site(tmp_path):
    return with_config(sites.make(tmp_path))


def with_config(site, more="", today=TODAY):
    path = site.root / "jobeff.toml"
    path.write_text(f'today = "{today}"\n{sites.CONFIG}\n[sources]\nprojects = "projects"\n{more}')
    return sites.Site(sites.config(site.root))


def load(site, content=None, *files, **options):
    """Load the configured file as it is now, or files; what was counted that is not 0, and what was set aside."""
    if content is not None:
        (site.root / "projects").write_text(content)
    result = load_projects(site, files, **options)
    return {what: number for what, number in result.counts.items() if number}, result.aside


def active(site):
    with sqlite3.connect(tables.database(site.root, "projects")) as connection:
        found = dict(connection.execute("select proj_id, active from projects"))
    connection.close()
    return "".join(name for name in sorted(found) if found[name] == "Y")


def named(names, more=""):
    return "".join(f"Name: {name}\n{more}\n" for name in names)


# Reading


def test_a_whole_file():
    assert read(WHOLE) == ([P1, P2], {}, True)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n\n", "\n \t\n\n"),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text.replace("Name", "NAME").replace("Members", "members"),
        lambda text: text.replace(": ", ":").replace("Lovelace:the", "Lovelace: the"),
        lambda text: text.replace("ada bob cyd", "ada\n  bob\n\tcyd"),
        lambda text: text.replace("ada bob cyd", "ada  bob\nMembers: cyd"),
        lambda text: text.replace("20210101", "2021-01-01\nStart: 2021-01-01"),
        lambda text: "# comment\n\n" + text.replace("Deputy", "#\nDeputy"),
        lambda text: text + "\n" + text,
    ],
)
def test_other_ways_to_write_the_same(change):
    assert read(change(WHOLE)) == ([P1, P2], {}, True)


def test_json():
    about = {
        "Start": 20210101, "end": "2021-12-31", "Principal": " Ada  Lovelace: the first", "Deputy": "bob",
        "Technical": "cyd", "Members": ["ada", "bob", "cyd"], "Type": "small", "Mail": "ada@example.org", "Class": True,
        "Allocations": [{"Resource": "c1", "Type": "x", "Value": 1e99, "End": None}], "Name": "another",
    }  # fmt: skip
    content = json.dumps({"p1": about, "p2": {"Principal": "dan", "Start": None, "Members": []}})
    assert read(content) == ([P1, P2], {}, True)
    assert read("\ufeff\n " + content.replace("1e+99", "NaN")) == ([P1, P2], {}, True)


def test_keys_are_what_the_site_calls_them(site):
    site = with_config(site, '[project_keys]\nproj_id = "Project"\npi = "Leader"\nmail = "Leader"\n')
    load(site, "Project: p1\nName: no\nleader: ada\nPrincipal: no\n")
    assert dump(tables.database(site.root, "projects"), "projects") == [
        ("p1", None, None, "ada", None, None, None, "Y", None, "ada")
    ]


@pytest.mark.parametrize(
    "value", ["2021-13-01", "20210229", "2021-6-1", "today", "0", "20210101 or so", "２０２１0101"]
)
@pytest.mark.parametrize("key", ["Start", "End"])
def test_a_date_that_cannot_be_used_costs_the_date_and_who_is_active(value, key):
    """Whether such a project runs is not known, so it is not said to."""
    [project], aside, whole = read(f"Name: p\nMembers: a\n{key}: {value}\n")
    assert (project.start, project.end, project.members, project.active(TODAY)) == (None, None, "a", False)
    assert (aside, whole) == ({"project value": 1}, True)


@pytest.mark.parametrize("value", ["", "-", "None"])
def test_no_date_is_no_end(value):
    [project], aside, _ = read(f"Name: p\nEnd: {value}\n")
    assert (project.end, project.active(TODAY), aside) == (None, True, {})


def test_a_key_that_comes_again_with_another_value_gives_none():
    [project], aside, _ = read("Name: p\nType: a\nEnd: 20211231\nEnd: 20221231\nType: b\nMail: m\n")
    assert (project.end, project.type, project.mail, project.sure) == (None, None, "m", False)
    assert aside == {"project value": 2}


@pytest.mark.parametrize(
    ("damaged", "kind"),
    [
        ("Name:\nMembers: a\n", "project"),
        ("Start: 20210101\n", "project"),
        ("Name: a b\n", "project"),
        ("Name: p\nMem\0\0\0\0ype: x\n", "project"),
        ("Name: p\nMembers: a\n \0\n", "project"),
        ("Name: p\nName\0 q\n", "project"),
        (f"Name: {'x' * 256}\n", "project"),
        (f"Name: {'x' * 2**21}\nEnd: 20200101\n", "project"),
    ],
)
def test_a_project_that_cannot_be_read_costs_no_other(damaged, kind):
    """And while there is one, nobody can say which projects there are."""
    found, aside, whole = read(f"{WHOLE}\n{damaged}\n{named('z')}")
    assert ([project.proj_id for project in found], aside, whole) == (["p1", "p2", "z"], {kind: 1}, False)


@pytest.mark.parametrize(
    ("line", "aside"),
    [
        ("no key", {"project line": 1}),
        (":", {"project line": 1}),
        (b"Other: \xff\xfe", {}),
        (b"Other: " + b"x" * 3_000_000, {"project line": 1}),
        (b"Members: " + b"x" * 3_000_000, {"project value": 1}),
        (b"Members: " + "å".encode() * 600_000, {"project value": 1}),
        (b"Mail: x" + b"\n x" * 1_200_000, {"project value": 1}),
    ],
)
def test_a_line_that_cannot_be_used_costs_no_other(line, aside):
    line = line if isinstance(line, bytes) else line.encode()
    [project, other], found, whole = read(b"Name: p\nEnd: 20211231\n" + line + b"\nType: t\n\nName: q\n")
    assert (project.proj_id, project.end, project.type, project.sure) == ("p", "2021-12-31", "t", True)
    assert (project.members, project.mail, other.proj_id, found, whole) == (None, None, "q", aside, True)


@pytest.mark.parametrize(
    "content", ["Name: p\nType: a\n\nName: p\nType: b\n", '{"p": {"Type": "a"}, "p": {"type": "b"}}']
)
def test_of_a_project_that_stands_twice_the_later_counts(content):
    [project], aside, _ = read(content)
    assert (project.type, aside) == ("b", {"project": 1})


@pytest.mark.parametrize(
    "content",
    ["", "\n\n", "# x\n", "{}", "{", '{"p": {}', "{" * 10**5, '{"p":' * 10**5, "[]", "\0" * 99, WHOLE.encode("utf-16")],
)
def test_a_file_without_projects_is_told(content):
    found, aside, whole = read(content)
    assert (found, aside["project file"], whole) == ([], 1, False)


@pytest.mark.parametrize("about", [1, "x", None, []])
def test_a_json_project_that_is_no_object_is_told(about):
    found, aside, whole = read(json.dumps({"p": about, "q": {"Members": [1, [2]], "End": {}}, "a b": {}}))
    assert [(project.proj_id, project.sure) for project in found] == [("q", False)]
    assert (aside, whole) == ({"project": 2, "project value": 1 + 1}, False)


PIECES = st.sampled_from(
    ["Name: p\n", "name:q\n", "Name:\n", "End: 20210101\n", "End: x", "Members: a", " b\n", "\n", "\r\n", "\0", ":",
     "{", '{"p": {"End": "2021', '"}}', "\ufeff", "\ud800", "#", "Start: 20200101\n", "Mail: \u202e\x1b[31m\n"]
)  # fmt: skip


@given(
    st.binary(max_size=200)
    | st.lists(PIECES, max_size=12).map(lambda all: "".join(all).encode("utf-8", "surrogatepass"))
)
def test_no_bytes_raise_or_cannot_be_kept(content):
    found, aside, _ = read(content)
    assert all(projects.is_project(project.proj_id) for project in found)
    assert found or aside
    for project in found:
        for value in project[:-1]:
            assert value is None or "\0" not in value.encode().decode()


NAMES = st.text("abc-12", min_size=1, max_size=3)
TEXTS = st.none() | st.lists(st.text("abå:#{\"'.", min_size=1, max_size=4), min_size=1, max_size=3).map(" ".join)
DAYS = st.none() | st.dates().map(str)
PROJECTS = st.lists(
    st.builds(projects.Project, NAMES, DAYS, DAYS, *[TEXTS] * 6, st.just(True)), min_size=1, unique_by=lambda p: p[0]
)


@given(PROJECTS, st.booleans(), st.booleans())
def test_what_is_written_is_read(wanted, as_json, dashes):
    def value(column, text):
        return text.replace("-", "") if column in projects.DATES and not dashes else text

    told = {
        project.proj_id: {PROJECT_KEYS[c]: value(c, v) for c, v in project._asdict().items() if c != "sure" and v}
        for project in wanted
    }
    paragraphs = ("".join(f"{key}: {v}\n" for key, v in about.items()) for about in told.values())
    assert read(json.dumps(told) if as_json else "\n".join(paragraphs)) == (wanted, {}, True)


# Loading


def test_twice_is_once(site):
    assert load(site, WHOLE)[0] == {"projects": 2, "new": 2}
    before = dump(tables.database(site.root, "projects"), "projects")
    assert load(site)[0] == {"projects": 2, "unchanged": 2}
    assert dump(tables.database(site.root, "projects"), "projects") == before
    assert [row[0] for row in dump(tables.database(site.root, "projects"), "last_updated")] == ["projects"]
    assert load(site, WHOLE.replace("dan", "eve"))[0] == {"projects": 2, "changed": 1, "unchanged": 1}


@pytest.mark.parametrize(
    ("start", "end", "runs"),
    [
        (TODAY, TODAY, True),
        ("20210616", "", False),
        ("", "20210614", False),
        ("", "", True),
        ("20220101", "20210101", False),
    ],
)
def test_active_is_who_runs_today(site, start, end, runs):
    load(site, f"Name: p\nStart: {start}\nEnd: {end}\n")
    assert active(site) == ("p" if runs else "")


def test_as_days_pass_projects_begin_and_end(site):
    text = "Name: a\nEnd: 20210615\n\nName: b\nStart: 20210616\n"
    load(site, text)
    assert active(site) == "a"
    assert load(with_config(site, today="2021-06-16"))[0] == {"projects": 2, "changed": 2}
    assert active(site) == "b"


def test_who_is_no_longer_in_the_file_stays_but_is_not_active(site):
    load(site, named("ab", "Type: t\n"))
    assert load(site, named("b", "Type: t\n")) == ({"projects": 1, "unchanged": 1, "no longer active": 1}, SetAside())
    assert [row[0] + row[7] + row[8] for row in dump(tables.database(site.root, "projects"), "projects")] == [
        "aNt",
        "bYt",
    ]
    assert load(site, named("ab", "Type: t\n"))[0] == {"projects": 2, "changed": 1, "unchanged": 1}
    assert active(site) == "ab"


def test_files_that_are_named_leave_other_projects_alone(site, tmp_path):
    load(site, named("ab") + "Name: c\nEnd: 20210615\n")
    some = tmp_path / "some"
    some.write_text(named("d"))
    assert load(site, None, some)[0] == {"projects": 1, "new": 1}
    assert active(site) == "abcd"
    tomorrow = with_config(site, today="2021-06-16")
    assert load(tomorrow, None, some)[0] == {"projects": 1, "unchanged": 1, "no longer active": 1}
    assert active(site) == "abd"
    assert load(site, None, some, whole=True)[0] == {"projects": 1, "unchanged": 1, "no longer active": 2}
    assert active(site) == "d"


ALL = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    "cut",
    [
        "",
        "\n",
        named(ALL[:19]),
        named(ALL[1:]) + "\nEnd: 20210101\n",
        named(ALL[1:]).rstrip(),
        '{"a": {}, "b": {',
        "\0" * 4096,
    ],
    ids=["empty", "blank", "much gone", "damaged", "no newline", "json", "nul"],
)
def test_a_file_that_looks_cut_ends_nobody(site, cut):
    load(site, named(ALL))
    _, aside = load(site, cut)
    assert aside.counts["project file"] == 1
    assert active(site) == ALL


def test_what_looks_cut_can_be_meant(site):
    load(site, named(ALL))
    load(site, named(ALL[:3]), whole=True)
    assert active(site) == "abc"
    _, aside = load(site, "", whole=True)
    assert (active(site), aside.counts) == ("abc", {"project file": 1})


def test_many_that_have_ended_anyway_do_not_look_cut(site):
    load(site, named(ALL, "End: 20210615\n"))
    assert load(with_config(site, today="2021-06-16"), named("x", "End: 20221231\n"))[1].total == 0
    assert active(site) == "x"


def test_a_source_that_is_not_there_changes_nothing(site, tmp_path):
    load(site, named("ab"))
    (site.root / "projects").unlink()
    for files in ((), (tmp_path / "missing",)):
        with pytest.raises(SourceError, match=r"cannot read projects at .*: No such file.*Nothing was loaded"):
            load_projects(site, files)
    assert active(site) == "ab"
    (site.root / "jobeff.toml").write_text(sites.CONFIG)
    with pytest.raises(ConfigError, match=r"no source of projects.*\[sources\]: projects = "):
        load_projects(sites.Site(sites.config(site.root)))
