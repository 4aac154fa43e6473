"""Each kernel that jumps over frames of the archive, by itself and as plain Python."""

import zlib

import numba
import numpy as np
import pytest

from jobeff.store import frame_kernels as kernels
from jobeff.store.frame_kernels import BEGIN, CRC32, EXTENDED, JOB_ID, LENGTH, NODE

pytestmark = [
    pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="needs NUMBA_DISABLE_JIT=1; scripts/test runs it so"),
    pytest.mark.filterwarnings("ignore:overflow encountered"),  # numbers that come round are meant to
]
PREFIX = b"==> c1/"


def array(data):
    return np.frombuffer(bytes(data), dtype=np.uint8)


def test_words_that_are_there():
    text = array(b"xabcx")
    assert kernels.is_there(text, 1, 4, array(b"abc"))
    assert not kernels.is_there(text, 1, 3, array(b"abc"))
    assert not kernels.is_there(text, 0, 5, array(b"abc"))
    for wrong in (b"Abc", b"aBc", b"abC"):
        assert not kernels.is_there(text, 1, 5, array(wrong))
    assert kernels.is_there(text, 5, 5, array(b""))


def word(data):
    return np.uint64(int.from_bytes(data, "little"))


def test_digits():
    assert [kernels.digits_in(word(b"12345678"[:n] + b":/x\xff0\0 9"[: 8 - n])) for n in range(9)] == [*range(9)]
    for byte in range(256):
        is_digit = byte in b"0123456789"
        for at in range(8):
            assert kernels.digits_in(word(b"0" * at + bytes([byte]) + b"0" * (7 - at))) == (8 if is_digit else at)
    for digits in range(1, 9):
        assert kernels.value_of(word(b"98765432"), digits) == int("98765432"[:digits])
        assert kernels.value_of(word(b"00000009"), digits) == (9 if digits == 8 else 0)


@pytest.mark.parametrize("behind", [b"", b"/", b":", b"\xff" * 9])
def test_numbers(behind):
    for digits in range(20):
        data = b"123456789012345678901"[:digits] + behind
        for most in (8, 15, 18):
            read = min(digits, most)
            for pad in (0, 3, 20):
                text = array(b"x" * pad + data + b"-" * pad)
                value, end = kernels.number(text, pad, pad + len(data), most)
                assert end == pad + read
                assert read == 0 or value == int(data[:read])
    assert kernels.number(array(b"9" * 18), 0, 18, 18) == (10**18 - 1, 18)
    assert kernels.number(array(b"12345678"), 0, 5, 18) == (12345, 5)


def test_hexadecimal_digits():
    for value in (0, 9, 10, 15, 16, 255, 0x0A1B2C3D, 0xFFFFFFFF, 0x90909090, 0x12345678, 0x9ABCDEF0):
        assert kernels.hexadecimal(word(f"{value:08x}".encode())) == value
    for byte in range(256):
        for at in range(8):
            found = kernels.hexadecimal(word(b"0" * at + bytes([byte]) + b"0" * (7 - at)))
            value = b"0123456789abcdef".find(byte)
            assert found == (value * 16 ** (7 - at) if value >= 0 else -1), (byte, at)


def test_names():
    allowed = {byte for byte in range(128) if chr(byte).isalnum()}
    for byte in range(256):
        text = array(b"x" + bytes([byte]) + b"/")
        first, later = byte in allowed, byte in allowed or byte in b"-._"
        assert kernels.name_end(text, 1, 3) == (2 if first else 1), byte
        assert kernels.name_end(text, 0, 3) == (2 if later else 1), byte
    long = array(b"n" * 70)
    assert kernels.name_end(long, 2, 70) == 2 + kernels.LONGEST_NAME
    assert kernels.name_end(long, 2, 20) == 20


def test_where_a_frame_ends():
    text = array(b"ab\n==> x")
    assert kernels.frame_end(text, 3, 8) == 3
    assert kernels.frame_end(text, 2, 8) == 3, "a newline that was not in the raw file"
    assert kernels.frame_end(text, 1, 8) == -1
    assert kernels.frame_end(text, 8, 8) == 8
    assert kernels.frame_end(text, 9, 8) == -1
    assert kernels.frame_end(text, 2, 3) == 3
    assert kernels.frame_end(text, 2, 2) == 2
    assert kernels.frame_end(array(b"a\n\n==> "), 1, 7) == -1
    assert kernels.frame_end(array(b"a\nb"), 1, 3) == -1


def frame(node="n1", job_id=b"42", text=b"row\n", form=b"", crc=None, size=None):
    crc = b"%08x" % zlib.crc32(text) if crc is None else crc
    size = b"%d" % len(text) if size is None else size
    return PREFIX + node.encode() + b"/" + job_id + b" bytes=" + size + b" crc32=" + crc + form + b" <==\n" + text


def whole(data, at=0, size=None):
    """What is read of a frame, and where the next one begins; None where it is not as expected."""
    name, found = np.full(2, 77, dtype=np.int64), np.full(kernels.COLUMNS, 77, dtype=np.int64)
    size = len(data) if size is None else size
    after = kernels.read_header(array(data), at, size, array(PREFIX), name, found)
    after = kernels.frame_end(array(data), after, size) if after >= 0 else -1
    if after < 0:
        return None
    node = bytes(data[name[0] : name[1]]).decode()
    text = bytes(data[found[BEGIN] : found[BEGIN] + found[LENGTH]])
    return node, int(found[JOB_ID]), text, int(found[CRC32]), bool(found[EXTENDED]), after


@pytest.mark.parametrize("form", [b"", b" form=extended"])
@pytest.mark.parametrize("text", [b"", b"row\n", b"no newline", b"\n\n"])
@pytest.mark.parametrize("job_id", [b"1", b"42", b"9" * 18])
def test_frames(form, text, job_id):
    one = frame("node-1.x", job_id, text, form)
    behind = b"" if text.endswith(b"\n") or not text else b"\n"
    expected = ("node-1.x", int(job_id), text, zlib.crc32(text), bool(form))
    assert whole(one) == (*expected, len(one))
    assert whole(b"zz" + one + behind + frame(), 2) == (*expected, 2 + len(one + behind))
    for cut in range(1, len(one)):
        assert whole(one, size=cut) is None
    assert whole(one + b"x") is None


def test_frames_that_are_not_exactly_as_expected():
    for wrong in (
        frame(""), frame("n 1"), frame("-n"), frame("n" * 64), frame(job_id=b""), frame(job_id=b"042"),
        frame(job_id=b"0"), frame(job_id=b"x"), frame(job_id=b"9" * 19), frame(size=b""), frame(size=b"x"),
        frame(size=b"1" * 16), frame(crc=b"0000000"), frame(crc=b"0000000G"), frame(crc=b"000000000"),
        frame(form=b" form=plain"), frame(form=b" "), frame().replace(b"c1/", b"c2/"), frame().replace(b"/42", b"_42"),
    ):  # fmt: skip
        assert whole(wrong) is None, wrong
    assert whole(frame("n" * 63)) is not None


def index_of(names, room):
    """Indexes of names in turn, and their table."""
    text, at, found = "/".join(names).encode(), 0, []
    nodes, table, count = np.zeros((len(names), 2), dtype=np.int64), np.full(room, -1, dtype=np.int64), 0
    for name in names:
        node = kernels.node_index(array(text), at, at + len(name), nodes, count, table)
        count = max(count, node + 1)
        found.append(int(node))
        at += len(name) + 1
    return found


@pytest.mark.parametrize("room", [9, 64])
def test_names_that_were_met(room):
    """Where there is little room they meet at one place; one that another begins with is not that."""
    names = ["n1", "n11", "n2", "n1", "n", "n11", "n3", "n2", "m7", "n1", "a", "bb", "n3"]
    order = list(dict.fromkeys(names))
    assert index_of(names, room) == [order.index(name) for name in names]


@pytest.mark.parametrize("pair", [("ab", "bC"), ("Aa", "BB")])
def test_names_that_meet_at_one_place(pair):
    """31 times a byte and the next come to one number; the second stands one further, round the end where need be."""
    one, other = (sum(ord(letter) * 31 ** (1 - i) for i, letter in enumerate(name)) for name in pair)
    assert one == other
    for room in (one - 1, one + 1):
        assert index_of([*pair, *pair[::-1], *pair], room) == [0, 1, 1, 0, 0, 1]


def jump(data, at=0, room=9, nodes=9, size=None, others=(), stop=None):
    places, table = np.zeros((nodes, 2), dtype=np.int64), np.full(2 * nodes + 1, -1, dtype=np.int64)
    frames = np.full((room, kernels.COLUMNS), 77, dtype=np.int64)
    begins, size = np.array([at, *others]), len(data) if size is None else size
    state = np.full((len(begins) + 1, kernels.STATES), 77, dtype=np.int64)
    stop = size if stop is None else stop
    end, count, found = kernels.jump(
        array(data), begins, stop, size, array(PREFIX), places, 0, table, frames, state
    )  # fmt: skip
    return end, count, frames[:found, [NODE, JOB_ID]].tolist()


def test_from_frame_to_frame():
    parts = [frame("n1", b"1"), frame("n2", b"2", b"x") + b"\n", frame("n1", b"3"), frame("n3", b"4")]
    ends = np.cumsum([len(part) for part in parts]).tolist()
    data = b"".join(parts)
    assert jump(data) == (ends[3], 3, [[0, 1], [1, 2], [0, 3], [2, 4]])
    assert jump(data, ends[0]) == (ends[3], 3, [[0, 2], [1, 3], [2, 4]])
    assert jump(data, room=2) == (ends[1], 2, [[0, 1], [1, 2]])
    assert jump(data, nodes=2) == (ends[1], 2, [[0, 1], [1, 2]]), "the next one may be of a third node"
    assert jump(data, size=ends[2]) == (ends[2], 2, [[0, 1], [1, 2], [0, 3]])
    assert jump(data + b"==> torn") == (ends[3], 3, [[0, 1], [1, 2], [0, 3], [2, 4]])
    assert jump(parts[0] + b"junk" + parts[1]) == (0, 1, []), "its node is known before its end has been looked at"
    assert jump(data, ends[3]) == (ends[3], 0, [])
    assert jump(data, stop=ends[1]) == (ends[1], 2, [[0, 1], [1, 2]])
    assert jump(data, stop=ends[1] + 1) == (ends[2], 2, [[0, 1], [1, 2], [0, 3]])


def test_chains_side_by_side():
    within = frame("n9", b"9", b"")
    parts = [frame("n1", b"1"), frame("n2", b"2", b"x\n" + within + within), frame("n3", b"3"), frame("n4", b"4")]
    ends = np.cumsum([len(part) for part in parts]).tolist()
    data = b"".join(parts)
    inner = ends[0] + parts[1].index(within)
    every = [1, 2, 3, 4]

    def found(**how):
        end, _, frames = jump(data, room=40, **how)
        return end, [job for _, job in frames]

    assert found() == (ends[3], every)
    for others in ([ends[0]], [ends[1]], [ends[2]], [ends[0], ends[2]], ends[:3]):
        assert found(others=others) == (ends[3], every)
    assert found(others=[inner]) == (ends[1], every[:2]), "what stands within a frame does not count"
    assert found(others=[ends[0], inner]) == (ends[1], every[:2])
    assert found(others=[inner, ends[1]]) == (ends[1], every[:2]), "nor what is behind it"
    assert found(others=[ends[1] - 1]) == (ends[1], every[:2])
    assert found(others=[ends[1], ends[2]], stop=ends[2] + 1) == (ends[3], every)
    assert found(others=[ends[2]], nodes=3) == (ends[1], every[:2]), "the next one may be of a fourth node"
    assert jump(data, room=2, others=[ends[1]])[::2] == (ends[0], [[0, 1]]), "each has its part of the room"
    harmed = data.replace(parts[2], parts[2].replace(b"crc32", b"CRC32"))
    assert jump(harmed, room=40, others=[ends[0], ends[2]])[::2] == (ends[1], [[0, 1], [1, 2]])
    assert jump(harmed, room=40, others=[ends[1]])[::2] == (ends[1], [[0, 1], [1, 2]])
