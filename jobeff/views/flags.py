"""Usage flags of METRICS: of one job in Python, of whole tables as conditions of SQL.

Both compare whole numbers only, hundredths of GiB and cores, so a job at a threshold gets the same from either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NODES, OVERBOOKED, HALF, SEVERE = "nodes_overbooked", "overbooked", "!!half_overbooked", "!!severely_overbooked"
SWAP, CORES, MEMORY, CORE_MEMORY = "!!swap_used", "cores_overbooked", "mem_overbooked", "core_mem_overbooked"
NODE_TYPE, NOT_RUN = "node_type_overbooked", "not_run"

FLAGS = (NODES, OVERBOOKED, HALF, SEVERE, SWAP, CORES, MEMORY, CORE_MEMORY, NODE_TYPE, NOT_RUN)
"""All of them, in the order in which they are shown."""

BELOW = {OVERBOOKED: (4, 5), HALF: (1, 2), SEVERE: (1, 4), CORES: (4, 5), MEMORY: (1, 4), CORE_MEMORY: (1, 2)}
"""Each is raised where less than this share, a fraction, was used."""


def flags(row: Mapping[str, Any], node_types: Sequence[int] = (), all_flags: bool = False) -> list[str]:
    """What a job booked and did not use, as the site's ``jobstats`` tool says it.

    Parameters
    ----------
    row
        Of the efficiency database. Of the accounting database, for a job without a row there, it gives ``not_run`` or
        nothing.
    node_types
        Memory of the cluster's kinds of nodes, GiB; see `jobeff.config.Config.node_types`.
    all_flags
        The two memory flags too where there is neither a core nor a half or severe flag.

    Returns
    -------
    list of str
        In the order of `FLAGS`, with their numbers. Where the memory limit is unknown, so is the larger of the shares
        of cores and memory used, and no flag is raised that depends on it.
    """
    if not row.get("nodelist", row.get("nodes")):
        return [NOT_RUN]
    if "cores_used_peak" not in row:
        return []
    return list(_raised(row, node_types, all_flags))


def name_of(flag: str) -> str:
    """The name of a flag without its numbers.

    Parameters
    ----------
    flag
        From `flags`.

    Returns
    -------
    str
        One of `FLAGS`.
    """
    return flag.partition(":")[0]


def known(text: str) -> str | None:
    """Which flag is meant.

    Parameters
    ----------
    text
        From the command line, where ``!!`` may be left out, since shells take it for their own.

    Returns
    -------
    str or None
        One of `FLAGS`.
    """
    return next((flag for flag in FLAGS if text in (flag, flag.removeprefix("!!"))), None)


def hundredths(gib: float) -> int:
    """Memory as the whole number that it was computed from.

    Parameters
    ----------
    gib
        Of a column of the efficiency database.

    Returns
    -------
    int
        Hundredths of GiB.
    """
    return round(100 * gib)


def node_type(gib_hundredths: int, node_types: Sequence[int]) -> int | None:
    """The smallest kind of node with so much memory.

    Parameters
    ----------
    gib_hundredths
        Hundredths of GiB.
    node_types
        GiB.

    Returns
    -------
    int or None
        GiB; None where no kind has so much, or none is known.
    """
    return min((size for size in node_types if 100 * size >= gib_hundredths), default=None)


def _raised(row: Mapping[str, Any], node_types: Sequence[int], all_flags: bool) -> Iterator[str]:
    booked, used = row["cores"], row["cores_used_peak"]
    peak = hundredths(row["mem_peak"])
    limit = hundredths(row["mem_limit"]) if row["mem_limit"] else 0
    if 0 < row["nodes_seen"] < row["nodes_booked"]:
        yield f"{NODES}:{row['nodes_booked']}:{row['nodes_seen']}"
    # The larger share; a larger booking of which nothing is known makes no share.
    share, whole = max((used * limit, booked * limit), (peak * booked, booked * limit))
    if _below(OVERBOOKED, share, whole):
        yield f"{OVERBOOKED}:{_nearest(100 * share, whole)}%"
    for flag in (HALF, SEVERE):
        if _below(flag, share, whole):
            yield flag
    if row["swap_peak"] > 0:
        yield SWAP
    cores = _below(CORES, used, booked)
    if cores:
        yield f"{CORES}:{booked}:{used}"
    if booked > 1 and limit:
        if _below(MEMORY, peak, limit) and (all_flags or cores or _below(HALF, share, whole)):
            yield f"{MEMORY}:{_gib(limit)}:{_gib(peak)}"
        of_used = 10 * _nearest(used * limit, 10 * booked)
        if cores and _below(CORE_MEMORY, peak, of_used):
            yield f"{CORE_MEMORY}:{_gib(of_used)}:{_gib(peak)}"
    had, needed = node_type(limit, node_types) if limit else None, node_type(peak, node_types)
    if had is not None and needed is not None and had != needed:
        yield f"{NODE_TYPE}:{had}:{needed}"


def _below(flag: str, used: int, booked: int) -> bool:
    share, of = BELOW[flag]
    return booked > 0 and used * of < share * booked


def _nearest(above: int, below: int) -> int:
    """A quotient of whole numbers to the nearest one, halves to the even one."""
    whole, rest = divmod(above, below)
    return whole + (2 * rest > below or (2 * rest == below and whole % 2 == 1))


def _gib(value: int) -> str:
    return f"{value / 100:.2f}".rstrip("0").rstrip(".")


def condition(flag: str, node_types: Mapping[str, Sequence[int]] | None = None, of: str = "") -> str:
    """A flag as a condition of SQL, for whole tables.

    Parameters
    ----------
    flag
        One of `FLAGS`.
    node_types
        Of each configured cluster; from `jobeff.config.Config.clusters`. Only `NODE_TYPE` needs it.
    of
        What the efficiency database's table is called in the query, with a dot: ``seen.``.

    Returns
    -------
    str
        An expression, 1 where a row has the flag, else 0 (also where there is no row, as in a left join). Memory flags
        are those shown without being asked for; `NOT_RUN` asks the node list, so it needs the columns of accounting,
        named by `of`.
    """
    expression = _CONDITIONS[flag] if flag in _CONDITIONS else _node_type_condition(node_types or {})
    for short, long in _COLUMNS.items():
        expression = expression.replace(short, long)
    return f"ifnull({expression.replace('@', of)}, 0)"


def _sql_below(flag: str, used: str, booked: str) -> str:
    share, of = BELOW[flag]
    return f"({booked} > 0 and {used} * {of} < {share} * {booked})"


def _sql_larger(flag: str) -> str:
    """The larger share is below a threshold: each of them is."""
    return f"($a > 0 and {_sql_below(flag, '$u', '$N')} and {_sql_below(flag, '$m', '$a')})"


_COLUMNS = {
    "$x": "(10 * ($u * $a / (10 * $N) + (2 * ($u * $a % (10 * $N)) > 10 * $N"
    " or (2 * ($u * $a % (10 * $N)) = 10 * $N and $u * $a / (10 * $N) % 2 = 1))))",
    "$u": "@cores_used_peak",
    "$N": "@cores",
    "$m": "cast(round(100 * @mem_peak) as integer)",
    "$a": "cast(round(100 * @mem_limit) as integer)",
}
"""As METRICS calls them; memory in hundredths of GiB, ``x`` too."""

_CORES = _sql_below(CORES, "$u", "$N")
_CONDITIONS = {
    NODES: "(0 < @nodes_seen and @nodes_seen < @nodes_booked)",
    OVERBOOKED: _sql_larger(OVERBOOKED),
    HALF: _sql_larger(HALF),
    SEVERE: _sql_larger(SEVERE),
    SWAP: "(@swap_peak > 0)",
    CORES: _CORES,
    MEMORY: f"($N > 1 and {_sql_below(MEMORY, '$m', '$a')} and ({_CORES} or {_sql_larger(HALF)}))",
    CORE_MEMORY: f"($N > 1 and {_CORES} and $a > 0 and {_sql_below(CORE_MEMORY, '$m', '$x')})",
    NOT_RUN: "(@nodes = '')",
}


def _node_type_condition(node_types: Mapping[str, Sequence[int]]) -> str:
    """Of each cluster; a virtual one, whose name goes on after a dot, has the nodes of the longest that it is of."""
    cases = []
    for cluster, sizes in sorted(node_types.items(), key=lambda item: -len(item[0])):
        name = cluster.replace("'", "''")
        kinds = [
            "case " + " ".join(f"when {value} <= {100 * size} then {size}" for size in sorted(sizes)) + " end"
            for value in ("$a", "$m")
        ]
        differ = f"($a > 0 and {kinds[0]} <> {kinds[1]})" if sizes else "0"
        part_of = f"@cluster = '{name}' or substr(@cluster, 1, {len(cluster) + 1}) = '{name}.'"
        cases.append(f"when {part_of} then {differ}")
    return f"case {' '.join(cases)} end" if cases else "0"
