"""import: old stores come in as they are, their damage does not."""

import base64
import contextlib
import gzip
import os
import signal
import sqlite3
import tempfile
import zlib
from pathlib import Path

import naive
import pytest
import sites
from conftest import dump
from hypothesis import given, settings
from hypothesis import strategies as st
from test_chain import assert_same, efficiency
from test_exchange import DAY, NODE, START, a_job, counts, frames, known, rows, sqlite, usage

from jobeff.cli import main
from jobeff.config import load
from jobeff.errors import ConfigError, JobeffError, SetAside
from jobeff.sources import legacy, legacy_raw
from jobeff.steps.collect import collect
from jobeff.steps.import_store import import_stores
from jobeff.steps.load import load_slurm
from jobeff.steps.site import Site
from jobeff.steps.update import update
from jobeff.store import tables

RAWDATA = "create table efficiency_rawdata (job_id, node, jobstats)"
INTO_RAWDATA = "insert into efficiency_rawdata values (?, ?, ?)"
EXPORTED = "create table jobs (job_id, jobstats, extended, month)"


def packed(text):
    return base64.b64encode(zlib.compress(text)).decode()


# Raw files


def test_all_old_forms_of_raw_files(tmp_path):
    texts = {job_id: usage(job_id) for job_id in range(1, 8)}
    site = known(tmp_path / "site", [a_job(job_id, rows=job_id) for job_id in texts])
    old = [
        sqlite(tmp_path / "old.db", RAWDATA, (INTO_RAWDATA, [(i, "n1", packed(texts[i])) for i in (1, 2)])),
        sqlite(tmp_path / "c1" / "n1.sqlite", NODE, ("insert into jobs values (?, ?)", [
            (3, texts[3]), (4, zlib.compress(texts[4], 9)), (5, texts[5].decode())])),
        tmp_path / "backup.tsv",
        tmp_path / "backup.tsv.gz",
    ]  # fmt: skip
    old[2].write_text(f"6\tn1\t{packed(texts[6])}\n\n1\tn1\t{packed(texts[1])}\n")
    old[3].write_bytes(gzip.compress(f"7\tn1\t{packed(texts[7])}".encode()))
    [result] = import_stores(site, old)
    assert counts(result) == {"raw files": 7, "unchanged": 1, "text bytes": sum(map(len, texts.values()))}
    assert frames(site.root) == [
        ("c1", "n1", job_id, len(text), zlib.crc32(text), False, "2021-06") for job_id, text in texts.items()
    ]
    assert result.aside.total == 0
    assert counts(import_stores(site, [tmp_path / "c1", *old])[0]) == {"unchanged": 11}
    update(site)
    assert len(efficiency(site.root)) == 7


def test_real_files_come_in_verbatim(shared_data, tmp_path):
    """Out of each old form, as one site has them."""
    real = {
        (path.parent.name, int(path.name)): path.read_bytes() for path in (shared_data / "jobstats").glob("*/*/[0-9]*")
    }
    assert len(real) > 5
    lines = "".join(f"{job_id}\t{node}\t{packed(text)}\n" for (node, job_id), text in real.items())
    (tmp_path / "lines.gz").write_bytes(gzip.compress(lines.encode()))
    stored = [(job_id, node, packed(text)) for (node, job_id), text in real.items()]
    sqlite(tmp_path / "old.db", RAWDATA, (INTO_RAWDATA, stored))
    for form in ("lines.gz", "old.db"):
        aside = SetAside()
        [part] = legacy.parts(tmp_path / form, aside)
        assert {(row.node, row.job_id): row.text for row in legacy_raw.read_raw(part, aside)} == real
        assert aside.total == 0


def test_a_raw_file_goes_to_the_months_of_its_jobs(tmp_path):
    """To that of each attempt; without one, to that of its last sample; later to that of the job known by then."""
    site = known(tmp_path / "site", [a_job(1), a_job(1, START + 40 * DAY), a_job(2, START - 600)])
    old = sqlite(tmp_path / "old.db", RAWDATA, (INTO_RAWDATA, [
        (1, "n1", packed(usage())), (2, "n1", packed(usage(1, START - 900))), (3, "n1", packed(usage(1, START - 900))),
        (4, "n1", packed(b"no row"))]))  # fmt: skip
    [result] = import_stores(site, [old])
    assert [(frame[2], frame[-1]) for frame in frames(site.root)] == [
        (1, "2021-06"), (1, "2021-07"), (2, "2021-06"), (3, "2021-05")]  # fmt: skip
    assert (result.counts["orphans"], result.aside.counts) == (1, {"raw file": 1})
    sites.write_log(site.root, "late", [a_job(3, START - 600), a_job(4)])
    load_slurm(site)
    [result] = import_stores(site, [old])
    assert [(frame[2], frame[-1]) for frame in frames(site.root)][3:] == [
        (3, "2021-05"), (3, "2021-06"), (4, "2021-06")]  # fmt: skip
    assert (result.counts["orphans"], result.aside.total) == (0, 0)


def test_an_orphan_is_imported_once(tmp_path):
    site = known(tmp_path / "site", [a_job(9)])
    some = [(1, b"no row", "2021-02"), (2, b"none", "2021-13")]
    old = sqlite(tmp_path / "c1" / "n1.sqlite", EXPORTED, ("insert into jobs values (?, ?, 0, ?)", some))
    assert counts(import_stores(site, [old])[0]) == {"raw files": 1, "orphans": 1, "text bytes": 6}
    with contextlib.closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("update jobs set month = '2021-02'")
    assert counts(import_stores(site, [old])[0]) == {"raw files": 1, "orphans": 1, "text bytes": 4, "unchanged": 1}
    assert [frame[2] for frame in frames(site.root)] == [1, 2]


def test_a_file_at_the_site_that_has_grown_since_the_old_store_is_collected(tmp_path):
    site = known(tmp_path / "site", [a_job(1)])
    sites.write_raw(site.root, naive.RawFile("c1", "n1", 1, usage(3)))
    old = sqlite(tmp_path / "old.db", RAWDATA, (INTO_RAWDATA, [(1, "n1", packed(usage(2)))]))
    import_stores(site, [old])
    assert collect(site).counts["raw files"] == 1
    assert [frame[3] for frame in frames(site.root)] == [len(usage(2)), len(usage(3))]
    assert collect(site).counts["raw files"] == import_stores(site, [old])[0].counts["raw files"] == 0


GOOD = (1, "n1", packed(usage()))
BAD_IDS = [None, 0, -1, "007", "1; drop table x", 1.5, b"\xff", "9" * 20]
BAD_NODES = [None, "", "../../etc/x", "n1\n", b"n\xff", "n" * 64, 5, "a/b"]
BAD_TEXTS = [
    (None, "no text"), (12, "no text"), (1.5, "no text"), ("%%%", "not base64"), (b"\xff\xfe", "not base64"),
    (GOOD[2][:-5], "not base64"), ("", "cut off"), (base64.b64encode(b"plain"), "does not inflate"),
    (base64.b64encode(zlib.compress(usage())[:-9]), "cut off"),
    (base64.b64encode(zlib.compress(usage()) + b"more"), "4 bytes stand behind"),
    (base64.b64encode(zlib.compress(bytes(20 << 20))), "inflate to more than"),
]  # fmt: skip
BAD_ROWS = [
    *(((bad, *GOOD[1:]), "job id") for bad in BAD_IDS),
    *(((1, bad, GOOD[2]), "not a node name") for bad in BAD_NODES),
    *(((1, "n1", bad), why) for bad, why in BAD_TEXTS),
]


@pytest.mark.parametrize(("bad", "why"), BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_a_bad_row_is_set_aside_and_named(tmp_path, bad, why):
    old = sqlite(tmp_path / "old.db", RAWDATA, (INTO_RAWDATA, [bad, (7, *GOOD[1:])]))
    aside = SetAside()
    [part] = legacy.parts(old, aside)
    assert [row.job_id for row in legacy_raw.read_raw(part, aside)] == [7]
    [(kind, where, said)] = aside.examples
    assert (kind, where) == ("raw row", f"{old} efficiency_rawdata row 1")
    assert why in said
    assert said.isprintable()


def test_a_text_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(legacy_raw, "LARGEST", 1000)
    old = sqlite(tmp_path / "n1.sqlite", NODE, ("insert into jobs values (?, ?)", [(1, b"x" * 1001), (2, b"x" * 1000)]))
    aside = SetAside()
    assert [row.job_id for row in legacy_raw.read_raw(legacy.parts(old, aside)[0], aside)] == [2]
    assert "longer than 1000 bytes: 1001" in str(aside.examples)
    assert legacy_raw.inflated(zlib.compress(b"x" * 1000)) == b"x" * 1000
    with pytest.raises(ValueError, match="more than 1000"):
        legacy_raw.inflated(zlib.compress(b"x" * 1001))


good_lines = st.tuples(st.integers(1, 2**63 - 1), st.sampled_from(["n1", "r2.x"]), st.binary(max_size=60))
junk = st.one_of(
    st.binary(max_size=30).filter(lambda line: b"\n" not in line and line.strip(b"\r")),
    st.sampled_from(
        [b"1\tn1", b"1\tn1\t", b"\t\t", b"1\tn1\tAAAA\tx", b"x\tn1\tAAAA", b"1\t../n\t" + packed(b"x").encode()]
    ),
)


@settings(max_examples=100)
@given(st.lists(st.one_of(good_lines, junk), max_size=12), st.booleans(), st.booleans())
def test_of_backup_lines_the_good_ones_are_read(lines, zipped, ended):
    first = (1, "n1", b"so that the file is known")
    text = b"\n".join(
        line if isinstance(line, bytes) else f"{line[0]}\t{line[1]}\t{packed(line[2])}".encode()
        for line in [first, *lines]
    ) + b"\n" * ended  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "backup")
        path.write_bytes(gzip.compress(text, 1) if zipped else text)
        aside = SetAside()
        [part] = legacy.parts(path, aside)
        found = [(row.job_id, row.node, row.text) for row in legacy_raw.read_raw(part, aside)]
    good = [line for line in [first, *lines] if not isinstance(line, bytes)]
    bad = [line for line in lines if isinstance(line, bytes)]
    assert (found, aside.counts["raw row"]) == (good, len(bad))


def test_a_line_that_does_not_end_and_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(legacy_raw, "LONGEST_LINE", 1000)
    line = f"1\tn1\t{packed(usage(1))}\n".encode()
    path = tmp_path / "lines"
    path.write_bytes(line + b"x" * (3 << 20) + b"\n" + line)
    aside = SetAside()
    [part] = legacy.parts(path, aside)
    assert len(list(legacy_raw.read_raw(part, aside))) == 2
    assert aside.examples == [("raw row", f"{path}:2", "longer than 1000 bytes")]
    for damaged, why in [
        (gzip.compress(line + bytes(99 << 20)), "inflates to more"),
        (gzip.compress(line * 9)[:-9], "end-of-stream"),
        (gzip.compress(line * 9)[:-6] + b"xxxxxx", "CRC"),
    ]:
        path.write_bytes(damaged)
        aside = SetAside()
        found = list(legacy_raw.read_raw(legacy.Part(path, "lines"), aside))
        assert (len(found) > 0, "store" in aside.counts, why in str(aside.examples)) == (True, True, True)


def test_a_damaged_store_does_not_stop_the_others(tmp_path):
    site = known(tmp_path / "site", [a_job(i) for i in range(1, 300)])
    some = [(i, "n1", packed(os.urandom(3000))) for i in range(100, 300)]
    damaged = sqlite(tmp_path / "damaged.db", RAWDATA, (INTO_RAWDATA, some))
    text = damaged.read_bytes()
    middle = len(text) // 8192 * 4096
    damaged.write_bytes(text[:middle] + b"\xff" * 8192 + text[middle + 8192 :])
    (tmp_path / "cut.db").write_bytes(text[:middle])
    good = sqlite(tmp_path / "good.db", RAWDATA, (INTO_RAWDATA, [GOOD]))
    for name, content in {"empty": b"", "junk": os.urandom(500), "text": b"hello\n"}.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "fifo")
    sqlite(tmp_path / "other.db", "create table other (a)")
    sqlite(tmp_path / "-n.sqlite", NODE)
    names = ["cut.db", "empty", "junk", "text", "fifo", "other.db", "-n.sqlite"]
    [result] = import_stores(site, [damaged, *(tmp_path / name for name in names), good])
    assert (result.aside.counts["file"], result.aside.counts["store"]) == (len(names), 1)
    assert all(name in str(result.aside.examples) for name in names)
    ids = [frame[2] for frame in frames(site.root)]
    assert ids[0] == 1
    assert ids[1:] == list(range(100, 100 + len(ids) - 1))
    assert 50 < len(ids) < 150


def test_which_cluster(tmp_path):
    """The folder of a node's file, or the only one there is, or as told; else nothing is done."""
    root = tmp_path / "site"
    site = known(root, [a_job(1)])
    (root / "jobeff.toml").write_text((root / "jobeff.toml").read_text() + '[clusters.c2]\naccounting = "x"\n')
    two = Site(load(root / "jobeff.toml"))
    old = sqlite(tmp_path / "old.db", RAWDATA, (INTO_RAWDATA, [GOOD]))
    node = sqlite(tmp_path / "c2" / "n1.sqlite", NODE, ("insert into jobs values (?, ?)", [(1, usage())]))
    gone = sqlite(tmp_path / "c9" / "n1.sqlite", EXPORTED)
    with pytest.raises(ConfigError, match=r"--cluster c1\|c2"):
        import_stores(two, [node, old])
    with pytest.raises(ConfigError, match="no cluster c9"):
        import_stores(two, [old], "c9")
    assert frames(root) == []
    import_stores(two, [node])
    import_stores(two, [old], "c2")
    assert [frame[0] for frame in frames(root)] == ["c2"]
    assert import_stores(site, [gone])[0].aside.counts == {"file": 1}
    import_stores(site, [old])
    assert [frame[0] for frame in frames(root)] == ["c1", "c2"]


def test_accounting_comes_first(tmp_path):
    site = sites.make(tmp_path / "site")
    old = sqlite(tmp_path / "old.db", RAWDATA, (INTO_RAWDATA, [GOOD]))
    with pytest.raises(JobeffError, match="'jobeff load slurm' first"):
        import_stores(site, [old])
    assert not (site.root / "archive").exists()
    with pytest.raises(JobeffError, match="no such file"):
        import_stores(site, [tmp_path / "nothing"])


# Accounting

ACCOUNTING = """create table slurm_accounting (date text, job_id, account text, user text, start, end, partition text,
                cores, cluster text, nodes text, jobname text, jobstate text)"""
INTO_ACCOUNTING = "insert into slurm_accounting values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def record(job_id=1, name="x", **other):
    row = {
        **{"date": "1999-01-01", "job_id": job_id, "account": "p", "user": "u", "start": START, "end": START + 900},
        **{"partition": "core", "cores": 1, "cluster": "c1", "nodes": "n1", "jobname": name, "jobstate": "COMPLETED"},
    }
    return tuple({**row, **other}.values())


def test_an_old_accounting_table_says_what_the_log_says(tmp_path):
    """But for what it never knew, which the log adds when it is loaded later."""
    jobs = [a_job(1), a_job(2, nodes=("n1", "n2")), a_job(3, nodes=())]
    loaded = known(tmp_path / "a", jobs)
    old = sqlite(tmp_path / "old.db", ACCOUNTING, (INTO_ACCOUNTING, [
        record(1), record(2, nodes="n[1-2]"), record("3", nodes="", end=START, start=START)]))  # fmt: skip
    site = sites.make(tmp_path / "b")
    [result] = import_stores(site, [old])
    assert counts(result) == {"new": 3, "never started": 1}
    assert counts(import_stores(site, [old])[0]) == {"unchanged": 3, "never started": 1}
    of_both = [[row[:12] for row in dump(tables.database(root, "accounting"))] for root in (site.root, loaded.root)]
    assert of_both[0] == of_both[1]
    assert counts(import_stores(loaded, [old])[0]) == {"unchanged": 3, "never started": 1}
    sites.write_log(site.root, "day", jobs)
    assert load_slurm(site).counts["changed"] == 3
    assert dump(tables.database(site.root, "accounting")) == dump(tables.database(loaded.root, "accounting"))
    assert (
        counts(import_stores(sites.make(tmp_path / "c"), [tables.database(loaded.root, "accounting")])[0])["new"] == 3
    )


@pytest.mark.parametrize(
    "bad",
    [{"account": "a|b"}, {"account": None}, {"user": ""}, {"start": "now"}, {"end": START - 1}, {"end": 2**62},
     {"job_id": None}, {"job_id": "x"}, {"job_id": 2.0**63}, {"job_id": 1.5}, {"job_id": b"\xff"}, {"cores": -1},
     {"cores": 2**40}, {"cluster": "../x"}, {"nodes": "n[1-999999999]"}, {"nodes": "../x"}],
)  # fmt: skip
def test_a_bad_record_is_set_aside_and_named(tmp_path, bad):
    name = 'a|b\n jobstate=FAILED" =cmd'
    old = sqlite(tmp_path / "old.db", ACCOUNTING, (INTO_ACCOUNTING, [record(**bad), record(2, name)]))
    site = sites.make(tmp_path / "site")
    [result] = import_stores(site, [old])
    assert (counts(result), result.aside.counts) == ({"new": 1}, {"accounting line": 1})
    assert result.aside.examples[0][1] == f"{old} slurm_accounting row:1"
    assert rows(tables.database(site.root, "accounting"), "select job_id, proj_id, jobname, jobstate from jobs") == [
        (2, "p", name, "COMPLETED")
    ]


def test_raw_files_and_accounting_of_one_store(tmp_path, capsys):
    """By way of the command line; what computes from it needs nothing else."""
    old = sqlite(
        tmp_path / "old.db", RAWDATA + ";" + ACCOUNTING, (INTO_RAWDATA, [GOOD]), (INTO_ACCOUNTING, [record(1)])
    )
    site = sites.make(tmp_path / "site")

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["-c", str(site.config.file), "--workers", "0", *map(str, arguments)])
        return done.value.code, *capsys.readouterr()

    code, out, err = run("import", "--format", "accounting", old)
    assert (code, err, "import raw" in out) == (0, "", False)
    code, out, err = run("import", old)
    assert (code, err) == (0, "")
    assert [line[:11].rstrip() for line in out.splitlines() if line[0] != " "] == [
        *("step", "import jobs", "import raw", out.splitlines()[-1][:11]),
    ]
    assert "'jobeff " in out.splitlines()[-1]
    code, out, err = run("import", "--format", "lines", old)
    assert (code, "it holds rawdata, accounting only" in err) == (3, True)
    assert run("update")[0] == 0
    assert_same(efficiency(site.root), naive.efficiency([a_job(1)], [naive.RawFile("c1", "n1", 1, usage())]))
    for arguments in (["general", tmp_path / "g"], ["efficiency", tmp_path / "e"], ["raw", "--sqlite", tmp_path / "r"]):
        assert run("export", *arguments)[::2] == (0, "")
    assert run("import")[0] == run("export", "raw")[0] == 2
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.umask(0o022)
