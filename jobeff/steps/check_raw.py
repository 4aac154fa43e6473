"""check: the raw files of a month, in the archive and in the shards."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobeff.engine import plan, pool
from jobeff.engine.verify import Difference, Files, Verified, VerifyTask, at_once, verify_shards
from jobeff.errors import JobeffError
from jobeff.steps import check_report as kinds
from jobeff.steps import ingest
from jobeff.steps.check_report import Finding, Report
from jobeff.steps.site import Site, StepResult
from jobeff.store import archive, framing, header_sums, shards
from jobeff.store.archive_damage import BadPlace, bad_places, is_known, is_told, lost, still_lost
from jobeff.store.files import remove_tree

GROUPS_PER_WORKER = 2
NAMES = ("nodes", "waiting")


@dataclass(frozen=True)
class Unit:
    """A month of a cluster's archive, and how it is looked at.

    Attributes
    ----------
    site, executor
        Where to work.
    scratch
        Folder for what is made again.
    cluster, month
        Which month.
    read_data
        Whether every byte is read.
    """

    site: Site
    executor: Executor
    scratch: Path
    cluster: str
    month: str
    read_data: bool

    @property
    def shards(self) -> Path:
        """Folder of the shards in use."""
        return self.site.config.shards

    def damage(self, kind: str, where: object, why: str, *what: str) -> Finding:
        """A finding of this month."""
        return Finding(kind, str(where), why, self.cluster, self.month, what)


@dataclass(frozen=True)
class RawFiles:
    """What the shards of a month hold: names of nodes, raw files, and nodes whose shard is of no use.

    Where the archive has the month and it is not `ingested`, they say nothing of what its jobs' rows should be; nor
    where it is `gone`, from the archive and from all shards.
    """

    nodes: list[str]
    files: Files
    damaged: set[str]
    ingested: bool = True
    gone: bool = False


def check_raw(unit: Unit, known: dict[str, Any] | None, report: Report) -> RawFiles:
    """Compare the archive of a month with its shards.

    Parameters
    ----------
    unit
        Which month.
    known
        How far it has been ingested; None where nothing says that it was.
    report
        Takes what is found.

    Returns
    -------
    RawFiles
        What the shards hold.
    """
    path = archive.month_files(unit.site.root, unit.cluster).get(unit.month)
    nodes = sorted(shards.nodes_with(unit.shards, unit.cluster, unit.month))
    again: Path | None = None
    reached = 0
    changed: Finding | None = None
    bad: list[BadPlace] = []
    if path is None:
        whole = archive.month_file(unit.site.root, unit.cluster, unit.month)
        if nodes and is_told(whole):
            report.add(unit.damage(kinds.LOST, whole, "the archive has lost it; its shards are all there is"))
        elif nodes:
            folder = unit.shards / unit.cluster
            why = f"the archive has no {unit.month} of it; the shards of {len(nodes)} nodes are all there is"
            report.add(unit.damage(kinds.GONE, f"{folder}/*/{unit.month}.parquet", why))
    elif known is None:
        report.add(unit.damage(kinds.BEHIND, path, "it is not ingested yet"))
    else:
        reached, changed = _check_progress(unit, path, known, report)
        if reached and unit.read_data:
            again, bad = _made_again(unit, path, reached, report)
    everywhere = sorted({*nodes, *(shards.nodes_with(again, unit.cluster, unit.month) if again else ())})
    verified = _verified(unit, everywhere, again)
    for node, why in verified.damaged:
        where = shards.shard_path(unit.shards, unit.cluster, node, unit.month)
        report.add(unit.damage(kinds.SHARD, where, why, node))
    damaged = {node for node, _ in verified.damaged}
    for node in sorted(set(known["nodes"]) - set(nodes) if known is not None and path is not None else ()):
        where = shards.shard_path(unit.shards, unit.cluster, node, unit.month)
        report.add(unit.damage(kinds.SHARD, where, "it is gone", node))
        damaged.add(node)
    if any(offset > reached for offset in verified.reached.values()) and known is not None:
        report.add(unit.damage(kinds.BEHIND, unit.month, "an ingest has not come to its end"))
    else:
        damaged |= _differences(unit, verified.differences, bad, damaged, report)
    if again is not None:
        remove_tree(again)
    if changed is not None and not any(one.kind == kinds.FRAME for one in report.findings):
        report.add(changed)  # else it is known where
    report.count("raw files", unit.cluster, unit.month, len(verified.files.job_id))
    return RawFiles(everywhere, verified.files, damaged, known is not None or path is None, path is None and not nodes)


def _check_progress(unit: Unit, path: Path, known: dict[str, Any], report: Report) -> tuple[int, Finding | None]:
    """Compare a month with what was noted as it was ingested; gives up to where, and how it differs."""
    if path.suffix != ".txt" and not unit.read_data:
        if is_told(path):
            report.add(unit.damage(kinds.LOST, path, "it is compressed, and not all of it can be read"))
        return int(known["archive_bytes"]), None
    try:
        with archive.plain(path, unit.site.root / "db" / "scratch") as plain, archive.mapped(plain) as text:
            size = archive.committed_size(path) if plain == path else len(text)
            reached = int(known["archive_bytes"])
            if reached > size or framing.tail_crc32(text, reached) != known["tail_crc32"]:
                why = f"it is not what was ingested up to byte {reached}"
                if is_told(path):
                    report.add(unit.damage(kinds.LOST, path, f"{why}; its shards are kept"))
                    return 0, None
                return min(reached, size), unit.damage(kinds.MONTH, path, why)
            frames = framing.scan(text, reached, unit.cluster, str(path), StepResult("").aside, size)
            for one in still_lost(text, path) if not unit.read_data else ():  # who reads all of it meets them
                where = f"{path} bytes {one['begin']}-{one['end']}"
                report.add(unit.damage(kinds.LOST, where, f"nothing has {one['what']} as it was"))
    except archive.UnreadableMonthError as error:
        report.add(unit.damage(kinds.LOST if is_told(path) else kinds.MONTH, path, str(error)))
        return 0, None
    if frames.torn:
        why = f"{frames.torn} bytes from byte {frames.end} on are no whole frame"
        report.add(unit.damage(kinds.TAIL, path, why, str(frames.end)))
    if len(frames.job_id):
        why = f"{len(frames.job_id)} raw files from byte {reached} on are not ingested yet"
        report.add(unit.damage(kinds.BEHIND, path, why))
    return reached, None


def _made_again(unit: Unit, path: Path, reached: int, report: Report) -> tuple[Path, list[BadPlace]]:
    """Make the shards of a month again, beside; gives their folder, and what of the archive is of no use."""
    folder, result = unit.scratch / "again", StepResult("check")
    remove_tree(folder)
    stages = ingest.Stages(unit.site, unit.scratch, result, lambda _: None, lambda _: None, lambda _: None)
    month = ingest.Behind(folder, unit.cluster, unit.month, path, ingest.NEW, reached, reached)
    for _ in pool.run_chains(unit.executor, [stages.ingested(month)], 1):
        pass
    damaged = [one for one in header_sums.load(path) if not header_sums.is_sound(one)]
    if damaged:
        why = f"{len(damaged)} records are not as they were written"
        report.add(unit.damage(kinds.FRAME, header_sums.beside(path), why, "records"))
    if not result.aside.total:
        return folder, []
    with archive.plain(path, unit.site.root / "db" / "scratch") as plain, archive.mapped(plain) as text:
        places, known, all_told = bad_places(text, reached, unit.cluster, path), lost(path), is_told(path)
        for place in places:
            told = all_told or is_known(text, place, known)
            who = f" of {unit.cluster}/{place.node}/{place.job_id}" if place.node else ""
            where = f"{path} bytes {place.begin}-{place.end}{who}"
            kind = kinds.LOST if told else kinds.FRAME
            report.add(unit.damage(kind, where, place.why, str(place.begin), str(place.end)))
    return folder, places


def _verified(unit: Unit, nodes: list[str], again: Path | None) -> Verified:
    """Read the shards of a month in several processes."""
    sizes = shards.nodes_with(unit.shards, unit.cluster, unit.month)
    groups = plan.balanced(
        range(len(nodes)), [sizes.get(node, 0) for node in nodes], GROUPS_PER_WORKER * unit.site.width
    )
    tasks = [VerifyTask(unit.shards, unit.cluster, unit.month, [nodes[i] for i in group], again) for group in groups]
    result = Verified(Files(*(np.empty(0, dtype=np.int64) for _ in Files._fields)))
    parts: list[Verified] = at_once(unit.executor, [(verify_shards, task) for task in tasks])
    if not parts:
        return result
    for group, part in zip(groups, parts, strict=True):
        part.files = part.files._replace(node=np.array(group, dtype=np.int64)[part.files.node])
        result.reached.update(part.reached)
        result.damaged.extend(part.damaged)
        result.differences.extend(part.differences)
    result.files = Files(*(np.concatenate(columns) for columns in zip(*(part.files for part in parts), strict=True)))
    return result


def raw_files(unit: Unit) -> RawFiles:
    """Read what the shards of a month hold.

    Parameters
    ----------
    unit
        Which month.

    Returns
    -------
    RawFiles
        As far as they can be read.
    """
    nodes = sorted(shards.nodes_with(unit.shards, unit.cluster, unit.month))
    found = _verified(unit, nodes, None)
    return RawFiles(nodes, found.files, {node for node, _ in found.damaged})


def _differences(
    unit: Unit, differences: list[Difference], bad: list[BadPlace], damaged: set[str], report: Report
) -> set[str]:
    """Say which shards are not what the archive gives; where the archive is damaged, the shard is right."""
    stored = {int(at): (one.node, i, one.stored) for one in differences for i, at in enumerate(one.stored.offset)}
    renamed: set[int] = set()
    for one in differences:
        for i, offset in enumerate(one.archived.offset.tolist()):
            node, at, files = stored.get(offset, ("", 0, one.stored))
            mine = (node, int(files.job_id[at])) if node else None
            theirs = (one.node, int(one.archived.job_id[i]))
            if mine is not None and mine != theirs and files.crc32[at] == one.archived.crc32[i]:
                renamed.add(offset)
                where = f"{unit.cluster}/{unit.month} byte {offset}"
                why = f"its header says {theirs[0]}/{theirs[1]}, the shard that was made of it {mine[0]}/{mine[1]}"
                report.add(unit.damage(kinds.FRAME, where, why, str(offset), "header"))
    found = set()
    for one in differences:
        if one.node in damaged:
            continue
        mine_lost = np.array([_explained(at, bad, renamed) for at in one.stored.offset.tolist()], dtype=np.bool_)
        theirs_lost = np.array([at in renamed for at in one.archived.offset.tolist()], dtype=np.bool_)
        theirs_lost |= np.isin(one.archived.job_id, one.stored.job_id[mine_lost])  # what it had taken the place of
        only, missing = int((~mine_lost).sum()), int((~theirs_lost).sum())
        if only or missing:
            shard = shards.shard_path(unit.shards, unit.cluster, one.node, unit.month)
            why = f"{only} of its raw files are not so in the archive, {missing} of the archive not so in it"
            report.add(unit.damage(kinds.SHARD, shard, why, one.node))
            found.add(one.node)
    return found


def _explained(offset: int, bad: list[BadPlace], renamed: set[int]) -> bool:
    return offset in renamed or any(place.header <= offset <= place.end for place in bad)


def ingested(site: Site, cluster: str, report: Report) -> dict[str, dict[str, Any]]:
    """How far the months of a cluster were ingested, as far as that can be read.

    Parameters
    ----------
    site, cluster
        Which cluster.
    report
        Takes what is damaged.

    Returns
    -------
    dict
        See `jobeff.store.shards.ingested`; without the names of nodes, which all months together have many of.
    """
    found = {}
    for path in shards.notes(site.config.shards, cluster):
        about = _note(path, cluster, report)
        if about is not None:
            found[path.stem] = {key: value for key, value in about.items() if key not in NAMES}
    return found


def ingested_month(site: Site, cluster: str, month: str, report: Report) -> dict[str, Any] | None:
    """How far one month was ingested, as far as that can be read.

    Parameters
    ----------
    site, cluster, month
        Which month.
    report
        Takes what is damaged.

    Returns
    -------
    dict or None
        See `jobeff.store.shards.ingested`; None where nothing says that it was.
    """
    path = shards.note(site.config.shards, cluster, month)
    return _note(path, cluster, report) if path.exists() else None


def _note(path: Path, cluster: str, report: Report) -> dict[str, Any] | None:
    try:
        return shards.read_note(path)
    except JobeffError as error:
        report.add(Finding(kinds.SHARD, str(path), str(error), cluster, path.stem))
        return None
