"""The layout: imports point one way, a command's help is quick, and everything public says what it is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jobeff
from jobeff.store import tables

ROOT = Path(jobeff.__file__).parent
MODULES = {".".join(("jobeff", *path.relative_to(ROOT).with_suffix("").parts)): path for path in ROOT.rglob("*.py")}
LAYERS = ("sources", "store", "engine", "steps", "views", "cli")
# What each layer must know nothing of; the modules beside them (errors, names, clock, ...) know of no layer.
UNKNOWN = {
    "sources": {"store", "engine", "steps", "views", "cli"},
    "store": {"sources", "engine", "steps", "views", "cli"},
    "engine": {"sources", "steps", "views", "cli"},
    "steps": {"views", "cli"},
    "views": {"cli"},
    "bench": {"views", "cli"},
    "cli": set(),
}
FREE = {"__init__", "__main__", "start"}
MESSAGES = "jobeff.engine.pipes"
"""Between processes of one run, of which nothing is kept."""
MADE_UP = {"store", "engine", "steps", "views", "cli"}
"""What the synthetic site must not know, or it would be tested against itself; it reads real logs with a source."""


def layer(module):
    """Folder or, of a module beside the folders, its name."""
    return [*module.split("."), "__init__"][1]


def imports(path):
    """Modules that a module imports, at its top, within functions and for types alike."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_reader_of_imports_sees_them():
    assert "jobeff.store.archive" in set(imports(MODULES["jobeff.steps.collect"]))
    assert "jobeff.views.job" in set(imports(MODULES["jobeff.cli.job"]))
    assert set(LAYERS) <= {layer(module) for module in MODULES}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module):
    mine = layer(module)
    beside = set() if mine in FREE else MADE_UP if mine.startswith("simulate") else set(LAYERS)
    unknown = UNKNOWN.get(mine, beside)
    wrong = [name for name in imports(MODULES[module]) if name.startswith("jobeff.") and layer(name) in unknown]
    assert wrong == []


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["update", "--help"], ["job", "--help"], []])
def test_help_loads_nothing_heavy(command):
    code = f"""
import sys
from jobeff.cli import main
try:
    main({command!r})
except SystemExit:
    heavy = {{name.partition(".")[0] for name in sys.modules}} & {{"numba", "numpy", "pyarrow", "rich", "polars"}}
    print(heavy or "none", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.endswith("none\n")


def test_looking_a_job_up_loads_nothing_heavy(tmp_path):
    tables.open_database(tables.database(tmp_path, "accounting"), "accounting").close()
    tables.open_database(tables.database(tmp_path, "efficiency"), "efficiency").close()
    (tmp_path / "jobeff.toml").write_text('[clusters.c]\naccounting = "a"\njobstats = ["j"]\n')
    code = f"""
import sys
from jobeff.cli import main
try:
    main(["-c", {str(tmp_path / "jobeff.toml")!r}, "job", "1"])
except SystemExit:
    heavy = {{name.partition(".")[0] for name in sys.modules}} & {{"numba", "numpy", "pyarrow"}}
    print(heavy or "none", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.endswith("none\n")


def test_who_hands_out_work_loads_no_numba(tmp_path):
    """Its workers have the kernels; importing numba takes as long as computing a day."""
    tables.open_database(tables.database(tmp_path, "accounting"), "accounting").close()
    (tmp_path / "jobeff.toml").write_text('[clusters.c]\naccounting = "a"\njobstats = ["j"]\n')
    code = f"""
import sys
from jobeff.cli import main
try:
    main(["-c", {str(tmp_path / "jobeff.toml")!r}, "--workers", "1", "rebuild"])
except SystemExit as done:
    print(done.code, "numba" in sys.modules, "jobeff.store.table_kernels" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "0 False True"


def test_workers_do_not_run_the_script_that_runs_the_command(tmp_path):
    tables.open_database(tables.database(tmp_path, "accounting"), "accounting").close()
    (tmp_path / "jobeff.toml").write_text('[clusters.c]\naccounting = "a"\njobstats = ["j"]\n')
    script = tmp_path / "jobeff-script"
    script.write_text(
        "import sys\nprint('imported', flush=True)\nfrom jobeff.cli import main\n"
        f"if __name__ == '__main__':\n    main(['-c', {str(tmp_path / 'jobeff.toml')!r}, *sys.argv[1:]])\n"
    )
    command = [sys.executable, str(script), "--workers", "2", "rebuild"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("imported") == 1


def public(tree):
    """Public functions and classes of a module, with what holds them."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_everything_public_says_what_it_is(module):
    tree = ast.parse(MODULES[module].read_text())
    assert ast.get_docstring(tree)
    assert [node.name for node in public(tree) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize(
    "module", sorted(name for name in MODULES if layer(name) in ("store", "engine", "steps") and name != MESSAGES)
)
def test_product_data_is_never_pickled(module):
    assert not {"pickle", "shelve", "marshal"} & {name.partition(".")[0] for name in imports(MODULES[module])}


RUN_PROGRAMS = {
    "jobeff.bench.commands": "Python with modules of ours",
    "jobeff.bench.others": "Python with modules of ours",
    "jobeff.engine.warm": "Python with modules of ours",
    "jobeff.sources.ask_slurm": "sbatch, squeue, sacct, scancel, with a list of arguments: the user's own",
    "jobeff.sources.ask_sacct": "sacct, with a list of arguments: a checked cluster name and dates",
}
"""These run other programs, and nothing that anybody has typed in."""


def test_nothing_runs_a_shell():
    for module, path in MODULES.items():
        names = {name.partition(".")[0] for name in imports(path)}
        assert "subprocess" not in names or module in RUN_PROGRAMS, path
        assert "os.system" not in path.read_text(), path
        assert "shell=" not in path.read_text(), path
