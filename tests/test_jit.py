"""Compiled kernels are kept with a digest; a cache that cannot be used is said once, and nothing else happens."""

import ast
import importlib
import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import numba
import pytest
import sites
from numba.core.dispatcher import Dispatcher
from test_compute import START, a_job, files_of, night

from jobeff import jit_cache as jit
from jobeff.engine import warm
from jobeff.jit import Kernel
from jobeff.steps.compute import compute
from jobeff.steps.rebuild import rebuild

KERNEL = """
from jobeff.jit import kernel

@kernel
def double(x):
    return x + x
"""


@pytest.fixture
def small(tmp_path, monkeypatch, capsys):
    """Loads a small kernel as a new process would; what it gave, how often the cache had it, what it told."""
    monkeypatch.setenv(jit.TOLD, "")  # so that it is put back in the end
    path = tmp_path / "package" / "small.py"
    path.parent.mkdir()
    path.write_text(KERNEL)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))

    def run():
        monkeypatch.delenv(jit.TOLD, raising=False)
        spec = importlib.util.spec_from_file_location("small", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        given = module.double(21)
        return given, sum(module.double.stats.cache_hits.values()), capsys.readouterr().err

    return run


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


HARMS = {
    "cut": cut,
    "flipped": flipped,
    "empty": lambda _: b"",
    "NULs": lambda c: bytes(len(c)),
    "not ours": b"\x80".__add__,
}


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.parametrize("suffix", [".nbc", ".nbi"])
@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_cache_is_made_again(small, tmp_path, suffix, harm):
    assert small() == (42, 0, "")
    assert small() == (42, 1, "")
    [path] = (tmp_path / "cache").rglob(f"*{suffix}")
    path.write_bytes(HARMS[harm](path.read_bytes()))
    given, hits, told = small()
    assert (given, hits) == (42, 0)
    assert told.count("\n") == told.count("warning: compiled kernels in") <= 1  # an index that looks old needs no word
    assert told or suffix == ".nbi"
    assert small() == (42, 1, "")


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_what_another_kernel_has_left_in_a_file_is_not_run(small, tmp_path):
    """Of older code, as a process that is killed leaves it there; or of other types, as another process writes it."""
    assert small() == (42, 0, "")
    [file] = (tmp_path / "cache").rglob("*.nbc")
    older, source = file.read_bytes(), tmp_path / "package" / "small.py"
    source.write_text(KERNEL.replace("x + x", "x + x + x"))
    assert small() == (63, 0, "")
    assert small() == (63, 1, "")
    file.write_bytes(older)
    assert small() == (63, 0, "")
    assert small() == (63, 1, "")
    source.write_text(KERNEL.replace("x + x", "x + x + x") + "\n\ndouble(1.5)\n")
    assert small() == (63, 0, "")
    one, other = sorted((tmp_path / "cache").rglob("*.nbc"))
    one.write_bytes(other.read_bytes())
    assert small()[::2] == (63, "")
    assert small() == (63, 2, "")


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_without_a_folder_for_the_cache_kernels_are_compiled(small, tmp_path, monkeypatch):
    """In the place of a file not even root can make a folder."""
    for name in ("cache", "package/__pycache__"):
        (tmp_path / name).write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HOME", raising=False)
    made, njit = [], numba.njit
    monkeypatch.setattr(numba, "njit", lambda **options: lambda it: made.append(it.__name__) or njit(**options)(it))
    given, hits, told = small()
    assert (given, hits) == (42, 0)
    assert made == ["double"]
    assert told.count("\n") == told.count("warning: there is no folder") == 1
    assert "NUMBA_CACHE_DIR" in told
    assert os.environ[jit.TOLD]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_a_disk_that_is_full_is_said(small, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jit.File, "_save_data", full)
    given, _, told = small()
    assert given == 42
    assert "cannot be kept in" in told
    assert "No space left" in told


def test_who_got_a_kernel_before_its_first_call_gets_what_was_compiled(tmp_path):
    """A kernel may call one of another module; both are found compiled wherever they are looked for."""
    (tmp_path / "kept_inner.py").write_text(KERNEL)
    (tmp_path / "kept_outer.py").write_text(
        "from jobeff.jit import kernel\nfrom kept_inner import double\n\n"
        "@kernel\ndef four(x):\n    return double(double(x))\n"
    )
    code = """
import sys
import threading
import kept_outer, kept_inner
from kept_outer import four
assert "numba" not in sys.modules
assert (four(3), kept_outer.four(3), kept_inner.double(3), kept_outer.double(3)) == (12, 12, 6, 6)
assert "Kernel" not in {type(one).__name__ for one in (kept_outer.four, kept_outer.double, kept_inner.double)}
assert (four.__name__, hasattr(four, "py_func")) == ("four", hasattr(kept_outer.four, "py_func"))
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


LINKED = """
import numpy as np
from jobeff.jit import allocating_kernel, kernel

@kernel
def checked(values, at):
    if at >= len(values):
        raise IndexError("there is no such value")
    return values[at]

@kernel
def last(values):
    return checked(values, len(values) - 1)

@allocating_kernel
def doubled(values):
    twice = np.empty(len(values))
    for at in range(len(values)):
        twice[at] = 2 * checked(values, at)
    return twice
"""


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.parametrize(
    "broken", ["", "binding = None", "_nrt_python = None", "_of_no_module = None", "_name_runtime = None"]
)
def test_a_kernel_out_of_the_cache_is_whole(tmp_path, broken):
    """It raises, makes arrays, and goes into others that are compiled later; also where numba is not as expected."""
    (tmp_path / "linked.py").write_text(LINKED)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    first = """
import numpy as np, linked
values = np.array([1.0, 2.0, 3.0])
assert linked.checked(values, 1) == 2 and list(linked.doubled(values)) == [2, 4, 6]
"""
    second = f"""
import numpy as np, linked
from jobeff import jit_cache
{f"jit_cache.{broken}" if broken else ""}
values = np.array([1.0, 2.0, 3.0])
assert linked.checked(values, 1) == 2 and list(linked.doubled(values)) == [2, 4, 6]
hits = [sum(one.stats.cache_hits.values()) for one in (linked.checked, linked.doubled)]
try:
    linked.checked(values, 3)
except IndexError as error:
    assert str(error) == "there is no such value"
else:
    raise AssertionError("no error")
assert linked.last(values) == 3
print(hits, sum(linked.last.stats.cache_hits.values()))
"""
    for code, printed in ((first, ""), (second, "[0, 0] 0\n" if broken == "_name_runtime = None" else "[1, 1] 0\n")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        told = done.stderr.count("warning: compiled kernels in")
        assert (done.returncode, done.stdout) == (0, printed), done.stderr
        assert told == (1 if code == second and broken == "_name_runtime = None" else 0), done.stderr


def test_two_threads_that_call_a_kernel_first_compile_it_once(monkeypatch):
    """The second waits for the first, and takes what it has made."""
    made = []

    def compiled(function, *_):
        made.append(function)
        waiting.start()
        waiting.join(0.2)  # it stands at the lock now
        return function, True

    monkeypatch.setattr(jit, "compiled", compiled)
    one = Kernel(lambda x: x + x)
    found = []
    waiting = threading.Thread(target=lambda: found.append(one(4)))
    assert one(3) == 6
    waiting.join()
    assert (found, len(made)) == ([8], 1)


def test_a_kernel_has_no_attributes_of_python_that_it_does_not_have():
    """To ask for one, as copying does, must not import numba."""
    with pytest.raises(AttributeError, match="__deepcopy__"):
        Kernel(len).__deepcopy__  # noqa: B018


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_who_asks_is_told_whether_a_kernel_is_in_the_cache(tmp_path):
    """Also where its file has changed since, and where the cache is damaged."""
    source = tmp_path / "kept.py"
    source.write_text(KERNEL)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def asked(before=""):
        code = f"import kept\nfrom jobeff import jit\n{before}\nprint(jit.is_compiled(kept.double))"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert asked() == "False\n"
    assert asked("kept.double(3)") == "True\n"
    assert asked() == "True\n"
    source.write_text(f"{KERNEL}\n")
    assert asked() == "False\n"
    assert asked("kept.double(3)") == "True\n"
    for path in (tmp_path / "cache").rglob("*.nbi"):
        path.write_bytes(b"damaged")
    assert asked() == "False\n"


OUTER = "from jobeff.jit import kernel\nfrom {0} import {0} as inner\n\n@kernel\ndef {1}(x):\n    return inner(x) + 1\n"


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.parametrize("before", ["", "import low; low.low(1)", "import middle; middle.middle(1)"])
def test_a_kernel_that_calls_one_of_a_file_that_has_changed_is_compiled_again(tmp_path, before):
    """Whichever of them was called first; and not where nothing has changed."""
    low = "from jobeff.jit import kernel\n\n@kernel\ndef low(x):\n    return {} * x\n"
    (tmp_path / "middle.py").write_text(OUTER.format("low", "middle"))
    (tmp_path / "high.py").write_text(OUTER.format("middle", "high"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def called(first):
        code = f"{first}\nimport high\nprint(high.high(2), sum(high.high.stats.cache_hits.values()))"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    for factor in (10, 100):
        (tmp_path / "low.py").write_text(low.format(factor))
        value = str(2 * factor + 2)
        assert called("") == [value, "0"]
        assert called(before) == [value, "1"]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_kernels_know_of_every_file_whose_code_or_numbers_stand_in_them():
    """Numbers do not say where they are from; so who takes them from a file takes kernels from it too, or from others
    that do.
    """
    root = Path(jit.__file__).parent
    files = [*root.glob("*/*kernels.py"), root / "engine" / "pictures.py", root / "vectors.py", root / "prefetch.py"]
    names = {".".join(("jobeff", *path.relative_to(root).with_suffix("").parts)): path for path in files}
    seen = 0
    for name, path in names.items():
        imported = {one.module for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.ImportFrom)}
        stamped = {name for name, _, _ in jit._other_stamps(vars(importlib.import_module(name)))}
        if path.stem.endswith("kernels"):
            assert imported & names.keys() <= stamped
            seen += len(stamped)
    assert seen > 20


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_nothing_is_left_to_compile_where_all_kernels_have_been_run(monkeypatch):
    """Every file of kernels is asked for; one that has changed is enough."""
    warm.run_all()
    assert not warm.is_cold()
    files = {path.stem for path in Path(jit.__file__).parent.glob("*/*kernels.py")}
    files.remove("sum_kernels")  # which 'check' and 'repair' alone need
    asked = {module.__name__ for module, _ in warm.LAST}
    through = [{name for name, _, _ in jit._other_stamps(vars(module))} for module, _ in warm.LAST]
    assert files <= {name.rpartition(".")[2] for name in asked.union(*through)}
    assert not asked & set().union(*through)
    for module, name in warm.LAST:
        monkeypatch.setattr(warm.jit, "is_compiled", lambda one, last=name: one.__name__ != last)
        assert warm.is_cold(), f"{module.__name__} {name}"


def compiled():
    """Which kernels have been compiled, and for which kinds of arrays."""
    modules = [module for name, module in sys.modules.items() if name.startswith("jobeff.")]
    kernels = {one for module in modules for one in vars(module).values() if isinstance(one, Dispatcher)}
    return {(one.py_func.__module__, one.py_func.__name__): set(one.signatures) for one in kernels if one.signatures}


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_runs_need_no_kernel_for_other_kinds_of_arrays_than_have_been_compiled(tmp_path):
    warm.run_all()
    before = compiled()
    jobs = [a_job(1), a_job(2, nodes=("n1", "n2")), a_job(3), a_job(3, START + 86_400), *map(a_job, range(4, 40))]
    site = sites.make(tmp_path / "site")
    found = night(site, jobs, files_of(*jobs))["jobs"]
    for counts in (compute(site, everything=True).counts, rebuild(site)[1].counts):
        assert counts["jobs"] == found == len(jobs) - 1, "there is one file of the job that ran twice"
    assert compiled() == before
