"""Shards: what stands in them, that they follow the archive, and that no crash and no damage makes them wrong."""

import contextlib
import errno
import gzip
import itertools
import json
import os
import shutil
import sqlite3
import struct
import threading
from pathlib import Path

import naive
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sites
from conftest import dump, in_a_copy
from strategies import EXTENDED, PLAIN, local_time
from test_chain import MONTH_END, assert_same, efficiency

from jobeff.engine import scan
from jobeff.errors import JobeffError
from jobeff.steps.collect import collect
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.load import load_slurm
from jobeff.steps.rebuild import rebuild
from jobeff.steps.repair import repair
from jobeff.steps.update import update
from jobeff.store import archive, shards, tables
from jobeff.store.scratch import scratch_root

START = MONTH_END


def usage(rows, *cores, first=START):
    """A raw file."""
    row = "8.0 1.25 0.0 " + " ".join(f"{core:.1f}" for core in cores or (50.0,))
    lines = [f"{local_time(t)} {t} {row}" for t in range(first, first + 300 * rows, 300)]
    return "\n".join([PLAIN, *lines, ""]).encode()


def a_night(number):
    """Jobs on one or two nodes, in two months; one begins in one night's month and is on two nodes."""
    start = START - 1800 + 3600 * (number % 2)
    spans = [(10 * number + i, nodes) for i, nodes in enumerate((("n1",), ("n2",), ("n1", "n2")), 1)]
    jobs = [naive.Job("c1", i, "p", "u", start + i, start + i + 1200, 1, "COMPLETED", nodes) for i, nodes in spans]
    files = [naive.RawFile("c1", n, j.job_id, usage(3, j.job_id, first=j.start + 9)) for j in jobs for n in j.nodes]
    return sites.Night(jobs, files)


def nights(site, *numbers):
    for number in numbers:
        a_night(number).fall(site.root, f"night-{number}")
        update(site)


def expected(*numbers):
    some = [a_night(number) for number in numbers]
    return naive.efficiency([j for night in some for j in night.jobs], [f for night in some for f in night.files])


def shard(site, node="n1", month="2021-06"):
    return shards.shard_path(site.config.shards, "c1", node, month)


def everything(site):
    """A canonical dump of all databases and shards, and the names of all files."""
    databases = ("accounting", "efficiency")
    files = {str(path.relative_to(site.root)) for path in site.root.rglob("*")}
    return {
        "files": files,
        **{name: dump(tables.database(site.root, name)) for name in databases},
        **{name: pq.read_table(site.root / name).to_pylist() for name in files if name.endswith(".parquet")},
    }


@pytest.fixture
def site(tmp_path):
    return sites.make(tmp_path / "site")


# What stands in a shard


def test_a_shard_is_as_its_readme_says(site):
    texts = {
        3: b"no row at all",
        2: usage(2, 10.0, 99.99, first=START + 60),
        1: f"{EXTENDED}\n{local_time(START)} {START} 8.0 1.0 2.5 0.1 1 1 5.0\nbad\n".encode(),
    }
    jobs = [naive.Job("c1", i, "p", "u", START, START + 600, 2, "COMPLETED", ("n1",)) for i in texts]
    sites.Night(jobs, [naive.RawFile("c1", "n1", i, t, i == 1) for i, t in texts.items()]).fall(site.root, "day")
    counts = sites.result_of(update(site), "ingest").counts
    assert (counts["raw files"], counts["rows"], counts["damaged rows"]) == (3, 3, 2)
    table = pq.read_table(shard(site))
    text = archive.month_file(site.root, "c1", "2021-06").read_bytes()
    rows = table.to_pylist()
    assert [row["job_id"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert text[row["offset"] : row["offset"] + row["bytes"]] == texts[row["job_id"]]
        assert f"bytes={row['bytes']} crc32={row['crc32']:08x} ".encode() in text
    first, second, third = rows
    assert (first["max_used"], first["limit"], first["swap"], first["rejected"]) == ([250], [800], [10], 1)
    assert (second["first"], second["last"], second["cores"]) == (START + 60, START + 360, 2)
    assert second["core"] == [1000, 10000, 1000, 10000]
    assert (second["used"], second["max_used"], second["time"]) == ([125, 125], [], [START + 60, START + 360])
    assert (third["first"], third["last"], third["time"], third["rejected"]) == (None, None, [], 1)


def test_the_readme_names_all_columns_and_their_types(site):
    nights(site, 1)
    described = {}
    for line in (Path(__file__).parents[1] / "shards" / "README.md").read_text().splitlines():
        if line.startswith("| `"):
            names, kinds = (cell.strip(" `") for cell in line.split("|")[1:3])
            names, kinds = names.split("`, `"), kinds.removesuffix(", null").split(", ")
            described |= dict(zip(names, kinds * (len(names) // len(kinds)), strict=True))
    found = {
        field.name: f"list of {field.type.value_type}" if pa.types.is_list(field.type) else str(field.type)
        for field in pq.read_schema(shard(site))
    }
    assert found == described


def test_a_shard_says_what_it_was_built_from(site):
    nights(site, 1)
    size = archive.month_file(site.root, "c1", "2021-06").stat().st_size
    said = json.loads(pq.read_metadata(shard(site)).metadata[b"jobeff"])
    assert {
        "version": 1,
        "cluster": "c1",
        "node": "n1",
        "month": "2021-06",
        "archive_bytes": size,
    }.items() <= said.items()
    done = json.loads((site.config.shards / "c1" / ".ingested" / "2021-06.json").read_bytes())
    assert {"archive_bytes": size, "file": "2021-06.txt", "size": size, "restarts": 0}.items() <= done.items()
    assert set(done["nodes"]) == set(shards.nodes_with(site.config.shards, "c1", "2021-06"))


def test_nights_make_the_same_shards_as_one_run(site, tmp_path):
    nights(site, 1, 2, 3, 4)
    once = sites.make(tmp_path / "once")
    for path in ("archive", "slurm"):
        shutil.copytree(site.root / path, once.root / path, dirs_exist_ok=True)
    update(once)
    for path in site.config.shards.rglob("*.parquet"):
        assert path.read_bytes() == (once.config.shards / path.relative_to(site.config.shards)).read_bytes()
    assert ingest(site).counts == {"raw files": 0, "rows": 0, "damaged rows": 0, "text bytes": 0}


def test_workers_make_the_same_shards(site, tmp_path, executors):
    nights(site, 1, 2)
    for workers in (1, 2):
        other = sites.make(tmp_path / str(workers), workers, executors[workers])
        shutil.copytree(site.root / "archive", other.root / "archive")
        ingest(other)
        for path in site.config.shards.rglob("*.parquet"):
            assert path.read_bytes() == (other.config.shards / path.relative_to(site.config.shards)).read_bytes()


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_month_that_gets_compressed_stays_ingested(site, suffix):
    nights(site, 1)
    before = everything(site)
    for month, codec in (("2021-05", suffix), ("2021-06", suffix)):
        path = archive.month_file(site.root, "c1", month)
        if path.exists():
            with pa.output_stream(str(path.with_name(path.name + codec))) as out:
                out.write(path.read_bytes())
            path.unlink()
    assert ingest(site).counts["raw files"] == 0
    rebuild(site)
    after = everything(site)
    assert {name: after[name] for name in after if name != "files"} == {n: before[n] for n in before if n != "files"}


def test_the_text_of_a_compressed_month_takes_room_until_its_shards_are_made(site, monkeypatch):
    folder = archive.month_file(site.root, "c1", "2021-01").parent
    folder.mkdir(parents=True)
    frames = archive.RawFile("n1", 1, usage(3), False)
    for month in ("2021-01", "2021-02", "2021-03"):
        archive.append(folder / "plain.txt", "c1", [frames])
        (folder / f"{month}.txt.gz").write_bytes(gzip.compress((folder / "plain.txt").read_bytes()))
        (folder / "plain.txt").unlink()
    texts, note = [], shards.set_ingested

    def noted(where, cluster, month, *rest):
        found = {path.name for path in scratch_root(site.root).rglob("*.txt")}
        texts.append((f"{month}.txt" in found, len(found)))
        note(where, cluster, month, *rest)

    monkeypatch.setattr(shards, "set_ingested", noted)
    assert ingest(site).counts["raw files"] == 3
    assert [own for own, _ in texts] == [False] * 3
    assert max(others for _, others in texts) == 1  # two months are worked on at once
    assert [list(path.iterdir()) for path in scratch_root(site.root).iterdir() if path.is_dir()] == []


def test_an_unusable_compressed_month_is_set_aside_and_the_others_ingested(site, monkeypatch):
    bad = archive.month_file(site.root, "c1", "2021-01").with_suffix(".txt.gz")
    bad.parent.mkdir(parents=True)
    archive.append(archive.month_file(site.root, "c1", "2021-06"), "c1", [archive.RawFile("n1", 1, usage(3), False)])
    bad.write_bytes(b"x" * 50)
    inflated, told = scan.inflate_month, []

    def inflate_month(task):
        told.append((inflated(task), task.month_text.exists()))
        return told[-1][0]

    monkeypatch.setattr(scan, "inflate_month", inflate_month)
    result = ingest(site)
    assert result.counts["raw files"] == 1
    assert str(bad) in str(result.aside.examples)
    assert [(bool(why), there) for why, there in told] == [(True, False)]  # what came of it takes no room


@pytest.mark.parametrize("step", [ingest, rebuild])
def test_a_compressed_month_of_which_workers_die_is_set_aside_and_the_others_ingested(site, step, monkeypatch):
    nights(site, 1, 2)
    before = dump(tables.database(site.root, "efficiency"))
    (path, *others) = archive.month_files(site.root, "c1").values()
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    for note in shards.notes(site.config.shards, "c1"):
        note.unlink()
    tried = []

    def dies(task):
        task.month_text.parent.mkdir(parents=True, exist_ok=True)
        task.month_text.write_bytes(b"a part of it")
        tried.append(task.month_text)
        raise MemoryError

    monkeypatch.setattr(scan, "inflate_month", dies)
    result = step(site)
    result = result[0] if step is rebuild else result
    why = "the worker that inflated it ran out of memory"
    assert result.aside.examples == [("archive month", str(packed), why)]
    assert tried
    assert [note.stem for note in shards.notes(site.config.shards, "c1")] == [path.stem for path in others] != []
    assert dump(tables.database(site.root, "efficiency")) == before


def test_a_month_that_was_cut_is_ingested_as_it_grows_again(site):
    """The lost frames cannot be collected again; what comes after them must not be taken for what was there."""
    nights(site, 1)
    for path in (site.root / "slurm" / "uppmax_jobstats").glob("*/*"):
        path.unlink()
    month = archive.month_file(site.root, "c1", "2021-06")
    os.truncate(month, month.stat().st_size - 400)
    a_night(3).fall(site.root, "night-3")
    update(site)
    found = efficiency(site.root)
    assert_same({key: row for key, row in found.items() if key[1] > 30}, expected(3))
    rebuild(site)
    assert_same({key: row for key, row in efficiency(site.root).items() if key[1] > 30}, expected(3))


def test_a_torn_tail_costs_no_shard(site):
    """Nodes that have nothing new keep theirs, as they are: what a tail is said to be is no reason to begin anew."""
    nights(site, 1)
    ingest(site)
    before = {path: path.read_bytes() for path in site.config.shards.rglob("*.parquet")}
    for path in archive.month_files(site.root, "c1").values():
        path.write_bytes(path.read_bytes() + b"==> c1/r1/99 bytes=99 crc32=00000000 <==\ntorn")
    assert set(ingest(site).aside.counts) == {"archive tail"}
    assert {path: path.read_bytes() for path in site.config.shards.rglob("*.parquet")} == before
    assert before


@pytest.mark.parametrize("of", ["raw text", "header"])
def test_a_month_that_was_damaged_keeps_its_shards_until_it_is_mended(site, of):
    """What the shards still have is not made again from text that has lost it."""
    nights(site, 1)
    before = {path: path.read_bytes() for path in site.config.shards.rglob("*.parquet")}
    month = archive.month_file(site.root, "c1", "2021-06")
    text = bytearray(month.read_bytes())
    text[text.rindex(b"==> ") + 8 if of == "header" else -10] ^= 1
    month.write_bytes(text)
    a_night(3).fall(site.root, "night-3")
    results = update(site)
    assert "repair" in str(sites.result_of(results, "ingest").aside.examples)
    assert {path: path.read_bytes() for path in site.config.shards.rglob("*.parquet")} == before
    repair(site)
    update(site)
    assert_same(efficiency(site.root), expected(1, 3))


# Crashes


def stopped_at(point, run, full_disk):
    """Run in a copy of this process whose `point`-th step on disk kills it or finds no space; whether it got there."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
    with contextlib.suppress(BaseException):
        points, leaving = itertools.count(1), threading.Lock()

        def step(function):
            def checked(*args, **options):
                if next(points) >= point:
                    if not full_disk:
                        leaving.acquire()  # threads remove folders; what measures coverage is written by one of them
                        os._exit(9)
                    raise OSError(errno.ENOSPC, "No space left on device")
                return function(*args, **options)

            return checked

        class Connection(sqlite3.Connection):
            def execute(self, query, *values):
                return (step(super().execute) if query in ("commit", "begin immediate") else super().execute)(
                    query, *values
                )

        for name in ("fsync", "mkdir", "replace", "rename", "rmdir", "unlink"):
            setattr(os, name, step(getattr(os, name)))
        connect = sqlite3.connect
        sqlite3.connect = lambda *args, **options: connect(*args, factory=Connection, **options)
        run()
        os._exit(0)
    os._exit(1)


def restore(root, copy):
    shutil.rmtree(root)
    shutil.copytree(copy, root, symlinks=True)


def every_stop(root, run, full_disk, stride=1):
    """Stop a command at every step in turn, each time from the same state."""
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    for point in itertools.count(1, stride):
        restore(root, copy)
        if not stopped_at(point, run, full_disk):
            assert point > 10
            return
        yield point


@pytest.mark.parametrize("full_disk", [False, True], ids=["killed", "disk full"])
def test_update_stopped_anywhere_and_run_again(site, full_disk):
    nights(site, 1)
    a_night(2).fall(site.root, "night-2")
    shutil.copytree(site.root, site.root.with_name("before"))
    update(site)
    wanted = everything(site)
    restore(site.root, site.root.with_name("before"))
    for point in every_stop(site.root, lambda: update(site), full_disk, 3 if full_disk else 1):
        assert sum(result.aside.total for result in update(site)) == 0, point
        assert everything(site) == wanted, point
    assert_same(efficiency(site.root), expected(1, 2))


@pytest.mark.parametrize("full_disk", [False, True], ids=["killed", "disk full"])
def test_rebuild_stopped_anywhere_and_run_again(site, full_disk, monkeypatch):
    monkeypatch.setattr(
        "jobeff.steps.rebuild.MANY", 1 if full_disk else 64
    )  # with and without workers to remove the old
    if full_disk:
        monkeypatch.setattr("jobeff.steps.rebuild._are_kept", lambda _: False)
    nights(site, 1, 2)
    rebuild(site)
    wanted = everything(site)
    for point in every_stop(site.root, lambda: rebuild(site), full_disk, 5 if full_disk else 2):
        rebuild(site)
        assert everything(site) == wanted, point


def test_rebuild_stopped_anywhere_and_not_run_again_for_a_night(site):
    """The next night goes on with whichever generation is in place; a rebuild after that has the night in it."""
    nights(site, 1)
    for point in every_stop(site.root, lambda: rebuild(site), False, 4):
        nights(site, 2)
        assert_same(efficiency(site.root), expected(1, 2))
        rebuild(site)
        assert_same(efficiency(site.root), expected(1, 2))
        assert not list(site.root.rglob("*.rebuild")), point


@pytest.mark.parametrize("left", [b"", b'{"archive_bytes": 1', b"\0" * 100])
def test_notes_that_a_power_cut_took_from_a_rebuild_are_written_again(site, left, monkeypatch):
    """They are not durable before all is; those of shards that have been published are, and are not passed over."""
    nights(site, 1, 2)
    rebuild(site)
    wanted = everything(site)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("jobeff.steps.rebuild.atomic_write", lambda _: 1 / 0)
        rebuild(site)
    notes = shards.notes(site.config.shards / ".rebuild", "c1")
    assert notes
    for note in notes:
        note.write_bytes(left)
    rebuild(site)
    assert everything(site) == wanted
    shards.notes(site.config.shards, "c1")[0].write_bytes(left)
    with pytest.raises(JobeffError, match="cannot tell how far the archive was ingested"):
        ingest(site)


@pytest.mark.parametrize("command", [rebuild, lambda site: compute(site, everything=True)], ids=["rebuild", "compute"])
def test_a_new_database_does_not_take_over_the_journal_of_the_old_one(site, command):
    """A run killed within a commit leaves a journal, which SQLite plays back into whatever then has that name."""
    nights(site, 1)
    path = tables.database(site.root, "efficiency")

    def killed():
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("pragma cache_size = 1")
        connection.execute("begin")
        connection.execute("update jobs set cpu_mean = 99")
        connection.execute("create table large as select hex(zeroblob(100000))")
        os._exit(9)

    assert in_a_copy(killed) == 9
    assert path.with_name("efficiency.sqlite-journal").exists()
    a_night(2).fall(site.root, "night-2")
    for step in (load_slurm, collect, ingest, command):
        step(site)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert_same(efficiency(site.root), expected(1, 2))


def test_a_generation_that_is_not_complete_is_gone_on_with(site):
    nights(site, 1)
    generation = site.config.shards / ".rebuild"
    shutil.copytree(site.config.shards / "c1", generation / "c1")
    (generation / "c1" / ".ingested" / "2021-06.json").unlink()
    before = everything(site)["efficiency"]
    written = {path.stat().st_ino for path in generation.rglob("*.parquet")}
    # Its files are read again, for whoever died may have found damage in them, but no shard is written again.
    assert rebuild(site)[0].counts["raw files"] == len(a_night(1).files)
    assert {path.stat().st_ino for path in site.config.shards.rglob("*.parquet")} == written
    assert everything(site)["efficiency"] == before
    assert not generation.exists()


def test_a_complete_generation_takes_its_place_first(site):
    """It was whole before the run died, so its shards count, whatever stands in the old ones."""
    nights(site, 1)
    before = everything(site)
    shutil.copytree(site.config.shards / "c1", site.config.shards / ".rebuild" / "c1")
    (site.config.shards / ".rebuild" / "complete").touch()
    shard(site).write_bytes(b"damaged")
    rebuild(site)
    assert everything(site) == before


# Damage


def harm(path, how):
    content = path.read_bytes()
    middle = len(content) // 3
    path.write_bytes(
        {
            "cut": content[:-30],
            "empty": b"",
            "flip": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        }[how]
    )


@pytest.mark.parametrize("how", ["cut", "empty", "flip"])
def test_a_damaged_shard_costs_no_other_node_and_makes_no_wrong_number(site, how):
    nights(site, 1, 3)
    before = efficiency(site.root)
    month = "2021-06"
    harm(shard(site, "n1", month), how)
    tables.database(site.root, "efficiency").unlink()
    result = compute(site)
    untouched = {key for key, row in before.items() if "n1" not in row["nodelist"].split(",")}
    assert efficiency(site.root) == {key: row for key, row in before.items() if key in untouched}
    assert result.counts["waiting for a shard"] == len(before) - len(untouched)
    assert [(kind, where) for kind, where, _ in result.aside.examples] == [("shard", str(shard(site, "n1", month)))]
    rebuild(site)
    assert efficiency(site.root) == before


@pytest.mark.parametrize("how", ["cut", "empty", "flip"])
def test_new_files_for_a_damaged_shard_do_not_stop_the_night(site, how):
    nights(site, 1)
    before = efficiency(site.root)
    harm(shard(site), how)
    a_night(3).fall(site.root, "night-3")
    damaged = shard(site).read_bytes()
    results = update(site)
    assert {e[:2] for result in results for e in result.aside.examples} == {("shard", str(shard(site)))}
    assert shard(site).with_name(f"{shard(site).name}.damaged").read_bytes() == damaged
    whole = {**before, **expected(3)}
    found = efficiency(site.root)
    assert_same(found, {key: whole[key] for key in found})
    assert {row["job_id"] for row in expected(3).values() if row["nodelist"] == "n2"} <= {
        row["job_id"] for row in found.values()
    }
    rebuild(site)
    assert_same(efficiency(site.root), expected(1, 3))


def test_a_flipped_bit_in_a_shard_is_noticed_or_harmless(site):
    nights(site, 1)
    path = shard(site)
    whole = path.read_bytes()
    good = shards.read(path)
    footer = len(whole) - 8 - struct.unpack("<i", whole[-8:-4])[0]
    wrong = []
    for at in [*range(0, footer, 3), *range(footer, len(whole))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        try:
            if not (found := shards.read(path))[0].equals(good[0]) or found[1] != good[1]:
                wrong.append(at)
        except JobeffError:
            pass
        except Exception as error:
            wrong.append((at, repr(error)[:60]))
    assert wrong == []


def test_a_damaged_note_of_how_far_ingest_came_is_told(site):
    nights(site, 1)
    (site.config.shards / "c1" / ".ingested" / "2021-06.json").write_text("{")
    with pytest.raises(JobeffError, match=r"ingested/2021-06\.json"):
        ingest(site)
    rebuild(site)
    assert ingest(site).counts["raw files"] == 0


def test_a_newer_shard_is_not_touched(site):
    nights(site, 1)
    table, about = shards.read(shard(site))
    shards.write(shard(site), table, {**about, "version": 2})
    before = shard(site).read_bytes()
    with pytest.raises(JobeffError, match="version 2, this program knows up to 1"):
        shards.read(shard(site))
    a_night(3).fall(site.root, "night-3")
    with contextlib.suppress(JobeffError):
        update(site)
    assert shard(site).read_bytes() == before


def test_a_shard_that_is_gone_makes_no_wrong_number(site):
    """Its node's jobs wait; new files of the node, or a rebuild, bring it back from the archive."""
    nights(site, 1)
    before = everything(site)["efficiency"]
    shard(site).unlink()
    (site.root / "db" / "efficiency.sqlite").unlink()
    result = sites.result_of(update(site), "compute")
    assert result.aside.counts == {"shard": 1}
    assert result.counts["waiting for a shard"] > 0
    found = efficiency(site.root)
    assert_same(found, {key: row for key, row in expected(1).items() if "n1" not in row["nodelist"].split(",")})
    rebuild(site)
    assert everything(site)["efficiency"] == before
    shard(site).unlink()
    a_night(3).fall(site.root, "night-3")
    assert sum(step.aside.total for step in update(site)) == 1
    assert_same(efficiency(site.root), expected(1, 3))


def test_a_node_of_which_no_job_is_known_has_a_shard_all_the_same(site):
    """Its rows are taken with those of others, and nothing is computed of them."""
    job = naive.Job("c1", 1, "p", "u", START, START + 600, 2, "COMPLETED", ("n1",))
    sites.write_log(site.root, "day", [job])
    month = archive.month_file(site.root, "c1", "2021-06")
    archive.append(month, "c1", [archive.RawFile(node, i, usage(2, 50.0), False) for i, node in ((1, "n1"), (2, "n9"))])
    update(site)
    before = everything(site)
    assert pq.read_table(shard(site, "n9")).column("job_id").to_pylist() == [2]
    assert len(before["efficiency"]) == 1
    rebuild(site)
    assert everything(site)["efficiency"] == before["efficiency"]
    assert pq.read_table(shard(site, "n9")).column("job_id").to_pylist() == [2]
