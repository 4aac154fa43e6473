"""What product code never does: unpickle, call a shell, run text as code, put data into SQL."""

import ast
from pathlib import Path

import pytest

import jobeff

ROOT = Path(jobeff.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
NO_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "joblib", "yaml"}
NO_PRODUCT_DATA = {ROOT / "jit_cache.py", ROOT / "engine" / "pipes.py"}
"""Numba keeps compiled kernels as pickles, whose digest is checked there; processes of one run send each other some."""

NO_CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
DATA = {
    "cluster", "job_id", "job_ids", "proj_id", "project", "user", "node", "node_name", "jobname", "partition", "state",
    "day", "date", "since", "until", "first_day", "last_day", "value", "values", "key", "text", "given",
}  # fmt: skip
"""Names of variables that hold what sites or users say; what may stand in SQL are names of tables and columns."""

FIXED = {ROOT / "steps" / "corehours.py": {"key", "value"}}
"""There they are expressions of SQL, written beside the query."""


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pickle_no_shell_no_text_as_code(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.partition(".")[0] for name in names} & NO_MODULES or path in NO_PRODUCT_DATA, names
    for name, call in calls(path):
        assert name not in NO_CALLS, name
        for word in call.keywords:
            assert word.arg != "shell", name
            assert word.arg != "allow_pickle" or ast.unparse(word.value) == "False", name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_data_is_bound_to_sql_and_never_part_of_it(path):
    for name, call in calls(path):
        if name.rpartition(".")[2] in {"execute", "executemany", "executescript"} and call.args:
            query = call.args[0]
            assert not isinstance(query, ast.BinOp), ast.unparse(query)  # neither + nor %
            used = {node.id for node in ast.walk(query) if isinstance(node, ast.Name)}
            assert not used & DATA - FIXED.get(path, set()), ast.unparse(query)


def test_numpy_does_not_unpickle_of_itself(tmp_path):
    """As it did before 1.16.3."""
    np = pytest.importorskip("numpy")
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        np.load(tmp_path / "x.npy")
