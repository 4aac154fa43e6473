"""The faults that can be written into a source file."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SWAPPED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult, ast.Mod: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A piece of a source file and what is written in its place."""

    path: Path
    line: int
    begin: int
    end: int
    old: str
    new: str

    def source(self) -> bytes:
        """The file with the fault in it."""
        text = (ROOT / self.path).read_bytes()
        return text[: self.begin] + self.new.encode() + text[self.end :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.old!r} -> {self.new!r}"


def faults(path: Path) -> Iterator[Fault]:
    """All faults that can be written into a file, one at a time."""
    text = (ROOT / path).read_bytes()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in _code(ast.parse(text)):
        for new in _mutations(node):
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            yield Fault(path, node.lineno, begin, end, text[begin:end].decode(), new)


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that do something: no annotations, no decorators, no defaults of dataclasses."""
    if isinstance(tree, ast.FunctionDef):
        children: list[ast.AST] = [*tree.args.defaults, *tree.body]
    elif isinstance(tree, ast.ClassDef):
        children = [*tree.body]
    elif isinstance(tree, ast.AnnAssign):
        children = [tree.value] if tree.value is not None else []
    else:
        children = list(ast.iter_child_nodes(tree))
    for child in children:
        yield child
        yield from _code(child)


def _mutations(node: ast.AST) -> Iterator[str]:
    """What can be written in place of a node."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPPED:
            yield _with(node, "ops", [SWAPPED[type(op)]()])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPPED:
            yield _with(node, "op", SWAPPED[type(op)]())
        case ast.UnaryOp(op=ast.Not()):
            yield f"({ast.unparse(node.operand)})"
        case ast.IfExp(test=test) | ast.If(test=test) if isinstance(node, ast.IfExp):
            yield _with(node, "test", ast.UnaryOp(ast.Not(), test))
        case ast.Constant(value=bool() as value):
            yield str(not value)
        case ast.Constant(value=int() as value):
            yield str(value + 1)
        case ast.Break():
            yield "continue"
        case ast.Continue():
            yield "break"
        case ast.AugAssign() | ast.Expr(value=ast.Call()):
            yield "pass"


def _with(node: ast.AST, field: str, value: object) -> str:
    """A node's text with one of its fields replaced."""
    other = copy.copy(node)
    setattr(other, field, value)
    return f"({ast.unparse(ast.fix_missing_locations(other))})"
