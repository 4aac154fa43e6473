"""CRC-32 by a kernel is zlib's, of any place in any text."""

import random
import zlib

import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobeff.store import crc_kernels, framing
from jobeff.store.crc_table import crc32_table

FOLDED = crc_kernels.folded.__wrapped__  # instructions take its place once a kernel is compiled
needs_multiplying = pytest.mark.skipif(not crc_kernels.can_multiply(), reason="the processor cannot, or no JIT")


@needs_multiplying
@given(st.binary(max_size=400), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), max_size=20))
@example(bytes(64), [(0, 64)])
@example(b"\xff" * 200, [(0, 63), (1, 65), (3, 131), (0, 200), (200, 200)])
def test_checksums_of_places_are_those_of_zlib(data, places):
    spans = [sorted((min(a, len(data)), min(b, len(data)))) for a, b in places]
    begin, end = np.array(spans, dtype=np.int64).reshape(-1, 2).T
    found = crc_kernels.of_places(np.frombuffer(data, dtype=np.uint8), begin, end)
    assert found.tolist() == [zlib.crc32(data[a:b]) for a, b in spans]


@needs_multiplying
@pytest.mark.parametrize("length", [*range(300), 4096, 100_003])
def test_checksums_of_any_length_are_those_of_zlib(length):
    data = np.random.default_rng(length).integers(0, 256, length + 7, dtype=np.uint8)
    begin = np.arange(7)
    found = crc_kernels.of_places(data, begin, begin + length)
    assert found.tolist() == [zlib.crc32(data[i : i + length].tobytes()) for i in range(7)]


@needs_multiplying
def test_a_place_outside_is_refused():
    with pytest.raises(ValueError, match="within"):
        crc_kernels.of_places(np.zeros(100, dtype=np.uint8), np.array([90]), np.array([101]))


@pytest.mark.parametrize("can", [False, crc_kernels.can_multiply()])
def test_frames_have_the_same_checksums_either_way(can, monkeypatch):
    monkeypatch.setattr(crc_kernels, "can_multiply", lambda: can)
    text = np.random.default_rng(1).integers(0, 256, 9000, dtype=np.uint8).tobytes()
    begin, length = np.arange(0, 6000, 100), np.arange(60) * 50
    expected = [zlib.crc32(text[b : b + n]) for b, n in zip(begin.tolist(), length.tolist(), strict=True)]
    assert framing.checksums(text, begin, length).tolist() == expected


@pytest.mark.parametrize("can", [False, crc_kernels.can_multiply()])
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_one_behind_another_is_zlibs(can, before, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crc_kernels, "can_multiply", lambda: can)
        assert crc_kernels.crc32(memoryview(data), zlib.crc32(before)) == zlib.crc32(before + data)


def behind_nothing(words):
    """Checksum of sixteen bytes, from a register of 0."""
    text = b"".join(int(word).to_bytes(8, "little") for word in words)
    return zlib.crc32(text, 0xFFFFFFFF) ^ 0xFFFFFFFF


@needs_multiplying
@pytest.mark.parametrize("before", [0, 0xFFFFFFFF, 0x12345678])
@pytest.mark.parametrize(
    ("has", "shape"),
    [
        ((), crc_kernels.NARROW),
        (("vpclmulqdq",), crc_kernels.NARROW),
        (("vpclmulqdq", "avx2"), crc_kernels.MIDDLE),
        (("vpclmulqdq", "avx2", "avx512f"), crc_kernels.WIDE),
    ],
)
def test_folded_blocks_have_the_same_checksum(before, has, shape, monkeypatch):
    """Compiled here and now, not taken from where kernels are kept."""
    features = crc_kernels._features()
    if not all(features[name] for name in has):
        pytest.skip(f"the processor has not all of {has}")
    monkeypatch.setattr(crc_kernels, "_features", lambda: {"pclmul": True, **dict.fromkeys(has, True)})
    assert crc_kernels._blocks_and_lanes() == shape
    instruction = crc_kernels._write_folded()

    @numba.njit
    def folded(data, begin, blocks, crc):
        return instruction(data, begin, blocks, crc)

    data = np.random.default_rng(before).integers(0, 256, 600, dtype=np.uint8)
    for begin, blocks in [(i % 8, i) for i in range(1, 36)]:
        text = data[begin : begin + 16 * blocks].tobytes()
        expected = zlib.crc32(text, before ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
        for fold in (folded, FOLDED):
            assert behind_nothing(fold(data, begin, blocks, np.uint64(before))) == expected


def test_factors_are_those_that_intel_found():
    assert crc_kernels.factors(64) == (0x154442BD4, 0x1C6E41596)
    assert crc_kernels.factors(16) == (0x1751997D0, 0x0CCAA009E)


@pytest.fixture(params=[False, True])
def as_plain_python(request, monkeypatch):
    """The kernels line by line; folding, which only the processor can do, by division, or not at all."""
    monkeypatch.setattr(crc_kernels, "folded", FOLDED)
    for name in ("eight_more", "by_table", "crc32_of"):
        monkeypatch.setattr(crc_kernels, name, plain(getattr(crc_kernels, name)))
    monkeypatch.setattr(crc_kernels, "multiplies", lambda: request.param)


@pytest.mark.usefixtures("as_plain_python")
@pytest.mark.parametrize("length", [*range(20), *range(60, 84), 96, 130, 200])
def test_one_place_as_plain_python(length):
    data = np.random.default_rng(length).integers(0, 256, length + 7, dtype=np.uint8)
    begin, end = np.array([7, 0]), np.array([7 + length, length])
    for before in (0, 1, 0xFFFFFFFF):
        found = crc_kernels.crc32_of(data, begin[0], end[0], np.int64(before), crc32_table())
        assert found == zlib.crc32(data[7:].tobytes(), before)
    out = np.zeros(2, dtype=np.int64)
    plain(crc_kernels.checksums)(data, begin, end, np.int64(0), crc32_table(), out)
    assert out.tolist() == [zlib.crc32(data[b:e].tobytes()) for b, e in zip(begin, end, strict=True)]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_eight_bytes_more(word, crc):
    found = plain(crc_kernels.eight_more)(np.uint64(crc), np.uint64(word), crc32_table())
    assert int(found) == zlib.crc32(word.to_bytes(8, "little"), crc ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def plain(kernel):
    """The Python function of a kernel."""
    return getattr(kernel, "__wrapped__", kernel)


def whole_blocks():
    """Texts padded to whole blocks as `of_blocks` takes them, where each begins and ends, and zlib's checksums."""
    data, begin, end, expected = bytearray(), [], [], []
    for size in (4, 5, 15, 16, 17, 63, 64, 65, 79, 80, 81, 127, 128, 129, 1000):
        text = random.Random(size).randbytes(size)
        padded = max(64, size + -size % 16)
        begin.append(len(data))
        data += bytes(padded - size) + bytes(byte ^ 255 for byte in text[:4]) + text[4:]
        end.append(len(data))
        expected.append(zlib.crc32(text))
    return np.frombuffer(data, dtype=np.uint8), np.array(begin), np.array(end), expected


def test_of_whole_blocks():
    """Zeros before a text change nothing where the first value has been added to its first bytes."""
    *places, expected = whole_blocks()
    assert crc_kernels.of_blocks(*places).tolist() == expected


@pytest.mark.usefixtures("as_plain_python")
def test_of_whole_blocks_as_plain_python():
    *places, expected = whole_blocks()
    out = np.zeros(len(expected), dtype=np.int64)
    plain(crc_kernels.checksums)(*places, np.int64(0xFFFFFFFF), crc32_table(), out)
    assert out.tolist() == expected
