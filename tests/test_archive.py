"""The archive: its format, its reader on whole, hand-made and damaged months."""

import gzip
import random
import re
import subprocess
import tempfile
import zlib
from pathlib import Path
from unittest import mock

import naive
import pytest
import sites
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import EXTENDED, PLAIN, local_time
from test_chain import MONTH_END, assert_same, efficiency

from jobeff.errors import JobeffError, SetAside
from jobeff.steps.collect import collect
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.load import load_slurm
from jobeff.store import archive, frame_kernels, framing, header_sums
from jobeff.store.archive import RawFile

# What comes round in machine integers is warned of where the kernels are not compiled.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")

START = MONTH_END
# Anything, and what a reader of frames may stumble over.
texts = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from(
            [
                b"==> c1/n1/7 bytes=3 crc32=00000000 <==\n",
                b"==> c1/n1/7 <==\n",
                b"==> ",
                b"\n",
                b"\0",
                b"1 2",
                b"LOCALTIME",
            ]
        ),
        max_size=6,
    ).map(b"".join),
)
raw_files = st.builds(
    RawFile,
    st.sampled_from(["n1", "N-2.x", "n" * 63]),
    st.one_of(st.integers(1, 3), st.just(2**63 - 1)),
    texts,
    st.booleans(),
)


def usage(rows, core=50.0, first=START):
    """A raw file of one core."""
    lines = [f"{local_time(t)} {t} 8.0 1.0 0.0 {core}" for t in range(first, first + 300 * rows, 300)]
    return "\n".join([PLAIN, *lines, ""]).encode()


def scanned(text, begin=0):
    """What the reader makes of a month, as (node, job, text, extended), and what it sets aside."""
    aside = SetAside()
    found = framing.scan(text, begin, "c1", "month", aside)
    columns = (found.node, found.job_id, found.begin, found.bytes, found.extended)
    files = [
        (found.nodes[node], job_id, text[begin : begin + size], extended)
        for node, job_id, begin, size, extended in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return files, found, aside


def intact(text):
    """The raw files of a month whose checksum is right, as ingest takes them, and whether nothing else is in it."""
    files, found, aside = scanned(text)
    right = [zlib.crc32(file[2]) == crc for file, crc in zip(files, found.crc32.tolist(), strict=True)]
    return [file for file, good in zip(files, right, strict=True) if good], all(right) and not (
        aside.total or found.torn
    )


def written(folder, *batches):
    """A month as it stands after some nights."""
    path = Path(folder) / "archive" / "c1" / "2021-06.txt"
    for batch in batches:
        archive.append(path, "c1", batch)
    return path.read_bytes()


def test_a_frame_is_one_line_and_the_bytes_verbatim(tmp_path):
    text = written(tmp_path, [RawFile("r31", 42248156, b"a b\n", False), RawFile("r1", 1, b"no newline", False)])
    assert (
        text
        == (
            f"==> c1/r31/42248156 bytes=4 crc32={zlib.crc32(b'a b' + bytes([10])):08x} <==\na b\n"
            f"==> c1/r1/1 bytes=10 crc32={zlib.crc32(b'no newline'):08x} <==\nno newline\n"
        ).encode()
    )


@pytest.mark.parametrize(
    ("text", "extended", "told"),
    [(b"1 2\n", True, True), (b"1 2\n", False, False), (EXTENDED.encode(), True, False), (b"", True, True)],
)
def test_the_form_is_told_where_no_header_tells_it(tmp_path, text, extended, told):
    assert (b" form=extended <==\n" in written(tmp_path, [RawFile("n1", 1, text, extended)])) is told


@settings(max_examples=100)
@given(st.lists(st.lists(raw_files, max_size=4), max_size=3))
@example([[RawFile("n1", 1, b"", False)], [RawFile("n1", 2, b"", True)]])
@example([[RawFile("n1", 1, b"x\n==> c1/n1/2 <==\n", False)]])
def test_what_is_written_is_read(nights):
    with tempfile.TemporaryDirectory() as folder:
        text = written(folder, [], *nights)
    files, found, aside = scanned(text)
    assert [file[:3] for file in files] == [file[:3] for night in nights for file in night]
    for (_, _, content, extended), file in zip(files, [file for night in nights for file in night], strict=True):
        assert extended is (file.extended and content.split()[:1] != [b"LOCALTIME"])
    assert found.crc32.tolist() == [zlib.crc32(file[2]) for file in files]
    assert (found.end, found.torn, aside.total) == (len(text), 0, 0)


def test_reading_goes_on_from_the_end_of_what_was_read(tmp_path):
    first, second = RawFile("n1", 1, b"x", False), RawFile("n2", 2, b"y", False)
    before = written(tmp_path, [first])
    assert scanned(written(tmp_path, [second]), len(before))[0] == [tuple(second)]


def by_hand(folder, contents):
    """What an admin makes with ``tail -v``."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return subprocess.run(["tail", "-v", "-n", "+1", *contents], cwd=folder, check=True, capture_output=True).stdout


def test_a_month_made_by_hand_is_read(tmp_path):
    contents = {"c1/n1/1": b"a\nb\n", "c1/n1/2": b"", "c1/n2/1": b"no newline", "c1/n2/3": b"last\n"}
    files, found, aside = scanned(by_hand(tmp_path, contents))
    assert {f"c1/{node}/{job_id}": text for node, job_id, text, _ in files} == {
        name: content.rstrip(b"\n") for name, content in contents.items()
    }
    assert (set(found.crc32.tolist()), found.torn, aside.total) == ({-1}, 0, 0)


def test_frames_are_appended_to_a_month_made_by_hand(tmp_path):
    month = tmp_path / "archive" / "c1" / "2021-06.txt"
    month.parent.mkdir(parents=True)
    month.write_bytes(by_hand(tmp_path, {"c1/n1/1": b"no newline"}))
    files, _, aside = scanned(written(tmp_path, [RawFile("n1", 2, b"x\n", False)]))
    assert [file[:3] for file in files] == [("n1", 1, b"no newline"), ("n1", 2, b"x\n")]
    assert aside.total == 0


COMPRESS = {".gz": gzip.compress, ".zst": zstandard.compress}


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("hand_made", [False, True])
def test_a_compressed_month_is_read(tmp_path, suffix, hand_made):
    contents = {"c1/n1/1": b"a\n", "c1/n1/2": b"b\n"}
    text = (
        by_hand(tmp_path, contents)
        if hand_made
        else written(tmp_path, [RawFile("n1", 1, b"a\n", False), RawFile("n1", 2, b"b\n", False)])
    )
    path = tmp_path / f"2021-06.txt{suffix}"
    path.write_bytes(COMPRESS[suffix](text))
    with archive.plain(path, tmp_path / "scratch") as plain, archive.mapped(plain) as found:
        assert bytes(found) == text
        assert len(scanned(bytes(found))[0]) == 2
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("harm", ["cut", "bomb", "nonsense"])
def test_a_compressed_month_that_cannot_be_true_is_refused(tmp_path, suffix, harm):
    whole = COMPRESS[suffix](bytes(20_000_000) if harm == "bomb" else b"==> c1/n1/1 <==\n" + bytes(range(256)) * 9)
    path = tmp_path / f"2021-06.txt{suffix}"
    path.write_bytes({"cut": whole[:-20], "bomb": whole, "nonsense": b"x" * 100}[harm])
    with pytest.raises(JobeffError, match=re.escape(str(path))), archive.plain(path, tmp_path / "scratch"):
        pass
    assert list((tmp_path / "scratch").iterdir()) == []


def test_months_are_found_and_nothing_else(tmp_path):
    folder = tmp_path / "archive" / "c1"
    folder.mkdir(parents=True)
    for name in (
        "2021-06.txt",
        "2021-06.txt.zst",
        "2021-05.txt.gz",
        "2021-13.txt",
        "2021-04.txt.torn-5",
        "x",
        ".a.tmp",
    ):
        (folder / name).touch()
    (folder / "2021-03.txt").symlink_to(folder / "2021-06.txt")
    (folder / "2021-02.txt").mkdir()
    found = archive.month_files(tmp_path, "c1")
    assert {month: path.name for month, path in found.items()} == {
        "2021-05": "2021-05.txt.gz",
        "2021-06": "2021-06.txt",
    }


@pytest.mark.parametrize(
    "name", ["c2/n1/7", "c1/../7", "c1/n1/x", "c1/n1/007", "c1/../x/7", "c1/-n/7", "c1/n1/99999999999999999999"]
)
@pytest.mark.parametrize("frame", [b"==> %b bytes=2 crc32=00000000 <==\nx\n", b"==> %b <==\nx\n"])
def test_a_frame_that_does_not_belong_here_is_set_aside_alone(tmp_path, name, frame):
    before, after = RawFile("n1", 1, b"a\n", False), RawFile("n1", 2, b"b\n", False)
    whole = written(tmp_path, [before, after])
    cut = whole.index(b"==> c1/n1/2")
    files, _, aside = scanned(whole[:cut] + frame % name.encode() + whole[cut:])
    assert files == [tuple(before), tuple(after)]
    assert aside.total == 1
    assert f" {cut}" in aside.examples[0][1]


# The kernel that jumps over whole frames


def frame(name, content, said="", form=""):
    return f"==> {name} bytes={said or len(content)} crc32={zlib.crc32(content):08x}{form} <==\n".encode() + content


names = st.sampled_from(
    ["c1/n1/7", "c1/n1/8", "c1/n2/7", "c1/N-2.x_/1", "c1/" + "n" * 63 + "/1", "c1/" + "n" * 64 + "/1", "c1/n1/0",
     "c1/n1/07", "c1/n1/" + "9" * 18, "c1/n1/9223372036854775807", "c1/n1/9223372036854775808", "c2/n1/7", "c1/-n/7",
     "c1/n1/x", "c1//7", "c1/n1/", "c11/n1/1", "c1/n\u00e9/1", "c1/n 1/1"]
)  # fmt: skip
contents = st.sampled_from([b"", b"x", b"1 2\n", b"1 2\n\n", b"==> ", b"\n==> c1/n1/9 <==\n", b"a" * 70 + b"\n"])
pieces = st.one_of(
    st.builds(frame, names, contents),
    st.builds(frame, st.just("c1/n1/7"), contents, st.sampled_from(["0", "3", "004", "9" * 15, "1" * 16, "x"])),
    st.builds(frame, names, contents, form=st.sampled_from([" form=extended", " form=other", "  form=extended"])),
    st.builds(lambda name, content: f"==> {name} <==\n".encode() + content, names, contents),
    st.sampled_from([b"\n", b"\n\n", b"\0\0\0", b"junk\n", b"==> "]),
)


def everything(text, begin, end):
    aside = SetAside()
    found = framing.scan(text, begin, "c1", "month", aside, end)
    columns = (found.node, found.job_id, found.begin, found.bytes, found.crc32, found.extended)
    told = [(column.dtype, column.tolist()) for column in columns]
    for at, header in zip(found.begin.tolist(), found.header.tolist(), strict=True):
        if header >= 0:
            line = bytes(text[at - (header >> 32) : at])
            assert (line[:4], line[-5:], line.count(b"\n")) == (b"==> ", b" <==\n", 1)
            assert zlib.crc32(line) == header & 0xFFFFFFFF
    return found.nodes, told, found.end, found.torn, aside.total, aside.examples


@settings(max_examples=600)
@given(st.lists(st.tuples(pieces, st.sampled_from([b"\n", b"\n", b""])), max_size=12), st.data())
def test_the_kernel_finds_what_is_found_without_it(parts, data):
    text = bytearray(b"".join(piece + line_end for piece, line_end in parts))
    for _ in range(data.draw(st.integers(0, 3)) if text else 0):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(b"\n =/0af9x\0\xff"))
    if data.draw(st.booleans()):
        text = text[: data.draw(st.integers(0, len(text)))]
    end = data.draw(st.one_of(st.none(), st.integers(0, len(text))))
    begin = data.draw(st.one_of(st.just(0), st.integers(0, len(text))))
    text = bytes(text)
    with mock.patch.object(framing._WholeFrames, "skip", lambda _, at, __: at):
        expected = everything(text, begin, end)
    assert everything(text, begin, end) == expected
    with mock.patch.multiple(framing, FRAMES_AT_FIRST=1, FRAMES_AT_ONCE=1, NODES_AT_FIRST=1):
        assert everything(text, begin, end) == expected
    chains = data.draw(st.integers(2, 5))
    with mock.patch.multiple(framing, FRAMES_AT_FIRST=1, FRAMES_AT_ONCE=64, NODES_AT_FIRST=2, CHAINS=chains):
        assert everything(text, begin, end) == expected


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_many_frames_at_once(data, seed):
    """Some of whose raw texts look like frames, so that one may be begun within them; some are damaged."""
    dice = random.Random(seed)
    within = frame("c1/false/9", b"x\n") * 3
    texts = [b"", b"1 2\n" * 20, b"3", within + b"\n", b"\n" + within, b"\n" + within[:-9], within * 4]
    weights = [5, 50, 5, *data.draw(st.tuples(*[st.integers(0, 20)] * 4))]
    parts = [
        frame(f"c1/n{dice.randrange(40)}/{dice.randrange(1, 10**9)}", dice.choices(texts, weights)[0])
        for _ in range(data.draw(st.sampled_from([70, 500, 1500])))
    ]
    text = bytearray(b"".join(parts))
    for _ in range(data.draw(st.sampled_from([0, 0, 1, 3, 40]))):
        text[dice.randrange(len(text))] = dice.choice(b"\n =/0af9x\0\xff")
    text = bytes(text)
    with mock.patch.object(framing._WholeFrames, "skip", lambda _, at, __: at):
        expected = everything(text, 0, None)
    with mock.patch.multiple(framing, FRAMES_AT_FIRST=data.draw(st.sampled_from([4, 64])), NODES_AT_FIRST=32):
        assert everything(text, 0, None) == expected


def test_little_is_read_in_vain():
    """Even where every hundredth frame is not as written."""
    parts = [frame("c1/n1/7", b"1 2\n") + b"\n\n" * (i % 100 == 99) for i in range(5000)]
    text = b"".join(parts)
    looked_at = []
    jump = frame_kernels.jump

    def told(*arguments):
        result = jump(*arguments)
        looked_at.append(int(arguments[-1][: len(arguments[1]), frame_kernels.FILLED].sum()))
        return result

    with mock.patch.object(frame_kernels, "jump", told):
        found = framing.scan(text, 0, "c1", "month", SetAside())
    assert len(found.node) == 5000
    assert (found.header >= 0).sum() > 4900
    assert 4900 <= sum(looked_at) < 4 * 5000


def test_only_what_is_no_whole_frame_is_read_without_the_kernel(tmp_path):
    files = [RawFile(f"n{i % 50}", i + 1, b"x\n" * (i % 7), i % 3 == 0) for i in range(3000)]
    with mock.patch.object(framing, "HEADER", None):
        assert [file[:3] for file in scanned(written(tmp_path, files))[0]] == [file[:3] for file in files]


# Damage


SMALL = [
    RawFile("n1", 1, b"1 x\n22 yy\n", False),
    RawFile("n2", 2, b"3 z\n", True),
    RawFile("n1", 5, b"", False),
    RawFile("n1", 6, b"4 w", False),
]


def test_a_month_cut_anywhere_gives_its_whole_frames(tmp_path):
    text = written(tmp_path, SMALL)
    ends = [scanned(written(tmp_path / str(i), SMALL[:i]))[1].end for i in range(1, 5)]
    for cut in range(len(text)):
        files, found, aside = scanned(text[:cut])
        # A final newline that was added is not part of the raw text.
        whole = sum(cut >= end - (not file.text.endswith(b"\n")) for end, file in zip(ends, SMALL, strict=True))
        assert files == [tuple(file) for file in SMALL[:whole]], cut
        assert (aside.total, found.end + found.torn) == (0, cut)
        assert found.torn == 0 or text.startswith(b"==> ", found.end)


@pytest.mark.parametrize("known", ["nothing", "index", "index and shards"])
def test_a_month_cut_anywhere_is_collected_again(tmp_path, known):
    """`known` before the cut: a run that dies appends what nobody has seen; a disk can also lose what was in use."""
    site = sites.make(tmp_path)
    jobs = [naive.Job("c1", i, "p", "u", START, START + 600, 1, "COMPLETED", ("n1",)) for i in (1, 2)]
    files = [naive.RawFile("c1", "n1", i, usage(1, core=10 * i).split(b"\n", 1)[1]) for i in (1, 2)]
    sites.write_log(tmp_path, "day", jobs)
    for file in files:
        sites.write_raw(tmp_path, file)
    load_slurm(site)
    collect(site)
    if known == "index and shards":
        ingest(site)
    month = archive.month_file(tmp_path, "c1", "2021-06")
    whole = month.read_bytes()
    second = whole.index(b"==> ", 1)
    for cut in range(second - 30, len(whole), 1 if known == "nothing" else 9):
        month.write_bytes(whole[:cut])
        if known == "nothing":
            (tmp_path / "db" / "collected.sqlite").unlink()
        aside = collect(site).aside
        assert month.read_bytes() == whole, cut
        begin = 0 if cut < second else second
        torn = month.with_name(f"{month.name}.torn-{begin}")
        if cut > begin:
            assert torn.read_bytes() == whole[begin:cut], cut
            assert [where for _, where, _ in aside.examples] == [f"{month} byte {begin}"]
            torn.unlink()
        else:
            assert aside.total == 0
        assert {*month.parent.iterdir()} == {month, header_sums.beside(month)}
        ingest(site)
    compute(site)
    assert_same(efficiency(tmp_path), naive.efficiency(jobs, files))


@pytest.mark.parametrize(
    "flip", [lambda b: b ^ 1, lambda b: b ^ 16, lambda _: 0, lambda _: 10], ids=["1", "16", "NUL", "newline"]
)
def test_a_damaged_byte_costs_its_own_frame_only(tmp_path, flip):
    text = written(tmp_path, SMALL)
    begins = [match.start() for match in re.finditer(rb"==> ", text)]
    names = [(m.start(1), m.end(1)) for m in re.finditer(rb"==> c1/(\S+/\d+)", text)]
    for at in range(len(text)):
        damaged = bytearray(text)
        damaged[at] = flip(text[at])
        if damaged == text:
            continue
        files, whole = intact(bytes(damaged))
        hit = sum(begin <= at for begin in begins) - 1
        others = [tuple(file) for i, file in enumerate(SMALL) if i != hit]
        if any(begin <= at < end for begin, end in names):
            # The checksum is of the text alone, so nobody can tell that a name was another valid one.
            assert [file for file in files if file[2] != SMALL[hit].text] == others, at
        else:  # one byte is of no frame: the newline added to a text without one
            assert files == others or files == [tuple(file) for file in SMALL], (at, damaged)
            assert len(files) == len(SMALL) or not whole


def test_a_damaged_length_costs_its_own_frame_only(tmp_path):
    """Wherever it leads to but to the end of a later frame, also to the end of a line."""
    text = written(tmp_path, SMALL)
    content = text.index(b"\n") + 1
    ends = {match.start() - content for match in re.finditer(rb"(?<=\n)==> |$", text)}
    for length in set(range(300)) - ends - {end - 1 for end in ends}:
        files, whole = intact(text.replace(b"bytes=10 ", b"bytes=%d " % length, 1))
        assert files == [tuple(file) for file in SMALL[1:]], length
        assert not whole


def test_a_run_of_nuls_costs_the_frames_it_hits_only(tmp_path):
    text = written(tmp_path, SMALL)
    second = text.index(b"==> ", 1)
    for length in range(1, 60):
        at = second + 10
        damaged = text[:at] + bytes(length) + text[at + length :]
        first_behind = sum(begin < at + length for begin in (0, second, text.index(b"==> c1/n1/5")))
        files, whole = intact(damaged)
        assert files == [tuple(SMALL[0]), *map(tuple, SMALL[first_behind:])], length
        assert not whole


def test_a_damaged_byte_never_makes_a_wrong_number(tmp_path):
    """The whole chain, a byte here and there, against the oracle of the files not hit."""
    jobs = [naive.Job("c1", i, "p", "u", START, START + 900, 2, "COMPLETED", ("n1", "n2")) for i in (1, 2)]
    files = [naive.RawFile("c1", n, i, usage(3, 10.0 * i)) for i in (1, 2) for n in ("n1", "n2")]
    site = sites.make(tmp_path / "site")
    sites.write_log(site.root, "day", jobs)
    load_slurm(site)
    month = archive.month_file(site.root, "c1", "2021-06")
    text = written(site.root, [RawFile(f.node, f.job_id, f.text, False) for f in files])
    begins = [match.start() for match in re.finditer(rb"==> ", text)]
    names = {at for match in re.finditer(rb"/n./.", text) for at in range(*match.span())}
    for at in sorted(set(range(0, len(text), 23)) - names):
        month.write_bytes(text[:at] + bytes([text[at] ^ 2]) + text[at + 1 :])
        for view in ("shards", "db/efficiency.sqlite"):
            (site.root / view).rename(tmp_path / f"{at}-{Path(view).name}") if (site.root / view).exists() else None
        assert ingest(site).aside.total == 1
        compute(site)
        hit = sum(begin <= at for begin in begins) - 1
        expected = naive.efficiency(jobs, [file for i, file in enumerate(files) if i != hit])
        assert_same(efficiency(site.root), expected)
