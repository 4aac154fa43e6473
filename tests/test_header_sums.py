"""Header lines of the archive that are not what was written, and records of them that are damaged."""

import zlib

import numpy as np
import pytest

from jobeff.store import header_sums


def truth(text, begins, records):
    """One after the other."""
    last = {int(one["begin"]): number for number, one in enumerate(records)}
    frames, damaged, unknown = [], [], []
    for frame, begin in enumerate(begins):
        number = last.get(begin)
        if number is None:
            unknown.append(frame)
            continue
        one = records[number]
        line = text[begin - int(one["length"]) : begin]
        if 0 < one["length"] <= begin and zlib.crc32(line) == one["crc32"]:
            continue
        if header_sums.is_sound(one):
            frames.append(frame)
        else:
            damaged.append(number)
            unknown.append(frame)
    return frames, damaged, unknown


def month(random, count):
    """Text with so many headers, where their raw texts begin, and their records."""
    text, begins, records = bytearray(), [], bytearray()
    for _ in range(count):
        header = b"==> c/r%d/%d bytes=%d crc32=00000000 <==\n" % tuple(random.integers(1, 10**6, 3).tolist())
        text += header
        begins.append(len(text))
        records += header_sums.record(len(text), header)
        text += bytes(random.integers(32, 127, int(random.integers(0, 200)), dtype=np.uint8)) + b"\n"
    return text, begins, np.frombuffer(records, dtype=header_sums.RECORD).copy()


@pytest.mark.parametrize("count", [1, 15, 16, 400])
def test_what_does_not_fit_is_found_whatever_is_damaged(count):
    """Few headers and many, which have their checksums from another kernel."""
    random = np.random.default_rng(count)
    for tries in range(30):
        text, begins, records = month(random, count)
        sizes = records["length"].tolist()
        for _ in range(int(random.integers(0, 1 + count // 4 + 2))):
            what, one = random.integers(0, 7), int(random.integers(count))
            if what == 0:
                text[int(random.integers(len(text)))] ^= 1 << int(random.integers(8))
            elif what == 1:
                records["length"][one] = random.choice([0, -1, -(2**31), 2**31 - 1, begins[one], begins[one] + 1])
            elif what == 2:
                records["begin"][one] = random.choice([-1, 0, begins[-1], 2**62])
            elif what == 3:
                records["crc32"][one] ^= 1
            elif what == 4:
                records["check"][one] ^= 1
            elif what == 5:
                records = np.concatenate([records, records[one : one + 1]])
            else:
                records = np.delete(records, one) if len(records) > count else records[random.permutation(len(records))]
        found = header_sums.wrong(bytes(text), np.array(begins), records)
        assert [some.tolist() for some in found] == list(truth(bytes(text), begins, records)), tries
        # What the scan knows of headers, of some of them, of none of them.
        lines = [bytes(text[begin - size : begin]) for begin, size in zip(begins, sizes, strict=True)]
        sums = np.array([len(line) << 32 | zlib.crc32(line) for line in lines])
        for header in (sums, np.where(np.arange(len(sums)) % 2, sums, -1), np.full(len(sums), -1)):
            again = header_sums.wrong(bytes(text), np.array(begins), records, header)
            assert [some.tolist() for some in again] == [some.tolist() for some in found], tries


def test_a_damaged_record_is_not_taken_for_what_nobody_has_asked():
    text, begins, records = month(np.random.default_rng(1), 1)
    records["length"], records["crc32"] = -1, 0xFFFFFFFF
    for header in (None, np.array([-1])):
        found = header_sums.wrong(bytes(text), np.array(begins), records, header)
        assert [some.tolist() for some in found] == [[], [0], [0]]


def test_without_records_or_frames_nothing_is_wrong():
    none = np.empty(0, dtype=np.int64)
    assert [some.tolist() for some in header_sums.wrong(b"", none, np.empty(0, dtype=header_sums.RECORD))] == [
        [],
        [],
        [],
    ]
    found = header_sums.wrong(b"abc", np.array([1, 2]), np.empty(0, dtype=header_sums.RECORD))
    assert [some.tolist() for some in found] == [[], [], [0, 1]]
