"""The synthetic site: what it promises to hold, and that its truth is true by the oracle's word."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tomllib
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import naive
import pytest

from jobeff import config
from jobeff.errors import ConfigError, JobeffError
from jobeff.simulate import DemoOptions, DemoResult, write_site
from jobeff.simulate_damage import ADDED_ROWS, HARMLESS, KINDS, SPOILT_ROWS
from jobeff.simulate_jobs import HOSTILE_NAMES
from jobeff.sources.hostlist import expand

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "accounting"
STOCKHOLM = ZoneInfo("Europe/Stockholm")
OPTIONS = DemoOptions(jobs=300)
FORMS = {True: "extended_uppmax_jobstats", False: "uppmax_jobstats"}

LINE = re.compile(
    rb"(?P<stamp>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) jobstate=(?P<state>[A-Z_]+) jobid=(?P<job_id>\d+) "
    rb"username=(?P<user>\S+) account=(?P<project>\S+) start=(?P<start>\d+) end=(?P<end>\d+) submit=(?P<submit>\d+) "
    rb"nodes=(?P<nodes>\S*) procs=(?P<cores>\d+) batch=(?:yes|no) jobname=(?P<name>.*) partition=(?P<partition>\S+) "
    rb"limit=(?P<limit>(?:\d+-)?\d\d:\d\d:\d\d|\d+)"
)


class Site:
    """What lies in a site's folder, read with no code of the generator."""

    def __init__(self, folder: Path, result: DemoResult, cluster: str) -> None:
        self.folder, self.result, self.cluster = folder, result, cluster
        self.slurm = folder / "slurm" / cluster
        self.days = sorted((self.slurm / "accounting").iterdir())
        self.lines = [line for day in self.days for line in day.read_bytes().split(b"\n")[:-1]]
        self.fields = [match.groupdict() for line in self.lines if (match := LINE.fullmatch(line))]
        self.jobs = [job for fields in self.fields if (job := self._job(fields)).nodes]
        self.truth = [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
        self.orphans = (folder / "orphans.txt").read_text().splitlines()
        self.late = (folder / "late.txt").read_text().splitlines()

    def _job(self, fields: dict[str, bytes]) -> naive.Job:
        text = {key: value.decode("utf-8", "replace") for key, value in fields.items()}
        return naive.Job(
            *(self.cluster, int(text["job_id"]), text["project"], text["user"], int(text["start"]), int(text["end"])),
            *(int(text["cores"]), text["state"], tuple(expand(text["nodes"])) if text["nodes"] else ()),
        )

    def raw_files(self, extended: bool) -> dict[tuple[str, int], bytes]:
        paths = (self.slurm / FORMS[extended]).glob("*/*")
        return {(path.parent.name, int(path.name)): path.read_bytes() for path in paths}

    def preferred(self) -> list[naive.RawFile]:
        extended, plain = self.raw_files(True), self.raw_files(False)
        keys = sorted(extended.keys() | plain.keys())
        return [
            naive.RawFile(self.cluster, node, job_id, (extended if both else plain)[node, job_id], both)
            for node, job_id in keys
            for both in [(node, job_id) in extended]
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    return Site(folder, write_site(folder, OPTIONS), OPTIONS.cluster)


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_truth(site: Site) -> None:
    """Compare all rows: counts exactly, floats to 1e-9."""
    expected = naive.efficiency(site.jobs, site.preferred())
    given = {(row["cluster"], row["job_id"], row["start"]): row for row in site.truth}
    assert len(given) == len(site.truth) == site.result.efficiency_rows
    assert given.keys() == expected.keys()
    for key, row in expected.items():
        assert given[key].keys() == row.keys()
        for column, value in row.items():
            wanted = pytest.approx(value, rel=1e-9, abs=0) if isinstance(value, float) else value
            assert given[key][column] == wanted, (key, column)


# Determinism and refusals


def test_same_options_give_the_same_bytes_and_times(site: Site, tmp_path: Path) -> None:
    write_site(tmp_path / "again", OPTIONS)
    assert fingerprint(tmp_path / "again") == fingerprint(site.folder)


def test_another_seed_gives_other_bytes(site: Site, tmp_path: Path) -> None:
    write_site(tmp_path, DemoOptions(jobs=300, seed=2))
    other, here = fingerprint(tmp_path), fingerprint(site.folder)
    assert other["truth.jsonl"] != here["truth.jsonl"]
    assert other["slurm/snowy/accounting/2024-03-31"] != here["slurm/snowy/accounting/2024-03-31"]


def test_refuses_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(JobeffError, match="not an empty folder"):
        write_site(tmp_path, OPTIONS)
    with pytest.raises(JobeffError, match="not an empty folder"):
        write_site(tmp_path / "thesis.tex", OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "options",
    [
        DemoOptions(jobs=-1),
        DemoOptions(nodes=0),
        DemoOptions(days=0),
        DemoOptions(seed=-1),
        DemoOptions(cluster="../etc"),
        DemoOptions(first_day="2024-02-30"),
        DemoOptions(timezone="Mars/Olympus"),
    ],
)
def test_refuses_options_without_sense(tmp_path: Path, options: DemoOptions) -> None:
    with pytest.raises(ConfigError):
        write_site(tmp_path / "site", options)
    assert not (tmp_path / "site").exists()


def test_smallest_sites(tmp_path: Path) -> None:
    nothing = write_site(tmp_path / "nothing", DemoOptions(jobs=0))
    assert (nothing.jobs, nothing.raw_files, nothing.efficiency_rows) == (0, 0, 0)
    options = DemoOptions(jobs=120, nodes=1, days=1, cluster="my.own")
    one_node = Site(tmp_path / "one", write_site(tmp_path / "one", options), "my.own")
    assert {job.nodes for job in one_node.jobs} == {("m1",)}
    assert_truth(one_node)
    assert list(config.load(tmp_path / "one" / "jobeff.toml").clusters) == ["my.own"]


def test_progress_counts_every_job(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_site(tmp_path, DemoOptions(jobs=20), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 20) for done in range(1, 21)]


# The truth


def test_truth_is_what_the_oracle_reads_from_the_text(site: Site) -> None:
    assert_truth(site)


def test_result_counts_what_is_there(site: Site) -> None:
    sizes = [len(text) for extended in FORMS for text in site.raw_files(extended).values()]
    assert (site.result.raw_files, site.result.raw_bytes) == (len(sizes), sum(sizes))
    assert site.result.jobs == len(site.lines)
    assert (site.result.late, site.result.orphans) == (len(site.late), len(site.orphans))


# Accounting


def test_log_lines_are_well_formed_in_order_and_in_the_file_of_their_day(site: Site) -> None:
    assert len(site.fields) == len(site.lines) > 300
    assert [day.name for day in site.days][::13] == ["2024-03-25", "2024-04-07"]
    for day in site.days:
        fields = [LINE.fullmatch(line) for line in day.read_bytes().split(b"\n")[:-1]]
        ends = [int(match["end"]) for match in fields if match]
        local = [datetime.fromtimestamp(end, STOCKHOLM).strftime("%Y-%m-%d %H:%M:%S") for end in ends]
        assert [match["stamp"].decode() for match in fields if match] == local
        assert {stamp[:10] for stamp in local} == {day.name}
        assert ends == sorted(ends)


def test_jobs_are_mixed_as_on_real_days(tmp_path: Path) -> None:
    result = write_site(tmp_path, DemoOptions(jobs=2000, nodes=20))
    large = Site(tmp_path, result, "snowy")
    assert sum(job.end - job.start < 300 for job in large.jobs) / len(large.jobs) == pytest.approx(0.43, abs=0.05)
    assert sum(job.cores == 1 for job in large.jobs) / len(large.jobs) == pytest.approx(0.47, abs=0.08)
    assert 0.01 <= sum(len(job.nodes) > 1 for job in large.jobs) / len(large.jobs) <= 0.03
    states = {job.state for job in large.jobs}
    assert states == {"COMPLETED", "FAILED", "OUT_OF_MEMORY", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
    assert all(0 <= int(line["submit"]) <= int(line["start"]) <= int(line["end"]) for line in large.fields)


def test_some_jobs_never_started(site: Site) -> None:
    never = [fields for fields in site.fields if not fields["nodes"]]
    assert all(fields["start"] == fields["end"] for fields in never)
    assert len({int(fields["cores"]) > 0 for fields in never}) == 2


def test_every_hostile_name_occurs_and_charges_nobody_else(site: Site) -> None:
    assert {fields["name"] for fields in site.fields} > set(HOSTILE_NAMES)
    assert not {b"victim", b"other"} & {fields[key] for fields in site.fields for key in ("user", "project")}


def test_arrays_are_runs_of_ids_with_one_name(site: Site) -> None:
    who = {int(line["job_id"]): (line["user"], line["project"], line["name"]) for line in site.fields}
    runs = [job_id for job_id in who if who[job_id] == who.get(job_id + 1) == who.get(job_id + 2)]
    assert len(runs) > 20


def test_requeued_jobs(site: Site) -> None:
    attempts: dict[int, list[naive.Job]] = defaultdict(list)
    for job in site.jobs:
        attempts[job.job_id].append(job)
    pairs = [sorted(of_id, key=lambda job: job.start) for of_id in attempts.values() if len(of_id) > 1]
    assert all((first.state, second.state) == ("NODE_FAIL", "COMPLETED") for first, second in pairs)
    assert all(first.end < second.start for first, second in pairs)
    assert {first.nodes == second.nodes for first, second in pairs} == {True, False}
    text = {(file.node, file.job_id): file.text for file in site.preferred()}
    shared = [(a, b, text[a.nodes[0], a.job_id]) for a, b in pairs if a.nodes == b.nodes]
    times = [(a, b, [int(time) for time in re.findall(rb"T\S+ +(\d{10}) ", rows)]) for a, b, rows in shared]
    assert any(
        any(a.start <= time <= a.end for time in of_file) and any(b.start <= time <= b.end for time in of_file)
        for a, b, of_file in times
    )


# Raw files


def test_files_are_of_jobs_of_an_interval_at_least(site: Site) -> None:
    booked: dict[tuple[str, int], list[naive.Job]] = defaultdict(list)
    for job in site.jobs:
        for node in job.nodes:
            booked[node, job.job_id].append(job)
    orphans = {(path.split("/")[3], int(path.split("/")[4])) for path in site.orphans}
    files = {(file.node, file.job_id) for file in site.preferred()}
    assert orphans
    assert orphans == files - booked.keys()
    assert {job_id in {job.job_id for job in site.jobs} for _, job_id in orphans} == {True, False}
    assert all(max(job.end - job.start for job in booked[key]) >= 300 for key in files - orphans)
    alone = [job for job in site.jobs if len(job.nodes) == 1 and job.end - job.start >= 300]
    assert all((job.nodes[0], job.job_id) in files for job in alone)
    shared = [job for job in site.jobs if len(job.nodes) > 1]
    assert {all((node, job.job_id) in files for node in job.nodes) for job in shared} == {True, False}


def test_nodes_have_one_form_or_the_other_or_both(site: Site) -> None:
    extended, plain = site.raw_files(True), site.raw_files(False)
    nodes = [{node for node, _ in files} for files in (extended, plain)]
    assert nodes[0] - nodes[1]
    assert nodes[1] - nodes[0]
    both = nodes[0] & nodes[1]
    assert {key for key in extended if key[0] in both} == {key for key in plain if key[0] in both} != set()


def test_both_forms_hold_the_same_rows(site: Site) -> None:
    extended, plain = site.raw_files(True), site.raw_files(False)
    same = 0
    for key in extended.keys() & plain.keys():
        rows = [naive.parse(text, form)[0] for text, form in ((extended[key], True), (plain[key], False))]
        cells = [[(row.time, row.limit, row.used, row.swap, row.cores) for row in of_form] for of_form in rows]
        assert cells[0] == cells[1]
        same += len(cells[0])
    assert same > 1000


def test_rows_have_the_widths_that_nodes_print(site: Site) -> None:
    """Where this does not hold, the file is damaged, so it must hold of most."""
    plain = "%s%12d%10.1f%10.1f%14.1f"
    extended = "%s%12d%10.1f%10.1f%14.1f%14.1f%12d%12d"
    title = "Individual_core_busy_percentages->->->"
    header = b"          LOCALTIME        TIME  GB_LIMIT   GB_USED  GB_SWAP_USED " + title.encode()
    as_printed = 0
    for file in site.preferred():
        lines = file.text.split(b"\n")
        if not file.extended:
            assert lines[0] == header or lines[0][:2] == b"20"
        names = lines[0].split()
        for line in lines[1:-1]:
            cells = line.decode().split()
            if len(cells) < len(names) or cells[0] == "LOCALTIME" or "nan" in cells or "\0" in line.decode():
                continue
            layout = extended if file.extended else plain
            fixed = layout.count("%")
            try:
                values = [int(cells[1]), *(float(cell) for cell in cells[2:])]
            except ValueError:
                continue
            if values[-1] == 6400 or (file.extended and values[6] < 0):
                continue
            assert line.decode() == layout % (cells[0], *values[: fixed - 1]) + "".join(
                f"{value:6.1f}" for value in values[fixed - 1 :]
            )
            local = datetime.fromtimestamp(int(cells[1]), STOCKHOLM).strftime("%Y-%m-%dT%H:%M:%S")
            assert cells[0] == local
            as_printed += 1
    assert as_printed > 5000


def test_samples_come_each_interval_from_start_to_end(site: Site) -> None:
    times = {
        (file.node, file.job_id): [s.time for s in naive.parse(file.text, file.extended)[0]]
        for file in site.preferred()
    }
    ids = [job.job_id for job in site.jobs]
    gaps = []
    for job in site.jobs:
        of_job = times.get((job.nodes[0], job.job_id))
        if of_job and ids.count(job.job_id) == 1:
            assert job.start <= min(of_job) <= max(of_job) <= job.end
            gaps += [later - earlier for earlier, later in itertools.pairwise(of_job)]
    assert set(gaps) >= {299, 300, 301}
    assert sum(298 <= gap <= 302 for gap in gaps) > 0.99 * len(gaps)


def test_files_bear_the_time_of_their_last_row(site: Site) -> None:
    checked = 0
    for path in (site.slurm / FORMS[False]).glob("*/*"):
        samples, rejected = naive.parse(path.read_bytes(), False)
        if samples and not rejected:
            assert path.stat().st_mtime == samples[-1].time
            checked += 1
    assert checked > 30


def test_local_time_changes_with_summer_time(tmp_path: Path) -> None:
    write_site(tmp_path, DemoOptions(jobs=400, days=2, first_day="2024-03-31"))
    rows = b"".join(path.read_bytes() for path in tmp_path.glob("slurm/snowy/*jobstats/*/*"))
    seconds = dict(re.findall(rb"(2024-03-31T(?:01|03):\d\d:\d\d) +(\d{10})", rows))
    assert max(int(time) for local, time in seconds.items() if local[11:13] == b"01") < 1_711_846_800
    assert min(int(time) for local, time in seconds.items() if local[11:13] == b"03") >= 1_711_846_800
    assert b"2024-03-31T02:" not in rows


def test_usage_has_every_shape(site: Site) -> None:
    lasting = [row for row in site.truth if row["nodes_booked"] == 1 and row["counts"] > 10]
    several = [row for row in lasting if row["cores"] > 1]
    full = [row for row in several if row["cpu_mean"] > 95 and row["cpu_cores_used_percentile"] == row["cores"]]
    single = [row for row in several if row["cores_used_peak"] == 1 and row["cpu_mean"] > 80 / row["cores"]]
    idle = [row for row in lasting if row["cpu_mean"] < 3]
    between = [row for row in several if 20 < row["cpu_mean"] < 80]
    completed = [row for row in lasting if row["state"] == "COMPLETED" and row["mem_limit"]]
    leaking = [row for row in completed if row["mem_peak"] > max(0.55 * row["mem_limit"], 1.7 * row["mem_median"])]
    assert all((full, single, idle, between, leaking))
    assert any(row["swap_peak"] > 0 for row in site.truth)
    assert any(row["nodes_seen"] < row["nodes_booked"] for row in site.truth)
    for row in site.truth:
        if row["state"] == "OUT_OF_MEMORY" and row["mem_limit"] and not row["rejected"]:
            assert row["mem_peak"] == row["mem_limit"]


def test_largest_memory_goes_down_again(site: Site) -> None:
    falls = 0
    for file in site.preferred():
        readings = [s.max_used for s in naive.parse(file.text, file.extended)[0] if s.max_used is not None]
        falls += any(later < earlier for earlier, later in itertools.pairwise(readings))
    assert falls > 20


def test_late_files_lie_there_in_all_their_forms(site: Site) -> None:
    listed = {tuple(path.split("/")[2:]) for path in site.late}
    assert listed
    assert all((site.folder / path).is_file() for path in site.late)
    for form, node, job_id in listed:
        other = FORMS[form == FORMS[False]]
        assert ((other, node, job_id) in listed) == (site.slurm / other / node / job_id).is_file()


def test_every_kind_of_damage_occurs(site: Site) -> None:
    """Each sign is looked for in the text itself."""
    assert site.result.damaged >= len(KINDS) == len(SPOILT_ROWS) + len(ADDED_ROWS) + len(HARMLESS) + 1
    signs = {
        "columns run together": rb"\.\d\d+\.\d ",
        "page run together": rb" \d+\.\d-7253639 ",
        "short row": rb"\n\S{19} +\d{10} +[0-9.]+ +[0-9.]+\n",
        "NUL run": rb"\0{9}",
        "nan": rb"\n\S{19} +\d{10} +[0-9.]+ +nan ",
        "6400 percent": rb" 6400\.0\n",
        "cut last row": rb"\n20[^\n]{1,26}$",
        "second header": rb"\d\n +LOCALTIME",
        "core above 100": rb" 100\.4\n",
        "minus zero": rb" -0\.0\n",
        "no maximum": rb"\n\S{19} +\d{10} +[0-9.]+ +[0-9.]+ +nan ",
        "negative page": rb" -7253639 ",
        "no limit": rb"\n\S{19} +\d{10} +0\.0 ",
        "no header": rb"^20",
        "no final newline": rb"\.\d$",
        "header alone": rb"^ +LOCALTIME[^\n]*\n$",
    }
    texts = [text for extended in FORMS for text in site.raw_files(extended).values()]
    missing = {kind for kind, sign in signs.items() if not any(re.search(sign, text) for text in texts)}
    assert missing == set()
    rows = [[line.split() for line in text.split(b"\n")[1:]] for text in texts]
    lengths = [{len(row) for row in of_file if row and b"\0" not in b"".join(row)} for of_file in rows]
    assert any(len(of_file) == 2 and max(of_file) - min(of_file) == 1 for of_file in lengths)
    stamps = [[row[1] for row in of_file if len(row) > 5] for of_file in rows]
    assert any(len(of_file) == len(set(of_file)) + 1 for of_file in stamps)
    assert set(KINDS) - set(signs) == {"other number of cores", "duplicated time"}


# What surrounds the jobs


def test_the_configuration_is_read_and_its_paths_exist(site: Site) -> None:
    loaded = config.load(site.folder / "jobeff.toml")
    cluster = loaded.clusters["snowy"]
    paths = [*cluster.accounting, *cluster.jobstats, cluster.grants, *loaded.sources.values()]
    assert len(paths) == 6
    assert all(path and path.exists() for path in paths)
    assert loaded.root.resolve() == site.folder.resolve()
    assert tomllib.loads((site.folder / "jobeff.toml").read_text())["timezone"] == "Europe/Stockholm"


def test_projects_grants_and_storage_know_every_project(site: Site) -> None:
    charged = {fields["project"].decode() for fields in site.fields}
    paragraphs = (site.folder / "projects").read_text().strip().split("\n\n")
    assert charged == {paragraph.split("\n")[0].removeprefix("Name: ") for paragraph in paragraphs}
    lines = (site.slurm / "grantfile").read_text().splitlines()
    grants = {line.split(":")[0]: float(line.split(":")[1]) for line in lines if line and line[0] != "#"}
    assert grants.keys() == charged
    assert min(grants.values()) > 0
    header, *records = [line.split(";") for line in (site.folder / "storage").read_text().splitlines()]
    columns = "proj_id;date;usage;quota;path;noback_usage;noback_quota;noback_path;inbox"
    assert ";".join(header) == columns
    assert {(record[0], record[1]) for record in records} == {(p, d.name) for p in charged for d in site.days}
    assert all(0 < int(record[2]) <= int(record[3]) for record in records)


# On real logs


def log_line(job_id: int, nodes: str, cores: int, start: int, end: int, name: str = "x") -> bytes:
    stamp = datetime.fromtimestamp(end, STOCKHOLM).strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"{stamp} jobstate=COMPLETED jobid={job_id} username=u1 account=p1 start={start} end={end} submit={start} "
        f"nodes={nodes} procs={cores} batch=yes jobname={name} partition=core limit=1-00:00:00\n"
    ).encode()


def test_given_logs_are_copied_by_day_and_odd_lines_stay_where_they_are(tmp_path: Path) -> None:
    noon = 1_711_710_000  # 2024-03-29
    first = [
        log_line(5, "n[01-03]", 8, noon - 9000, noon),
        b"\xff no line at all\n",
        log_line(6, "n7", 1, noon, noon + 50),
    ]
    second = [log_line(7, "n08", 30, noon + 86_400 - 4000, noon + 86_400)]
    third = [log_line(8, "", 0, noon, noon), log_line(9, "n[1-999999999]", 1, noon, noon + 4000)]
    (tmp_path / "a").write_bytes(b"".join(first + second)[:-1])
    (tmp_path / "b").write_bytes(b"".join(third))
    result = write_site(tmp_path / "site", OPTIONS, [tmp_path / "a", tmp_path / "b"])
    days = tmp_path / "site" / "slurm" / "snowy" / "accounting"
    assert {day.name: day.read_bytes() for day in days.iterdir()} == {
        "2024-03-29": b"".join(first + third),
        "2024-03-30": b"".join(second),
    }
    files = sorted(path.parts[-2:] for path in days.parent.glob("*jobstats/*/*"))
    assert set(files) == {("n01", "5"), ("n02", "5"), ("n08", "7")}
    assert result.jobs == 4
    rows = [json.loads(line) for line in (tmp_path / "site" / "truth.jsonl").read_text().splitlines()]
    assert [(row["job_id"], row["nodelist"], row["nodes_seen"]) for row in rows] == [
        (5, "n01,n02,n03", 2),
        (7, "n08", 1),
    ]


def test_attempts_that_overlap_in_a_log_have_a_certain_truth(tmp_path: Path) -> None:
    noon = 1_711_710_000
    lines = [
        log_line(5, "n[1-2]", 8, noon, noon + 5000),
        log_line(5, "n[2-3]", 8, noon + 3000, noon + 9000),
        log_line(5, "n2", 2, noon + 8000, noon + 20_000),
        log_line(5, "n2", 2, noon + 8000, noon + 20_000),
    ]
    (tmp_path / "log").write_bytes(b"".join(lines[:3]))
    given = Site(tmp_path / "site", write_site(tmp_path / "site", OPTIONS, [tmp_path / "log"]), "snowy")
    assert len(given.truth) >= 2
    assert_truth(given)


@pytest.mark.parametrize("content", [None, b"JobID|State\n1|COMPLETED\n", b"2024-02-30 00:00:00 jobstate=X\n"])
def test_refuses_what_is_no_site_log(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "log").write_bytes(content)
    with pytest.raises(JobeffError, match="log"):
        write_site(tmp_path / "site", OPTIONS, [tmp_path / "log"])
    assert not (tmp_path / "site").exists()


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared real accounting logs are not on this machine")
def test_truth_on_real_log_lines(tmp_path: Path) -> None:
    log = REAL / "rackham_oddities_sample.txt"
    given = Site(tmp_path, write_site(tmp_path, DemoOptions(cluster="rackham"), [log]), "rackham")
    assert sorted(given.lines) == sorted(log.read_bytes().split(b"\n")[:-1])
    assert any(len(job.nodes) > 2 for job in given.jobs)
    assert_truth(given)
