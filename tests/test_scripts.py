"""Scripts that start others: ended by a signal they leave no process and no folder."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
MUTATE = """
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from queue import SimpleQueue

scripts, note = map(Path, sys.argv[1:])
sys.path.insert(0, str(scripts))
loader = SourceFileLoader("mutate", str(scripts / "mutate"))
mutate = module_from_spec(spec_from_loader("mutate", loader))
loader.exec_module(mutate)
from mutation.copies import Copy

class Tests:
    def __init__(self, run, seconds): pass
    def of(self, fault): return ["test_forever.py"]

def copies(folder, number, limit):
    tree, trees = folder / "0", SimpleQueue()
    (tree / "jobeff/store").mkdir(parents=True)
    (tree / "conftest.py").write_text("import hypothesis; hypothesis.settings.register_profile('faults')")
    (tree / "test_forever.py").write_text(f'''
import os
from pathlib import Path
if os.fork():
    Path({str(note) + ".tmp"!r}).write_text(f"{{os.getpid()}} {tree}")
    Path({str(note) + ".tmp"!r}).rename({str(note)!r})
while True: pass
''')
    trees.put(Copy(tree, limit))
    return trees

mutate.Tests, mutate.copies = Tests, copies
sys.argv[1:] = ["--only", "jobeff/store/locks.py", "--sample", "3", "--jobs", "1"]
sys.exit(mutate.main())
"""


def running(session):
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            state, _, _, its_session = path.read_text(errors="replace").rpartition(") ")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                yield path.parent.name


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGINT])
def test_mutate_ended_by_a_signal_leaves_nothing(tmp_path, ends):
    note = tmp_path / "note"
    with subprocess.Popen([sys.executable, "-c", MUTATE, SCRIPTS, note], cwd=SCRIPTS.parent) as process:
        while not note.exists():
            assert process.poll() is None
            time.sleep(0.05)
        session, tree = note.read_text().split()
        assert Path(tree).is_dir()
        process.send_signal(ends)
    try:
        assert process.returncode == 128 + ends
        assert [*running(int(session))] == []
        assert not Path(tree).parent.exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(session), signal.SIGKILL)
