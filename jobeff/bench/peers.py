"""The same numbers from the same shards by other engines, Polars and DuckDB, as someone at home in each would write it.

Both have an easier task than jobeff. They take it that a job id has one attempt, that no shard is damaged and that
nodes are listed once each; and of a job with one node and one raw file, that its rows are an interval apart, so that
each is a sampling time of its own. All other jobs go a slower way, which is exact. And they keep nothing: no database
is written, and no page checksum is verified.

A list of cores holds ``cores`` values per row, row after row. To count the busy ones of each row is most of the work,
and what formulations differ in; those that lost are named beside the one that won, with their seconds on 12 days
(150,000 raw files, 3.6 million rows, 16 million core values; two threads).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobeff.engine.partials import BUSY, LIGHTLY_BUSY
from jobeff.store import tables

INTERVAL = 300
SCHEMA = pa.schema(
    [
        ("job_id", pa.int64()),
        ("start", pa.int64()),
        ("cpu_mean", pa.float64()),
        ("cpu_cores_used_percentile", pa.float64()),
        ("mem_peak", pa.float64()),
        ("mem_median", pa.float64()),
        ("mem_limit", pa.float64()),
        ("counts", pa.int64()),
        ("nodes_seen", pa.int64()),
        ("coverage", pa.float64()),
        ("rejected", pa.int64()),
        ("swap_peak", pa.float64()),
        ("cores_used_peak", pa.int64()),
    ]
)
SHARD = "*/????-??.parquet"


def accounting(database: Path, cluster: str) -> pa.Table:
    """What a peer needs to know of the jobs.

    Parameters
    ----------
    database
        The accounting database.
    cluster
        Whose jobs.

    Returns
    -------
    pyarrow.Table
        Columns ``job_id``, ``start``, ``stop``, ``booked`` (cores) and ``nodes`` (joined by commas).
    """
    # The plus keeps SQLite from going by an index, which takes longer where most jobs are of one cluster.
    query = "select job_id, start, end, cores, nodes from jobs where +cluster = ? and nodes <> ''"
    with contextlib.closing(tables.read_database(database, "accounting")) as connection:
        columns = list(zip(*connection.execute(query, (cluster,)), strict=True))
    names = ["job_id", "start", "stop", "booked", "nodes"]
    types = [pa.int64(), pa.int64(), pa.int64(), pa.int64(), pa.string()]
    return pa.table([pa.array(c, type=t) for c, t in zip(columns or [()] * 5, types, strict=True)], names=names)


def polars_rows(shards_folder: Path, accounting_db: Path, cluster: str, threads: int) -> pa.Table:
    """Efficiency rows by Polars.

    Parameters
    ----------
    shards_folder
        Of one generation of shards.
    accounting_db
        The accounting database.
    cluster
        Whose jobs; its shards have the same name.
    threads
        Polars has one pool per process, made when it is first imported: this must be its size.

    Returns
    -------
    pyarrow.Table
        `SCHEMA`, one row per job that has a sample, in no order.

    Raises
    ------
    ValueError
        Polars was imported before, with another number of threads.
    """
    os.environ.setdefault("POLARS_MAX_THREADS", str(threads))
    import polars as pl  # noqa: PLC0415

    if pl.thread_pool_size() != threads:
        raise ValueError(f"Polars has {pl.thread_pool_size()} threads in this process, not {threads}")
    jobs = _polars_jobs(pl, accounting(accounting_db, cluster))
    files = _polars_files(pl, shards_folder / cluster / SHARD, jobs)
    pieces = _polars_easy(pl, files.filter("easy")) + _polars_hard(pl, files.filter("hard"))
    return pl.concat(pieces).collect().to_arrow().cast(SCHEMA) if pieces else SCHEMA.empty_table()


def _polars_jobs(pl: Any, found: pa.Table) -> Any:
    """One row per job and node."""
    col = pl.col
    jobs = pl.from_arrow(found).with_columns(node=col("nodes").str.split(","))
    jobs = jobs.with_columns(
        nodes=col("node").list.len().cast(pl.Int64),
        expected=((col("stop") - col("start")) // INTERVAL).clip(lower_bound=1),
    )
    return jobs.with_columns(rank=pl.int_ranges("nodes")).explode("node", "rank")


def _polars_files(pl: Any, shards: Path, jobs: Any) -> Any:
    """One row per raw file, with its job and how to compute it.

    1.0 s. Joining the whole files, lists and all, took about 2 s, so single values are joined and put beside them. With
    the in-memory engine the scan takes as long as with the streaming one.
    """
    col = pl.col
    files = (
        pl.scan_parquet(shards, include_file_paths="path")
        .drop("offset")
        .with_columns(node=col("path").str.split("/").list.get(-2))
        .drop("path")
        .collect(engine="streaming")
    )
    known = files.select("job_id", "node", "first", "last").join(
        jobs, on=["job_id", "node"], how="left", maintain_order="left"
    )
    easy = (
        (col("nodes") == 1)
        & (pl.len().over("job_id", "node") == 1)
        & (col("first") >= col("start") - INTERVAL)
        & (col("last") <= col("stop") + INTERVAL)
    )
    known = known.with_columns(easy=easy.fill_null(value=False)).drop("job_id", "node", "first", "last")
    return files.hstack(known).with_columns(hard=col("rank").is_not_null() & ~col("easy"))


def _polars_easy(pl: Any, files: Any) -> list[Any]:
    """Jobs with one node and one raw file: a file is a job, and lists are aggregated where they are.

    0.4 s. Exploded by width, reshaped, and grouped by file 0.6; exploded core by core and grouped by row, then by file
    1.3; all jobs by `_polars_hard` 6 and more. By a prefix sum over all cores instead of by width, the counting alone
    took 0.6 and not 0.2.
    """
    col, rows = pl.col, pl.col("time").list.len().cast(pl.Int64)
    return [
        same.lazy().select(
            "job_id",
            "start",
            _polars_cpu_mean(pl, col("core").list.sum(), rows * width, rows, col("booked")),
            cpu_cores_used_percentile=col("core").list.agg(_polars_above(pl, BUSY, width).quantile(0.75, "linear")),
            mem_peak=pl.max_horizontal(col("used").list.max(), col("max_used").list.max()) / 100,
            mem_median=col("used").list.median() / 100,
            mem_limit=_polars_limit(pl, col("limit").list.max()),
            counts=rows,
            nodes_seen=pl.lit(1, pl.Int64),
            coverage=pl.min_horizontal(rows, "expected") / col("expected"),
            rejected=col("rejected").cast(pl.Int64),
            swap_peak=col("swap").list.max() / 100,
            cores_used_peak=col("core").list.agg(_polars_above(pl, LIGHTLY_BUSY, width).max()),
        )
        for (width,), same in files.group_by("cores")
    ]


def _polars_above(pl: Any, threshold: int, width: int) -> Any:
    """Number of cores above a threshold in each row of a file."""
    above = (pl.element() > threshold).cast(pl.UInt8)
    return (above.reshape((-1, width)).arr.sum() if width > 1 else above).cast(pl.Int64)


def _polars_cpu_mean(pl: Any, total: Any, values: Any, rows: Any, booked: Any) -> Any:
    return (total / (100 * pl.max_horizontal(values, rows * booked))).alias("cpu_mean")


def _polars_limit(pl: Any, limit: Any) -> Any:
    return pl.when(limit > 0).then(limit / 100)


def _polars_hard(pl: Any, files: Any) -> list[Any]:
    """Any job, exactly, by its rows."""
    col = pl.col
    job, part = ["job_id", "start"], ["job_id", "start", "rank"]
    rows = [
        same.lazy()
        .select(
            *part, "stop", "expected", "nodes", "booked", "first", "bytes", "crc32", "time", "limit", "used", "swap",
            # empty in files of the plain form
            top=pl.when(col("max_used").list.len() > 0).then("max_used").otherwise("used"),
            core=col("core").list.eval(pl.element().reshape((-1, width))),
            width=pl.lit(width, pl.Int64),
        )
        .explode("time", "limit", "used", "swap", "top", "core")
        .with_columns(
            total=col("core").arr.sum().cast(pl.Int64),
            busy=col("core").arr.eval(pl.element() > BUSY).arr.sum().cast(pl.Int64),
            light=col("core").arr.eval(pl.element() > LIGHTLY_BUSY).arr.sum().cast(pl.Int64),
        )
        .drop("core")
        for (width,), same in files.filter(col("first").is_not_null()).group_by("cores")
    ]  # fmt: skip
    if not rows:
        return []
    mine = col("time").is_between(col("start") - INTERVAL, col("stop") + INTERVAL)
    kept = (
        pl.concat(rows)
        .filter(mine)
        .sort(*part, "time", "first", "bytes", "crc32")
        .unique([*part, "time"], keep="first", maintain_order=True)
        .with_columns(
            since=col("time") - col("time").min().over(part), late=col("time").min().over(part) - col("start")
        )
        .collect()
    )
    whole, rest = col("since") // INTERVAL, col("since") % INTERVAL
    half_to_even = (2 * rest > INTERVAL) | ((2 * rest == INTERVAL) & (whole % 2 == 1))
    at_one_time = (
        kept.lazy()
        .with_columns(slot=whole + half_to_even.cast(pl.Int64) + col("late").clip(lower_bound=0) // INTERVAL)
        .unique([*part, "slot"], keep="last", maintain_order=True)
        .group_by(*job, "slot")
        .agg(col("busy", "light").sum())
        .group_by(job)
        .agg(cpu_cores_used_percentile=col("busy").quantile(0.75, "linear"), cores_used_peak=col("light").max())
    )
    on_nodes = (
        kept.lazy()
        .group_by(part)
        .agg(
            col("expected", "nodes", "booked").first(),
            pl.max_horizontal(col("used").max(), col("top").max()).alias("peak"),
            col("limit", "swap").max(),
            col("total", "width").sum(),
            rows=pl.len().cast(pl.Int64),
        )
        .with_columns(
            limited=col("limit") > 0,
            share=pl.when(col("limit") > 0).then(col("peak") / col("limit")).otherwise("peak"),
        )
        .sort("limited", "share", "rank", descending=[True, True, False])
        .group_by(job)
        .agg(
            col("expected", "nodes", "booked", "peak", "limit").first(),
            col("total", "width").sum(),
            col("swap", "rows").max(),
            seen=pl.len().cast(pl.Int64),
            covered=pl.min_horizontal("rows", "expected").sum(),
        )
    )
    medians = kept.lazy().group_by(job).agg(median=col("used").median())
    rejected = files.lazy().group_by(job).agg(col("rejected").cast(pl.Int64).sum())
    together = on_nodes.join(at_one_time, on=job).join(medians, on=job).join(rejected, on=job)
    return [
        together.select(
            *job,
            _polars_cpu_mean(pl, col("total"), col("width"), col("rows"), col("booked")),
            "cpu_cores_used_percentile",
            mem_peak=col("peak") / 100,
            mem_median=col("median") / 100,
            mem_limit=_polars_limit(pl, col("limit")),
            counts="rows",
            nodes_seen="seen",
            coverage=col("covered") / (col("expected") * col("nodes")),
            rejected="rejected",
            swap_peak=col("swap") / 100,
            cores_used_peak="cores_used_peak",
        )
    ]


def duckdb_rows(shards_folder: Path, accounting_db: Path, cluster: str, threads: int) -> pa.Table:
    """Efficiency rows by DuckDB.

    Parameters
    ----------
    shards_folder
        Of one generation of shards.
    accounting_db
        The accounting database.
    cluster
        Whose jobs; its shards have the same name.
    threads
        How many DuckDB may use.

    Returns
    -------
    pyarrow.Table
        `SCHEMA`, one row per job that has a sample, in no order.
    """
    import duckdb  # noqa: PLC0415

    jobs = accounting(accounting_db, cluster)
    with duckdb.connect() as connection:
        connection.execute(f"set threads = {int(threads)}")
        connection.execute("set preserve_insertion_order = false")
        connection.register("jobs", jobs)
        shards = {"shards": str(shards_folder / cluster / SHARD)}
        # They are read once for all widths: into Arrow 0.7 s, into a temporary table 1.0, once per width 1 to 2 more.
        connection.register("files", connection.sql(DUCKDB_FILES, params=shards).to_arrow_table())
        found = connection.sql("select distinct cores from files where first is not null").fetchall()
        widths = [width for (width,) in found]
        if not widths:
            return SCHEMA.empty_table()
        easy, hard = _duckdb_rows(widths, "easy"), _duckdb_rows(widths, "hard")
        return connection.sql(DUCKDB_ROWS.format(easy=easy, hard=hard)).to_arrow_table().cast(SCHEMA)


def _duckdb_rows(widths: list[int], which: str) -> str:
    """A query for the rows of the easy or the hard files: core k of all rows is every ``width``-th value from there on.

    With the percentile 0.75 s for the easy ones. The slices zipped and transformed, without unnesting, 1.0; unnested
    core by core and grouped by row, then by job 1.6 to 2.0. For the counting alone, of all files: this 0.5 to 0.9,
    unnested to rows of which each is sliced 5.5, and all rows of a file sliced in a lambda 10.
    """
    parts = []
    for width in widths:
        cores = [f"core{k}" for k in range(width)]
        unnested = ", ".join(f"unnest(core[{k + 1}:len(core):{width}]) as {core}" for k, core in enumerate(cores))
        busy, light = (" + ".join(f"({core} > {percent})::int" for core in cores) for percent in (BUSY, LIGHTLY_BUSY))
        total = " + ".join(f"{core}::int" for core in cores)
        columns = {"easy": "job_id, start", "hard": f"* exclude ({', '.join(cores)}), {total} as total"}
        parts.append(
            f"select {columns[which]}, {busy} as busy, {light} as light "
            f"from (select {DUCKDB_OF_ROWS[which]}, {unnested} from files where cores = {width} and {which})"
        )
    return "\nunion all ".join(parts)


DUCKDB_FILES = f"""
with booked as (
    select job_id, start, stop, booked, greatest(1, (stop - start) // {INTERVAL}) as expected,
        len(string_split(nodes, ',')) as nodes,
        unnest(string_split(nodes, ',')) as node, unnest(range(len(string_split(nodes, ',')))) as rank
    from jobs
), raw as (
    select * exclude ("offset", filename), string_split(filename, '/')[-2] as node
    from read_parquet($shards, filename = true)
), several as (
    select job_id, node from raw group by all having count(*) > 1
)
select *, not easy as hard from (
    select raw.* exclude (node), booked.* exclude (job_id, node),
        coalesce(
            nodes = 1 and first >= start - {INTERVAL} and last <= stop + {INTERVAL}
            and (job_id, node) not in (from several), false
        ) as easy
    from raw join booked using (job_id, node)
)
"""
DUCKDB_OF_ROWS = {
    "easy": "job_id, start",
    "hard": """
    job_id, start, stop, expected, nodes, booked, rank, first, bytes, crc32, cores as width,
    unnest(time) as time, unnest("limit") as "limit", unnest(used) as used, unnest(swap) as swap,
    unnest(case when len(max_used) > 0 then max_used else used end) as top""",
}
DUCKDB_ROWS = f"""
with easy_slots as (
    select job_id, start, quantile_cont(busy, 0.75) as percentile, max(light) as light from ({{easy}}) group by all
), easy_rows as (
    select job_id, start, list_sum(core) / (100 * greatest(len(core), len(time) * booked)), percentile,
        greatest(list_max(used), list_max(max_used)) / 100, list_median(used) / 100,
        case when list_max("limit") > 0 then list_max("limit") / 100 end,
        len(time), 1, least(len(time), expected) / expected, rejected, list_max(swap) / 100, light
    from files join easy_slots using (job_id, start) where easy
), samples as materialized (
    from ({{hard}}) where time between start - {INTERVAL} and stop + {INTERVAL}
    qualify row_number() over (partition by job_id, start, rank, time order by first, bytes, crc32) = 1
), placed as (
    select job_id, start, rank, time, busy, light, greatest(0, min(time) over part - start) as late,
        time - min(time) over part as since, since // {INTERVAL} as whole, 2 * (since % {INTERVAL}) as rest,
        whole + (rest > {INTERVAL} or (rest = {INTERVAL} and whole % 2 = 1))::int + late // {INTERVAL} as slot
    from samples window part as (partition by job_id, start, rank)
), latest as (
    select job_id, start, slot, arg_max(busy, time) as busy, arg_max(light, time) as light
    from placed group by job_id, start, rank, slot
), at_one_time as (
    select job_id, start, sum(busy) as busy, sum(light) as light from latest group by job_id, start, slot
), slots as (
    select job_id, start, quantile_cont(busy, 0.75) as percentile, max(light) as light from at_one_time group by all
), on_nodes as (
    select job_id, start, rank, expected, nodes, booked, count(*) as n, sum(total) as total, sum(width) as width,
        greatest(max(used), max(top)) as peak, max("limit") as "limit", max(swap) as swap
    from samples group by all
), medians as (
    select job_id, start, median(used) as median from samples group by all
), bad as (
    select job_id, start, sum(rejected) as rejected from files where hard group by all
), merged as (
    select job_id, start, expected, nodes, booked, max(n) as counts, count(*) as seen, sum(total) as total,
        sum(width) as width, sum(least(n, expected)) as covered, max(swap) as swap,
        arg_max(
            {{{{'peak': peak, 'limit': "limit"}}}},
            {{{{
                'known': "limit" > 0,
                'share': case when "limit" > 0 then peak / "limit" else peak end,
                'earlier': -rank
            }}}}
        ) as nearest
    from on_nodes group by all
), hard_rows as (
    select job_id, start, total / (100 * greatest(width, counts * booked)), percentile,
        nearest.peak / 100, median / 100, case when nearest.limit > 0 then nearest.limit / 100 end,
        counts, seen, covered / (expected * nodes), rejected, swap / 100, light
    from merged join slots using (job_id, start) join medians using (job_id, start) join bad using (job_id, start)
)
select * from (from easy_rows union all from hard_rows) as found({", ".join(SCHEMA.names)})
"""
