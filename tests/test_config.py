"""The configuration: what may stand in it, what is meant where nothing does, and how a mistake is told."""

from datetime import date
from pathlib import Path

import pytest

from jobeff import config
from jobeff.errors import ConfigError, JobeffError, NotADataRootError

WHOLE = """
root = "data"
timezone = "America/New_York"
orphan_days = 12.5
[clusters.rackham]
accounting = "slurm/rackham/accounting"
accounting_format = "sacct"
jobstats = ["/abs/extended_uppmax_jobstats", "plain"]
grants = "grantfile"
interval = 60
node_types = [1024, 128]
[clusters."snowy.x"]
accounting = ["a", "b"]
[sources]
projects = "projects"
storage = "storage"
"""


def read(folder, text):
    path = folder / "jobeff.toml"
    path.write_text(text)
    return config.load(path)


def test_a_whole_configuration(tmp_path):
    found = read(tmp_path, WHOLE)
    assert (found.root, found.shards) == (tmp_path / "data", tmp_path / "data" / "shards")
    assert (found.file, found.clock.zone.key, found.orphan_days) == (tmp_path / "jobeff.toml", "America/New_York", 12.5)
    assert found.clusters["rackham"] == config.Cluster(
        name="rackham",
        accounting=(tmp_path / "slurm/rackham/accounting",),
        accounting_format="sacct",
        jobstats=(Path("/abs/extended_uppmax_jobstats"), tmp_path / "plain"),
        grants=tmp_path / "grantfile",
        interval=60,
        node_types=(128, 1024),
    )
    assert found.node_types("rackham.p1") == (128, 1024)
    assert found.node_types("nowhere") == ()
    assert found.clusters["snowy.x"].accounting == (tmp_path / "a", tmp_path / "b")
    assert found.sources == {"projects": tmp_path / "projects", "storage": tmp_path / "storage"}


def test_defaults(tmp_path):
    found = read(tmp_path, "[clusters.c1]\n")
    assert found.clusters == {"c1": config.Cluster("c1", (), "auto", (), None, 300)}
    assert (found.root, found.orphan_days, found.sources) == (tmp_path, 20, {})
    assert found.clock.zone.key == "Europe/Stockholm"


@pytest.mark.parametrize("day", ["2024-02-29", "'2024-02-29'"])
def test_today_can_be_a_date_or_a_text(tmp_path, day):
    assert read(tmp_path, f"today = {day}\n[clusters.c1]\n").today == date(2024, 2, 29)


def test_paths_begin_at_the_folder_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "jobeff.toml").write_text("[clusters.c1]\naccounting = 'log'\n")
    monkeypatch.chdir(tmp_path)
    found = config.load(Path("jobeff.toml"))
    assert (found.root, found.clusters["c1"].accounting) == (tmp_path, (tmp_path / "log",))


def test_a_mark_before_the_text_is_not_read(tmp_path):
    assert list(read(tmp_path, "\ufeff[clusters.c1]\r\n").clusters) == ["c1"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "clusters"),
        ("clusters = 1", "clusters"),
        ("[clusters]\nc1 = 1", "clusters.c1"),
        ("[clusters.'../x']", "clusters.../x"),
        ("[clusters.'a b']", "clusters.a b"),
        ("[clusters.c1.x]\ny = 1", "clusters.c1.x"),
        ("[clusters.c1]\ncolour = 1", "clusters.c1.colour"),
        ("[clusters.c1]\naccounting = 1", "clusters.c1.accounting"),
        ("[clusters.c1]\naccounting = ['a', '']", "clusters.c1.accounting"),
        ("[clusters.c1]\njobstats = [['a']]", "clusters.c1.jobstats"),
        ('[clusters.c1]\njobstats = "a\\u0000"', "clusters.c1.jobstats"),
        ("[clusters.c1]\naccounting_format = 'csv'", "clusters.c1.accounting_format"),
        ("[clusters.c1]\naccounting_format = ['site']", "clusters.c1.accounting_format"),
        ("[clusters.c1]\ngrants = false", "clusters.c1.grants"),
        *((f"[clusters.c1]\ninterval = {s}", "clusters.c1.interval") for s in (0, -1, 300.0, 86401, "true", "'5'")),
        *(
            (f"[clusters.c1]\nsacct_overlap_days = {days}", "clusters.c1.sacct_overlap_days")
            for days in (-1, 367, 1.5, "true")
        ),
        *(
            (f"[clusters.c1]\nnode_types = {sizes}", "clusters.c1.node_types")
            for sizes in ("128", "[0]", "[128, 128]", "[128.5]", "[true]", "['128']", "{}")
        ),
        ("colour = 1\n[clusters.c1]", "colour"),
        ("root = 1\n[clusters.c1]", "root"),
        ("root = ''\n[clusters.c1]", "root"),
        ("timezone = 1\n[clusters.c1]", "timezone"),
        *((f"timezone = '{zone}'\n[clusters.c1]", "timezone") for zone in ("Mars/Base", "../../etc/passwd", "/etc")),
        *((f"orphan_days = {days}\n[clusters.c1]", "orphan_days") for days in ("-1", "'20'", "true", "nan")),
        ("sources = 1\n[clusters.c1]", "sources"),
        ("[clusters.c1]\n[sources]\nx = 'y'", "sources.x"),
        ("[clusters.c1]\n[sources]\nprojects = 5", "sources.projects"),
        ("staff = 'anna'\n[clusters.c1]", "staff"),
        ("staff = ['anna', '']\n[clusters.c1]", "staff"),
        *((f"engine = {name}\n[clusters.c1]", "engine") for name in ("1", "'cloud'", "'dask://'")),
        *((f"today = {day}\n[clusters.c1]", "today") for day in ("'yesterday'", "20240131", "2024-01-31T00:00:00")),
        *((f"today = {day}\n[clusters.c1]", "today") for day in ("0001-01-01", "'1969-12-28'", "9999-12-27")),
        *((f"[clusters.c1]\n[slurm]\noptions = {one}", "slurm.options") for one in ("'-A x'", "['x']", "[1]", "['']")),
        ("[clusters.c1]\n[slurm]\ncolour = 1", "slurm.colour"),
        *((f"[clusters.c1]\nsacct = {word}", "clusters.c1.sacct") for word in ("1", "'yes'")),
    ],
)  # fmt: skip
def test_a_mistake_is_told_by_file_and_key(tmp_path, text, key):
    with pytest.raises(ConfigError) as told:
        read(tmp_path, text)
    assert f"'{key}'" in str(told.value)
    assert str(tmp_path / "jobeff.toml") in str(told.value)
    assert told.value.exit_code == 2


def test_what_is_no_toml_is_told_by_file_and_line(tmp_path):
    with pytest.raises(ConfigError, match=r"jobeff\.toml.*line 2"):
        read(tmp_path, "root = '.'\nnonsense\n")
    (tmp_path / "jobeff.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"jobeff\.toml"):
        config.load(tmp_path / "jobeff.toml")


@pytest.mark.parametrize("text", ['"\\u001b[31m" = 1', 'timezone = "\\u001b[31m"\n[clusters.c1]'])
def test_what_is_shown_of_it_is_escaped(tmp_path, text):
    with pytest.raises(ConfigError) as told:
        read(tmp_path, text)
    assert str(told.value).isprintable()


def test_the_configuration_is_looked_for_in_three_places(tmp_path, monkeypatch):
    given, named, here = (tmp_path / name for name in ("given", "named", "jobeff.toml"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOBEFF_CONFIG", raising=False)
    with pytest.raises(NotADataRootError, match="there is no configuration"):
        config.find(None)
    with pytest.raises(NotADataRootError, match="it is no file"):
        config.find(tmp_path)
    for path in (given, named, here):
        path.touch()
    assert config.find(None) == Path("jobeff.toml")
    monkeypatch.setenv("JOBEFF_CONFIG", str(named))
    assert config.find(None) == named
    assert config.find(given) == given


@pytest.mark.parametrize("by_option", [True, False])
def test_a_configuration_that_is_named_must_be_there(tmp_path, monkeypatch, by_option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobeff.toml").touch()
    monkeypatch.setenv("JOBEFF_CONFIG", "missing")
    with pytest.raises(JobeffError, match=r"no configuration at (missing|other)") as told:
        config.find(Path("other") if by_option else None)
    assert told.value.exit_code == 10


@pytest.mark.parametrize(
    ("cluster", "raw"),
    [("c1", "c1"), ("c1.p", "c1"), ("c1.p.q", "c1.p.q"), ("c1.p.q.r", "c1.p.q"), ("c10", "c10"), ("c2", "c2")],
)
def test_a_virtual_cluster_is_part_of_the_configured_one_with_the_longest_name(tmp_path, cluster, raw):
    assert read(tmp_path, "[clusters.c1]\n[clusters.'c1.p.q']\n").raw_cluster(cluster) == raw
