"""CRC-32 by a kernel is zlib's, of any place in any text."""

import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobeff.store import crc_kernels, framing

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
