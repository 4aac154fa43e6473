"""Shards read without pyarrow, against pyarrow; whatever stands in them, and whoever wrote them."""

import json
import os
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobeff.store import shard_kernels, shards
from jobeff.store.files import read_regular_into

# What comes round in machine integers is warned of where the kernels are not compiled.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")

INT32 = [0, 1, -1, 2**31 - 1, -(2**31), 25600]
INT64 = [0, 1, -1, 2**31, 2**40, -(2**40), 2**53 - 1]


def table_of(files):
    """A table of raw files: id, cores, rejected, has the largest use, and rows of (time, numbers, core's base)."""
    columns = {field.name: [] for field in shards.schema()}
    for job_id, cores, rejected, extended, rows in files:
        times = [time for time, _, _ in rows]
        columns["job_id"].append(job_id)
        columns["first"].append(min(times, default=None))
        columns["last"].append(max(times, default=None))
        columns["cores"].append(cores)
        columns["rejected"].append(rejected)
        columns["offset"].append(job_id)
        columns["bytes"].append(abs(rejected))
        columns["crc32"].append(job_id % 2**32)
        columns["time"].append(times)
        for place, name in enumerate(("limit", "used", "swap")):
            columns[name].append([numbers[place] for _, numbers, _ in rows])
        columns["max_used"].append([numbers[3] for _, numbers, _ in rows] if extended else [])
        columns["core"].append([(base + k) % 65536 for _, _, base in rows for k in range(cores)])
    return shards.table_of(columns)


int32s = st.one_of(st.sampled_from(INT32), st.integers(-(2**31), 2**31 - 1), st.integers(0, 9))
int64s = st.one_of(st.sampled_from(INT64), st.integers(-(2**53), 2**53 - 1), st.integers(0, 10**6))
sample = st.tuples(int64s, st.tuples(*[int32s] * 4), st.integers(0, 65535))
raw_files = st.tuples(
    int64s, st.sampled_from([0, 1, 2, 20]), int32s, st.booleans(),
    st.one_of(st.lists(sample, max_size=9), st.integers(0, 60).map(lambda n: [(1, (1, 1, 1, 1), 1)] * n)),
)  # fmt: skip
tables = st.lists(raw_files, max_size=12).map(table_of)


def large(seed, files, rows, cores=4):
    """A table of many rows, several pages per column."""
    dice = np.random.default_rng(seed)
    made = []
    for i in range(files):
        count = int(dice.integers(0, rows + 1))
        values = dice.integers(0, 10 ** int(dice.integers(1, 9)), (count, 4)).tolist()
        bases = dice.integers(0, 65536, count).tolist()
        times = (1_600_000_000 + 300 * np.arange(count) + dice.integers(0, 5, count)).tolist()
        made.append((i // 2, cores, 0, i % 3 == 0, list(zip(times, map(tuple, values), bases, strict=True))))
    return table_of(made)


def assert_same(found, table):
    expected = shards.samples_of(table)
    for name, array in vars(expected).items():
        assert getattr(found, name).dtype == array.dtype
        np.testing.assert_array_equal(getattr(found, name), array, err_msg=name)


DELTAS = ("job_id", "first", "last", "offset", "time.list.element")
BY_PYARROW = {
    "compression": "none",
    "use_dictionary": ["cores", "rejected", *(f"{name}.list.element" for name in shards.SAMPLES if name != "time")],
    "column_encoding": dict.fromkeys(DELTAS, "DELTA_BINARY_PACKED"),
    "write_page_checksum": True,
    "store_schema": False,
}


def decoded(reader, path):
    """What is read without pyarrow; None where it cannot be."""
    return reader._decoded(np.frombuffer(path.read_bytes(), dtype=np.uint8))


def written(folder, table):
    shards.write(Path(folder) / "shard", table, {"archive_bytes": 1})
    return Path(folder) / "shard"


@settings(max_examples=60)
@given(st.lists(tables, min_size=1, max_size=3))
def test_samples_are_those_of_pyarrow(some):
    """One reader for all, as its memory is used again."""
    reader = shards.SampleReader()
    with tempfile.TemporaryDirectory() as folder:
        for table in some:
            path = written(folder, table)
            # A table without rows has no row group, and is never written.
            assert decoded(reader, path) is not None or table.num_rows == 0, "it has to be read by pyarrow"
            assert_same(reader.read(path), shards.read(path)[0])
            flags = [
                {name: array.flags.writeable for name, array in vars(one).items()}
                for one in (reader.read(path), shards.samples_of(shards.read(path)[0]))
            ]
            assert flags[0] == flags[1], "kernels are compiled for one kind only"


@pytest.mark.parametrize(("files", "rows"), [(0, 0), (1, 0), (3000, 0), (1, 40_000), (3000, 20)])
def test_large_shards(tmp_path, files, rows):
    reader = shards.SampleReader()
    for table in (large(files, files, rows), large(files + 1, files // 2, rows)):
        path = written(tmp_path, table)
        assert decoded(reader, path) is not None or table.num_rows == 0
        assert_same(reader.read(path), table)


def test_more_values_than_sixteen_bits_can_number(tmp_path):
    rows = [(time, (1, time % 70_000, 1), 0) for time in range(280_000)]
    path = written(tmp_path, table_of([(1, 0, 0, False, rows)]))
    found = decoded(shards.SampleReader(), path)
    assert found is not None
    assert_same(found, shards.read(path)[0])


def test_the_widest_differences(tmp_path):
    rows = [(time, (1, 2, 3, 4), 5) for time in (0, 2**62, -(2**62), 2**63 - 1, -(2**63))]
    path = written(tmp_path, table_of([(2**63 - 1, 1, 0, True, rows), (-(2**63), 1, 0, True, rows)]))
    assert_same(shards.SampleReader().read(path), shards.read(path)[0])


@pytest.mark.parametrize(
    ("how", "ours"),
    [
        ({"compression": "zstd"}, False),
        ({"compression": "snappy"}, False),
        ({"row_group_size": 7}, False),
        ({"data_page_version": "2.0"}, False),
        ({"use_dictionary": True, "column_encoding": None}, None),
        ({"use_dictionary": False, "column_encoding": None}, None),
        ({"use_dictionary": False, "column_encoding": dict.fromkeys(DELTAS, "BYTE_STREAM_SPLIT")}, False),
        ({"data_page_size": 64, "write_batch_size": 8}, True),
        ({"dictionary_pagesize_limit": 16}, None),
        ({"write_page_checksum": False, "write_statistics": True, "store_schema": True}, None),
        ({"write_page_index": True}, None),
    ],
)
def test_shards_of_other_encodings_are_read_too(tmp_path, how, ours):
    """Those that somebody has written anew, or a later pyarrow: by pyarrow, where the kernels do not know them."""
    how, table = dict(how), large(4, 40, 30)
    groups = {"row_group_size": how.pop("row_group_size", None)}
    said = json.dumps({"archive_bytes": 1, "version": shards.VERSION})
    buffer = pa.BufferOutputStream()
    with pq.ParquetWriter(buffer, shards.schema(), **{**BY_PYARROW, **how}) as writer:
        writer.write_table(table, **groups)
        writer.add_key_value_metadata({"jobeff": said})
    whole = buffer.getvalue().to_pybytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    path = tmp_path / "shard"
    path.write_bytes(whole[:footer] + zlib.crc32(whole).to_bytes(4, "little") + whole[footer:])
    found = decoded(shards.SampleReader(), path)
    if found is not None:
        assert_same(found, table)
    if ours is not None:
        assert (found is not None) == ours
    assert_same(shards.SampleReader().read(path), table)


@pytest.mark.parametrize(
    ("name", "other"), [("rejected", "time"), ("limit", "max_used"), ("swap", "max_used"), ("max_used", "job_id")]
)
def test_columns_that_do_not_fit_each_other_are_left_to_pyarrow(tmp_path, monkeypatch, name, other):
    """As where another writer had put lists in place of numbers, or of another length."""
    table = large(5, 40, 20)
    path = written(tmp_path, table)
    names = [known for known, _ in shards._DECODED]
    places = shards._PLACES.copy()
    places[names.index(name)] = places[names.index(other)]
    monkeypatch.setattr(shards, "_PLACES", places)
    reader = shards.SampleReader()
    assert decoded(reader, path) is None
    assert_same(reader.read(path), table)


def test_another_table_is_no_shard(tmp_path):
    path = tmp_path / "other"
    pq.write_table(pa.table({"a": [1]}), path, compression="none")
    with pytest.raises(shards.DamagedShardError):
        shards.SampleReader().read(path)
    assert decoded(shards.SampleReader(), path) is None


@pytest.mark.parametrize(
    "text",
    [b"", b"PAR1", b"PAR1" * 4, b"\xff" * 100, bytes(92) + b"\x5c\0\0\0PAR1", bytes(92) + b"\x59\0\0\0PAR1"],
    ids=["empty", "four bytes", "letters", "ones", "no room at all", "no room for the checksum"],
)
def test_a_footer_that_would_begin_before_the_file_is_refused_before_a_kernel_reads_there(tmp_path, text):
    path = tmp_path / "shard"
    path.write_bytes(text)
    for read in (shards.read, shards.SampleReader().read):
        with pytest.raises(shards.DamagedShardError, match="its footer would begin before it"):
            read(path)
    with pytest.raises(ValueError, match="its footer would begin before it"):
        decoded(shards.SampleReader(), path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path, reader = written(tmp_path, large(2, 5, 5)), shards.SampleReader()
    whole = path.read_bytes()
    for at in range(0, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(shards.DamagedShardError):
            reader.read(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return written(tmp_path_factory.mktemp("shard"), large(9, 12, 9, cores=2)).read_bytes()


def decode_damaged(data):
    read = np.frombuffer(bytes(data), dtype=np.uint8)
    if len(data) - 8 - int.from_bytes(data[-8:-4], "little") < 4:
        with pytest.raises(ValueError, match="before it"):
            shards.SampleReader()._decoded(read)
        return
    found = shards.SampleReader()._decoded(read)
    if found is not None:
        assert len(found.row_begin) == len(found.job_id) + 1
        assert found.row_begin[-1] == len(found.time) == len(found.used)


damage = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 2**20), st.integers(-900, -1)),
        st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 127, 128, 255])),
        st.sampled_from([1, 1, 1, 2, 4, 10]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=600)
@given(damage, st.integers(0, 400))
def test_damage_does_no_harm(whole, changes, cut):
    """Were the checksum right by chance: no crash, no endless loop, nothing from beyond the file."""
    data = bytearray(whole)
    for at, value, times in changes:
        begin = at % len(data)
        data[begin : begin + times] = bytes([value] * times)[: len(data) - begin]
    decode_damaged(data[: len(data) - cut if cut > 300 else len(data)])


def test_damage_everywhere(whole):
    """Each byte, of page headers and the footer and of all else."""
    data = bytearray(whole)
    for at in range(0, len(data), 1 if hasattr(shard_kernels.decode, "py_func") else 41):
        for value in (0xFF, 0x80, 0, data[at] ^ (1 << at % 8)):
            before, data[at] = data[at], value
            decode_damaged(data)
            data[at] = before


def test_only_a_regular_file_is_read(tmp_path):
    path = written(tmp_path, large(1, 3, 5))
    link, pipe, reader = tmp_path / "link", tmp_path / "pipe", shards.SampleReader()
    link.symlink_to(path)
    os.mkfifo(pipe)
    for other in (link, pipe, tmp_path, tmp_path / "none"):
        with pytest.raises(shards.DamagedShardError, match=str(other)):
            reader.read(other)
    assert_same(reader.read(path), shards.read(path)[0])


def test_a_file_that_becomes_shorter_is_not_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    def room(size):
        os.truncate(path, size - 1)
        return memoryview(bytearray(size + 5))

    with pytest.raises(OSError, match="became shorter"):
        read_regular_into(path, room)
    assert bytes(read_regular_into(path, lambda size: memoryview(bytearray(size)))) == b"012345678"
