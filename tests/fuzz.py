"""Coverage-guided fuzzing of every parser: ``.venv/bin/python tests/fuzz.py TARGET --seconds N``; no TARGET: a list.

An input that makes a parser raise, hang, tell too much, or differ from the oracle is kept in ``fuzz-findings`` (or
``--keep``); running again with that file in the place of ``--seconds`` shows what happens. Each finding becomes a test.
It needs ``pip install -e .[fuzz]``.
"""

import argparse
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["NUMBA_DISABLE_JIT"] = "1"  # compiled kernels show no coverage
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import atheris  # noqa: E402

with atheris.instrument_imports(include=["jobeff"]):
    import bites
    import test_archive
    import test_bite
    import test_kernels

    from jobeff.errors import SHOWN_CHARACTERS, SetAside
    from jobeff.names import is_name
    from jobeff.sources import hostlist
    from jobeff.store import framing

import strategies  # noqa: E402

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LARGEST_SEED = 1 << 12
SECONDS_EACH = 60
"""Of the clock: a machine that does much else may let one input wait for its processor, or its disk, for a while."""

SCRATCH = Path(tempfile.mkdtemp())


def parser(name):
    """A parser of `bites`, which checks what it gives."""
    path, form = SCRATCH / "input", bites.PARSERS[name]

    def one(data):
        path.write_bytes(data)
        aside = SetAside()
        form.read(path, aside)
        for kind, where, why in aside.examples:
            told = f"{kind} {where} {why}"
            assert told.isascii() and told.isprintable() and len(told) < 3 * SHOWN_CHARACTERS, told

    seeds = [form.head + form.good(1) + form.good(2)]
    seeds += [form.head + form.good(1) + line + form.end + form.good(2) for line in test_bite.LINES.values()]
    return one, seeds


def host_lists():
    def one(data):
        try:
            names = hostlist.expand(data.decode("utf-8", "backslashreplace"), limit=1000)
        except hostlist.HostListError as error:
            assert len(str(error)) < 2 * SHOWN_CHARACTERS and str(error).isprintable()
        else:
            assert 0 < len(names) <= 1000 and all(map(is_name, names))

    return one, [b"n1", b"rack[0-3]n[01-16]-ib,login1", b"n[1-999999999]", b"n[1,3-5]"]


def raw_files():
    """The kernel, without the JIT, against the oracle."""

    def one(data):
        extended, text = bool(data[:1] > b"\x7f"), data[1:]
        assert test_kernels.parsed([(text, extended)]) == [test_kernels.expected(text, extended)]

    drawn = [strategies.printed_files().example() for _ in range(20)]
    drawn += [strategies.raw_texts(strategies.sampled_epochs(10**9, 10**9 + 3000)).example() for _ in range(20)]
    real = [(path.read_bytes(), True) for path in SHARED.glob("jobstats/*/*/[0-9]*")]
    return one, [(b"\xff" if extended else b"\0") + text[:2000] for text, extended in drawn + real]


def frames():
    """The kernel that jumps from frame to frame, without the JIT, against the reader that needs none."""
    skip = framing._WholeFrames.skip

    def one(data):
        framing._WholeFrames.skip = lambda _, at, __: at
        expected = test_archive.everything(data, 0, None)
        framing._WholeFrames.skip = skip
        assert test_archive.everything(data, 0, None) == expected

    whole = b"==> c1/n1/1 bytes=4 crc32=90f599e3 <==\na b\n==> c1/n2/2 bytes=1 crc32=8cdc1683 form=extended <==\nx\n"
    return one, [whole, b"==> c1/n1/1 <==\na\n\n==> c1/n2/2 <==\nb\n", whole.replace(b"4", b"5"), whole + bytes(50)]


TARGETS = {name: (lambda name=name: parser(name)) for name in bites.PARSERS}
TARGETS |= {"hostlist": host_lists, "raw": raw_files, "frames": frames}


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("target", nargs="?", choices=TARGETS)
    options.add_argument("input", nargs="?", type=Path, help="run this one only")
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    given = options.parse_args()
    if given.target is None:
        print("\n".join(TARGETS))  # atheris says on the other stream what it does
        return
    warnings.simplefilter("ignore")
    one, seeds = TARGETS[given.target]()
    corpus, keep = SCRATCH / "corpus", given.keep / given.target
    corpus.mkdir()
    keep.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seed for seed in seeds if len(seed) <= LARGEST_SEED):
        (corpus / str(number)).write_bytes(seed)
    flags = [f"-max_total_time={given.seconds}", f"-timeout={SECONDS_EACH}", f"-max_len={LARGEST_SEED}",
             "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={keep}/"]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags, str(given.input or corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
