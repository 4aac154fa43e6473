"""Shards as our own kernels write them: Parquet that others read as we do."""

import io
import itertools
import json

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import raw_texts, sampled_epochs

from jobeff.engine import samples
from jobeff.errors import JobeffError
from jobeff.store import past_cache, shards
from jobeff.store.shard_encoder import Encoder

LISTS = [field.name for field in shards.schema() if pa.types.is_list(field.type)]
BITS = {pa.int64(): (64, True), pa.int32(): (32, True), pa.uint32(): (32, False), pa.uint16(): (16, False)}
SAID = {"jobeff": json.dumps({"cluster": "c", "version": shards.VERSION})}

ROOM = samples.Room()


@pytest.fixture(autouse=True)
def _kernels_may_overflow():
    """Without compilation, numpy would warn."""
    with np.errstate(over="ignore"):
        yield


def bounds(kind):
    bits, sign = BITS[kind]
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if sign else (0, 2**bits - 1)


@st.composite
def values(draw, kind, count):
    """So many values: extreme ones, few different ones, long runs, or each another."""
    least, most = bounds(kind)
    how = draw(st.sampled_from(["any", "few", "runs", "steps", "extreme", "one"]))
    if how == "any":
        seed = draw(st.integers(0, 2**32 - 1))
        return np.random.default_rng(seed).integers(least, most, count, endpoint=True, dtype=kind.to_pandas_dtype())
    if how == "steps":
        return (np.arange(count) * draw(st.integers(0, 300)) % min(most + 1, 2**62)).astype(kind.to_pandas_dtype())
    pool = draw(st.lists(st.integers(least, most), min_size=1, max_size=5))
    if how == "extreme":
        pool = [least, most, 0, most - 1]
    if how == "one":
        pool = pool[:1]
    found = []
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    while len(found) < count:
        run = int(rng.integers(1, 200)) if how == "runs" else 1
        found += [pool[int(rng.integers(len(pool)))]] * run
    return np.array(found[:count], dtype=object).astype(kind.to_pandas_dtype())


@st.composite
def tables(draw, most_rows=40):
    """A table of the schema; its columns need not go together."""
    rows = draw(st.integers(0, 2) | st.integers(0, most_rows))
    columns = []
    same = draw(st.lists(st.integers(0, 40), min_size=rows, max_size=rows))
    for field in shards.schema():
        if not pa.types.is_list(field.type):
            array = pa.array(draw(values(field.type, rows)), type=field.type)
            if field.nullable and draw(st.booleans()):
                mask = np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), dtype=bool)
                array = pa.array(array.to_numpy(zero_copy_only=False), mask=mask, type=field.type)
            columns.append(array)
            continue
        how = draw(st.sampled_from(["same", "none", "any", "long"]))
        sizes = same
        if how == "none":
            sizes = [0] * rows
        elif how == "any":
            sizes = draw(st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 7, 8, 9, 40]), min_size=rows, max_size=rows))
        elif how == "long" and rows:
            sizes = [*same[:-1], draw(st.integers(0, 700))]
        begins = pa.array(np.cumsum([0, *sizes]), type=pa.int32())
        columns.append(
            pa.ListArray.from_arrays(
                begins,
                pa.array(draw(values(field.type.value_type, sum(sizes))), type=field.type.value_type),
                type=field.type,
            )
        )
    return pa.Table.from_arrays(columns, schema=shards.schema())


def written(table, **options):
    """The bytes of a table, with nothing in the four that belong to the caller."""
    whole, footer = Encoder(shards.schema(), "test").encode(table, SAID, **options)
    assert len(whole) % past_cache.BLOCK == 0
    assert len(whole) - 8 - int.from_bytes(whole[-8:-4], "little") == footer
    assert whole[footer - 4 : footer] == bytes(4)
    return bytes(whole)


def assert_read_back(whole, table):
    with pq.ParquetFile(pa.BufferReader(whole), page_checksum_verification=True) as file:
        assert file.schema_arrow.equals(shards.schema())
        found = file.read()
        found.validate(full=True)
        assert found.equals(table)
        assert file.metadata.metadata[b"jobeff"] == SAID["jobeff"].encode()


def assert_decoded(whole, table):
    data = np.frombuffer(whole, dtype=np.uint8)
    found, expected = shards.SampleReader()._decoded(data), shards.samples_of(table)
    if found is None:  # then pyarrow reads it, as always where the kernels that decode are not compiled
        return bool(numba.config.DISABLE_JIT)
    for name, array in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), array, err_msg=name)
    return True


@given(tables(), st.sampled_from([1, 7, 50, 1 << 20]))
def test_pyarrow_reads_what_was_written(table, page_levels):
    whole = written(table, page_levels=page_levels)
    assert_read_back(whole, table)
    assert whole == written(table, page_levels=page_levels)


@settings(max_examples=60)
@given(tables())
def test_tables_in_parts_are_written_as_whole_ones(table):
    middle = table.num_rows // 2
    whole = written(table)
    assert written(pa.concat_tables([table.slice(0, middle), table.slice(middle)])) == whole
    more = pa.concat_tables([table, table, table]).combine_chunks()
    assert written(more.slice(table.num_rows, table.num_rows)) == whole


def real(rows, rng, cores=4):
    """A table as a node writes it: times of each row at a step, few different values."""
    sizes = rng.integers(0, 60, rows)
    n = int(sizes.sum())
    has_max = rng.random(rows) < 0.2
    first = 1_600_000_000 + np.cumsum(rng.integers(0, 9000, rows))

    def lists(name, counts, found):
        kind = shards.schema().field(name).type
        begins = pa.array(np.cumsum([0, *counts]), type=pa.int32())
        return pa.ListArray.from_arrays(begins, pa.array(found, type=kind.value_type), type=kind)

    times = np.repeat(first, sizes) + np.concatenate([np.arange(size) * 300 for size in [*sizes, 0]])
    columns = {
        "job_id": np.arange(rows) * 3 + 14_000_000,
        "first": pa.array(first, mask=sizes == 0),
        "last": pa.array(first + sizes * 300, mask=sizes == 0),
        "cores": np.full(rows, cores),
        "rejected": np.zeros(rows),
        "offset": np.arange(rows) * 4000,
        "bytes": rng.integers(100, 4000, rows),
        "crc32": rng.integers(0, 2**32, rows),
        "time": lists("time", sizes, times),
        "limit": lists("limit", sizes, np.repeat(rng.choice([800, 12800], rows), sizes)),
        "used": lists("used", sizes, rng.integers(0, 300, n)),
        "max_used": lists("max_used", sizes * has_max, rng.integers(-1, 300, int((sizes * has_max).sum()))),
        "swap": lists("swap", sizes, np.zeros(n)),
        "core": lists("core", sizes * cores, rng.integers(0, 1001, n * cores) * 10),
    }
    return shards.table_of(columns)


@pytest.fixture(params=[1, 2, 30, 200])
def table(request):
    return real(request.param, np.random.default_rng(request.param))


def test_our_reader_decodes_it(table):
    assert assert_decoded(written(table), table)
    assert assert_decoded(written(table, page_levels=100), table)


def test_it_has_as_many_bytes_as_pyarrow_needs_at_most(table):
    buffer = io.BytesIO()
    deltas = dict.fromkeys(("job_id", "first", "last", "offset", "time.list.element"), "DELTA_BINARY_PACKED")
    dictionary = ["cores", "rejected", *(f"{name}.list.element" for name in LISTS if name != "time")]
    pq.write_table(
        table,
        buffer,
        compression="none",
        use_dictionary=dictionary,
        column_encoding=deltas,
        write_page_checksum=True,
        write_statistics=["job_id", "first", "last"],
        store_schema=False,
    )
    blocks = -(-len(buffer.getvalue()) // past_cache.BLOCK)  # as many a disk needs for it
    assert len(written(table)) <= blocks * past_cache.BLOCK
    ours = pq.ParquetFile(io.BytesIO(written(table)))
    theirs = pq.ParquetFile(io.BytesIO(buffer.getvalue()))
    assert ours.schema.equals(theirs.schema)
    for column in range(3):
        mine, other = (file.metadata.row_group(0).column(column).statistics for file in (ours, theirs))
        assert (mine.has_min_max, mine.null_count) == (other.has_min_max, other.null_count)
        assert not mine.has_min_max or (mine.min, mine.max) == (other.min, other.max)


@settings(max_examples=60)
@given(tables())
def test_our_reader_reads_what_goes_together(table):
    begins = table.column("time").combine_chunks().offsets
    n = begins[-1].as_py() if table.num_rows else 0
    for name in ("limit", "used", "swap", "core"):
        field = shards.schema().field(name)
        found = table.column(name).combine_chunks().values.to_numpy()
        found = np.resize(found, n) if len(found) else np.zeros(n)
        array = pa.ListArray.from_arrays(begins, pa.array(found, type=field.type.value_type), type=field.type)
        place = shards.schema().get_field_index(name)
        table = table.set_column(place, field, array if table.num_rows else table.column(name))
    table = table.set_column(3, shards.schema().field("cores"), pa.array([1] * table.num_rows, type=pa.int32()))
    assert_decoded(written(table), table)


def random_tables():
    """Tables for readers that are slow to start, with pages of several sizes."""
    for rows, page_levels in itertools.product((0, 1, 3, 100), (5, 1 << 20)):
        rng = np.random.default_rng(rows)
        table = real(rows, rng) if rows else shards.schema().empty_table()
        yield table, page_levels
    extremes = {}
    for field in shards.schema():
        lists = pa.types.is_list(field.type)
        least, most = bounds(field.type.value_type if lists else field.type)
        flat = [least, most, least, 0, most, 1] * 30
        extremes[field.name] = [flat, [], flat[:1], *([[]] * 30), flat[1:]] if lists else flat[:34]
    yield shards.table_of(extremes), 1 << 20


@pytest.mark.parametrize("reader", ["polars", "duckdb"])
def test_others_read_what_was_written(reader, tmp_path):
    module = pytest.importorskip(reader)
    for number, (table, page_levels) in enumerate(random_tables()):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(written(table, page_levels=page_levels))
        if reader == "polars":
            found = module.read_parquet(path, use_pyarrow=False).to_arrow()
        else:
            found = module.sql(f"select * from '{path}'").to_arrow_table()
        assert found.to_pydict() == table.to_pydict()
        assert found.schema.names == table.schema.names


@pytest.mark.parametrize("distinct", [65_536, 300_000])
def test_many_different_values_have_no_dictionary(distinct):
    """That of core has at most 65,536 entries, others none with more than 262,144."""
    numbers = np.arange(distinct)
    row = {name: [[]] if name in LISTS else [0] for name in shards.schema().names}
    row |= {"limit": [numbers], "core": [numbers % 65_536], "used": [np.repeat(numbers[:40_000], 20)]}
    table = shards.table_of(row)
    whole = written(table)
    assert_read_back(whole, table)
    columns = pq.read_metadata(io.BytesIO(whole)).row_group(0)
    encodings = {columns.column(i).path_in_schema.split(".")[0]: columns.column(i).encodings for i in range(14)}
    assert "RLE_DICTIONARY" not in encodings["limit"]
    assert "RLE_DICTIONARY" in encodings["used"]


def test_nulls_and_other_columns_are_refused():
    table = real(3, np.random.default_rng(0))
    encoder = Encoder(shards.schema(), "test")
    with pytest.raises(ValueError, match="schema"):
        encoder.encode(table.drop_columns(["core"]), {})
    for name, bad in (("offset", [1, None, 2]), ("used", [[1], None, []]), ("core", [[1, None], [], []])):
        place = shards.schema().get_field_index(name)
        field = shards.schema().field(name)
        with pytest.raises(ValueError, match=f"{name} has nulls"):
            encoder.encode(table.set_column(place, field, pa.array(bad, type=field.type)), {})


def test_each_changed_byte_of_a_shard_is_noticed(tmp_path):
    path = tmp_path / "shard"
    table = real(2, np.random.default_rng(5), 1)
    shards.write(path, table, {"cluster": "c"})
    whole = path.read_bytes()
    assert shards.read(path)[0].equals(table)
    assert assert_decoded(whole, table)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(JobeffError):
            shards.read(path)


@given(st.lists(raw_texts(sampled_epochs(1_600_000_000, 1_600_003_000)), max_size=4))
def test_columns_are_encoded_as_their_table(texts):
    ends = np.cumsum([len(text) for text, _ in texts], dtype=np.int64)
    begins = ends - np.array([len(text) for text, _ in texts], dtype=np.int64)
    whole = np.frombuffer(b"".join(text for text, _ in texts) or b"\0", dtype=np.uint8)
    arrays, _ = samples.parse_arrays(whole, begins, ends, np.array([e for _, e in texts], dtype=np.bool_), ROOM)
    raw = {"job_id": np.arange(len(texts)), "offset": begins, "bytes": ends - begins}
    for array in raw.values():
        array.setflags(write=False)
    columns = shards.Columns(**arrays, **raw)
    encoder = Encoder(shards.schema(), "test")
    expected = encoder.encode(columns.table(), SAID)
    assert encoder.encode(columns, SAID) == expected  # each is good until two more have been encoded
    assert bytes(expected[0]) == written(columns.table())
    for name, values in vars(shards.samples_of(columns.table())).items():
        assert np.array_equal(getattr(columns.samples(), name), values)
