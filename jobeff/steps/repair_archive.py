"""repair: a month of the archive, byte for byte as it was collected, where anything still says what that was.

Text is written back in its place only where its checksum says that it is the right one: a raw file that the site
still has, or a header as the shard that was made of it names it. Nothing is ever removed from the archive.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobeff.engine.verify import Files
from jobeff.errors import SetAside
from jobeff.sources import jobstats
from jobeff.steps.site import Site, StepResult
from jobeff.store import archive, framing, header_sums
from jobeff.store.archive_damage import BadPlace, bad_places, is_known, lost, set_lost, state_of
from jobeff.store.files import naming

ROUNDS = 20
"""What is mended can show what else is damaged behind it; there is always less of it."""

BITS = 8


@dataclass(frozen=True)
class Patch:
    """Bytes to write at an offset."""

    begin: int
    data: bytes


class MonthMender:
    """Mends one plain month.

    Parameters
    ----------
    site, cluster, month
        Which one; the caller holds the lock of the archive.
    reached
        Up to where it has been ingested, so that frames stood there; 0 where that is not known.
    nodes, files
        What its shards know of it, see `jobeff.steps.check_raw.RawFiles`.
    result
        Takes what was mended, and what could not be.
    """

    def __init__(
        self, site: Site, cluster: str, month: str, reached: int, nodes: list[str], files: Files, result: StepResult
    ) -> None:
        self.site, self.cluster, self.nodes, self.files, self.result = site, cluster, nodes, files, result
        self.path = archive.month_file(site.root, cluster, month)
        self.reached = reached
        self.order = np.argsort(files.offset, kind="stable")

    def run(self) -> bool:
        """Write back what is known.

        Returns
        -------
        bool
            Whether frames stand elsewhere than they did, so that the month has to be read anew.
        """
        moved = self._moved()
        if moved and self._removed():
            return False
        if moved:
            header_sums.write(self.path, self._records_of(moved))
            self.result.count("frames found elsewhere", len(moved))
        self._mend()
        return bool(moved)

    def is_sound(self) -> bool:
        """Whether all of the month is as it was written.

        Returns
        -------
        bool
            False where something is damaged, also where that is known.
        """
        return not self._places()

    def _mend(self) -> None:
        for _ in range(ROUNDS):
            places = self._places()
            patches = [patch for place in places for patch in self._patches(place)]
            if not patches:
                break
            self._write(patches)
            self.result.count("mended in the archive", len(patches))
        self._mend_records()

    def _moved(self) -> dict[int, bytes]:
        """Records of frames that stand elsewhere than they were written, header and text as they were; by offset."""
        records = header_sums.load(self.path)
        written = {_line(one) for one in records if header_sums.is_sound(one)}
        with archive.mapped(self.path) as text:
            frames = framing.scan(text, 0, self.cluster, "", SetAside())
            whole = framing.checksums(text, frames.begin, frames.bytes) == frames.crc32
            found = {}
            wrong = header_sums.wrong(text, frames.begin, records, frames.header)
            for frame in sorted([*wrong.frames.tolist(), *wrong.unknown.tolist()]):
                begin = int(frames.begin[frame])
                new = header_sums.record(begin, self._header_before(text, begin))
                if whole[frame] and _line(np.frombuffer(new, dtype=header_sums.RECORD)[0]) in written:
                    found[begin] = new
        return found

    def _removed(self) -> bool:
        """Whether raw files that the shards hold are neither in the archive nor at the site; they are named."""
        files = self.files
        with archive.mapped(self.path) as text:
            frames = framing.scan(text, 0, self.cluster, "", SetAside())
            whole = framing.checksums(text, frames.begin, frames.bytes) == frames.crc32
        nodes = [frames.nodes[i] for i in frames.node.tolist()]
        there = set(zip(nodes, frames.job_id.tolist(), np.where(whole, frames.crc32, -1).tolist(), strict=True))
        rows = zip(files.node.tolist(), files.job_id.tolist(), files.crc32.tolist(), files.bytes.tolist(), strict=True)
        names = [
            f"{self.cluster}/{self.nodes[node]}/{job_id}"
            for node, job_id, crc32, length in rows
            if (self.nodes[node], job_id, crc32) not in there
            and self._found_at_site(self.nodes[node], job_id, crc32, length) is None
        ]
        if not names:
            return False
        why = (
            f"frames were moved in it, and it no longer has {len(names)} raw files that its shards hold, {names[0]} "
            f"first; shards and rows are kept as they are, and nothing more of it is read. Put a whole copy there; who "
            f"has removed them on purpose removes {header_sums.beside(self.path).name} and runs 'jobeff update'"
        )
        note_month_lost(self.path, why)
        self.result.aside.add("archive month", str(self.path), why)
        return True

    def _records_of(self, moved: dict[int, bytes]) -> npt.NDArray[np.void]:
        """All records, of frames that were moved at the place where they are now."""
        new = np.frombuffer(b"".join(moved.values()), dtype=header_sums.RECORD)
        lines = {_line(one) for one in new}
        kept = [one.tobytes() for one in header_sums.load(self.path) if self._stays(one, moved, lines)]
        return np.frombuffer(b"".join([*kept, new.tobytes()]), dtype=header_sums.RECORD)

    def _stays(self, one: np.void, moved: dict[int, bytes], lines: set[tuple[int, int]]) -> bool:
        with archive.mapped(self.path) as text:
            begin = int(one["begin"])
            mine = begin <= len(text) and zlib.crc32(text[max(0, begin - int(one["length"])) : begin]) == int(
                one["crc32"]
            )
        return begin not in moved and (mine or _line(one) not in lines)

    def _places(self) -> list[BadPlace]:
        with archive.mapped(self.path) as text:
            whole = framing.scan(text, 0, self.cluster, "", SetAside()).end
            end = max(whole, self.reached) if self.reached <= len(text) else whole
            return sorted([*bad_places(text, end, self.cluster, self.path), *self._other_names(text)])

    def _other_names(self, text: framing.Text) -> Iterator[BadPlace]:
        """Headers that name another raw file than the shard that was made of it, where no record tells which is right.

        The shard's pages have checksums, such a header has none.
        """
        frames = framing.scan(text, 0, self.cluster, "", SetAside())
        found = header_sums.wrong(text, frames.begin, header_sums.load(self.path), frames.header)
        for begin in frames.begin[found.unknown].tolist():
            header = self._header_before(text, begin)
            if not self._agrees(begin, header):
                at = begin - len(header)
                yield BadPlace(at, begin, at, "", 0, -1, "its header names another raw file than its shard")

    def _patches(self, place: BadPlace) -> Iterator[Patch]:
        """What to write at a bad place; nothing where that is not known."""
        with archive.mapped(self.path) as text:
            found = [
                *self._newline(place),
                *self._headers_of_shards(text, place),
                *self._headers_of_records(text, place),
            ] or [*self._text_of_site(place)]
            yield from {
                patch.begin: patch for patch in found if text[patch.begin : patch.begin + len(patch.data)] != patch.data
            }.values()

    @staticmethod
    def _newline(place: BadPlace) -> Iterator[Patch]:
        """One byte between two frames can only have been a newline."""
        if not place.node and place.end - place.begin == 1 and place.begin > 0:
            yield Patch(place.begin, b"\n")

    def _headers_of_shards(self, text: framing.Text, place: BadPlace) -> Iterator[Patch]:
        """Headers of raw texts that a shard knows, and that are as they were collected."""
        offsets = self.files.offset[self.order]
        first, last = np.searchsorted(offsets, place.header), np.searchsorted(offsets, place.end, side="right")
        for row in self.order[first:last].tolist():
            begin, length, crc32 = (
                int(column[row]) for column in (self.files.offset, self.files.bytes, self.files.crc32)
            )
            if begin + length > len(text) or zlib.crc32(text[begin : begin + length]) != crc32:
                continue
            name = f"{self.cluster}/{self.nodes[self.files.node[row]]}/{self.files.job_id[row]}"
            for form in ("", " form=extended"):
                header = f"==> {name} bytes={length} crc32={crc32:08x}{form} <==\n".encode()
                if self._fits(text, begin, header):
                    yield Patch(begin - len(header), header)

    def _fits(self, text: framing.Text, begin: int, header: bytes) -> bool:
        """Whether a header can have stood before a raw text: it has the right checksum, or room there."""
        records = header_sums.load(self.path)
        known = [one for one in records[records["begin"] == begin] if header_sums.is_sound(one)]
        if known:
            return int(known[-1]["crc32"]) == zlib.crc32(header)
        there = text[begin - len(header) : begin] if begin >= len(header) else b""
        changed = sum((a ^ b).bit_count() for a, b in zip(there, header, strict=False))
        at_line = begin == len(header) or text[begin - len(header) - 1 : begin - len(header)] == b"\n"
        return len(there) == len(header) and at_line and changed <= len(header)

    def _headers_of_records(self, text: framing.Text, place: BadPlace) -> Iterator[Patch]:
        """Headers in which one bit has flipped, as their records tell."""
        records = header_sums.load(self.path)
        inside = (records["begin"] > place.header) & (records["begin"] - records["length"] <= place.end)
        for one in records[inside]:
            begin, length = int(one["begin"]), int(one["length"])
            if not header_sums.is_sound(one) or begin - length < 0 or begin > len(text):
                continue
            header = bytearray(text[begin - length : begin])
            right = int(one["crc32"])
            for bit in range(BITS * length) if zlib.crc32(header) != right else ():
                header[bit // BITS] ^= 1 << bit % BITS
                if zlib.crc32(header) == right:
                    yield Patch(begin - length, bytes(header))
                    break
                header[bit // BITS] ^= 1 << bit % BITS

    def _text_of_site(self, place: BadPlace) -> Iterator[Patch]:
        """The raw text, where the site still has the file."""
        if place.node and place.crc32 >= 0:
            found = self._found_at_site(place.node, place.job_id, place.crc32, place.end - place.begin)
            if found is not None:
                yield Patch(place.begin, found)

    def _found_at_site(self, node: str, job_id: int, crc32: int, length: int) -> bytes | None:
        """A raw text by its checksum, where the site still has the file."""
        cluster = self.site.config.clusters.get(self.cluster)
        for folder in cluster.jobstats if cluster is not None else ():
            path = folder / node / str(job_id)
            found = jobstats.read(str(path), SetAside()) if path.is_file() and not path.is_symlink() else None
            if found is not None and len(found) >= length and zlib.crc32(found[:length]) == crc32:
                return found[:length]
        return None

    def _write(self, patches: list[Patch]) -> None:
        """Write in place: what stands there is damaged, and a run that is killed within it is done again."""
        with self.path.open("rb+") as file, naming(self.path):
            for patch in patches:
                file.seek(patch.begin)
                file.write(patch.data)
            file.flush()
            os.fsync(file.fileno())

    def _mend_records(self) -> None:
        """Make damaged records again, of frames whose text is as collected and whose header the shard agrees with."""
        records = header_sums.load(self.path)
        sound = np.array([header_sums.is_sound(one) for one in records], dtype=np.bool_)
        if sound.all():
            return
        with archive.mapped(self.path) as text:
            frames = framing.scan(text, 0, self.cluster, "", SetAside())
            whole = framing.checksums(text, frames.begin, frames.bytes) == frames.crc32
            begins = frames.begin[whole & ~np.isin(frames.begin, records[sound]["begin"])].tolist()
            headers = {begin: self._header_before(text, begin) for begin in begins}
        new = b"".join(
            header_sums.record(begin, header) for begin, header in headers.items() if self._agrees(begin, header)
        )
        both = records[sound].tobytes() + new
        header_sums.write(self.path, np.frombuffer(both, dtype=header_sums.RECORD))
        self.result.count("mended in the archive", int((~sound).sum()))

    def _agrees(self, begin: int, header: bytes) -> bool:
        """Whether a header names what the shard that has its raw text names; true where none has."""
        at = np.searchsorted(self.files.offset[self.order], [begin, begin + 1])
        names = [
            f"==> {self.cluster}/{self.nodes[self.files.node[row]]}/{self.files.job_id[row]} ".encode()
            for row in self.order[at[0] : at[1]].tolist()
        ]
        return not names or any(header.startswith(name) for name in names)

    @staticmethod
    def _header_before(text: framing.Text, begin: int) -> bytes:
        at = text.rfind(b"\n", 0, begin - 1)
        return bytes(text[at + 1 : begin])

    def note_lost(self, moved: bool) -> None:
        """Note what is left once a torn tail is gone, so that it is told but does not count as new damage for ever.

        Parameters
        ----------
        moved
            Whether the shards are made again of what the archive and the site have.
        """
        places = self._places()
        if not places:
            return
        with archive.mapped(self.path) as text:
            known = lost(self.path)
            now = int(time.time())
            fresh = [place for place in places if not is_known(text, place, known)]
            notes: list[dict[str, Any]] = []
            for place in fresh:
                who = self._whose(place)
                notes.append(
                    {"begin": place.begin, "end": place.end, "crc32": zlib.crc32(text[place.begin : place.end]),
                     "what": who, "since": now}
                )  # fmt: skip
                why = f"{place.why}, and nothing has {who} as it was"
                if self._in_shard(place):
                    again = f"{place.why}; {who} is collected again"
                    why = again if moved else f"{why}; its samples are still in the shard"
                where = f"{self.path} bytes {place.begin}-{place.end}"
                self.result.aside.add("archive frame", where, why)
        if notes:
            set_lost(self.path, [*known, *notes])

    def _whose(self, place: BadPlace) -> str:
        if place.node:
            return f"{self.cluster}/{place.node}/{place.job_id}"
        rows = np.flatnonzero((self.files.offset >= place.header) & (self.files.offset <= place.end))
        names = [f"{self.cluster}/{self.nodes[self.files.node[i]]}/{self.files.job_id[i]}" for i in rows.tolist()]
        return ", ".join(names[:5]) or "what stood there"

    def _in_shard(self, place: BadPlace) -> bool:
        return bool(((self.files.offset >= place.header) & (self.files.offset <= place.end)).any())


def _line(one: np.void) -> tuple[int, int]:
    """What a record says of the header line itself."""
    return int(one["length"]), int(one["crc32"])


def note_month_lost(path: Path, why: str) -> None:
    """Note that the archive has lost a month, or a part of it, for good.

    Parameters
    ----------
    path
        Its file.
    why
        In words.
    """
    state = state_of(path)
    known = [one for one in lost(path) if one["end"]]
    set_lost(path, [*known, {"begin": 0, "end": 0, "crc32": state, "what": why, "since": int(time.time())}])
