"""
All small changes of a module that its tests should notice.

A mutation swaps an operator, moves a number by one, flips a truth value, drops an entry of a dictionary (a condition of
a query or a changed field), or drops a call whose result is not used. Texts, annotations, decorators and logs stay, and
the ones of a projection: any other number names the field as well.
"""

import ast
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterator

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
LUA_SWAPPED = [("<=", "<"), (">=", ">"), (" < ", " <= "), (" > ", " >= "), (" == ", " ~= "), (" ~= ", " == ")]
LUA_SWAPPED += [(" + ", " - "), (" - ", " + "), (" and ", " or "), (" or ", " and ")]
NEVER_RUN = frozenset({"TYPE_CHECKING", "_log", "log"})
"""Names in a call that is not dropped: log lines."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mutation:
    """A change of a file, which `what` names; the mutated text is made when it is needed."""

    path: pathlib.Path
    line: int
    what: str
    make: Callable[[], str]

    @property
    def text(self) -> str:
        """The mutated source text."""
        return self.make()


def mutations_of(path: pathlib.Path) -> list[Mutation]:
    """Return all mutations of a Python or Lua file."""
    text = path.read_text(encoding="utf-8")
    return list(_lua(path, text) if path.suffix == ".lua" else _python(path, text))


def _lua(path: pathlib.Path, text: str) -> Iterator[Mutation]:
    lines = text.split("\n")
    for number, line in enumerate(lines):
        code = line.split("--")[0]
        for old, new in LUA_SWAPPED:
            for found in re.finditer(re.escape(old), code):
                if old in {"<=", ">="} or code[found.end() : found.end() + 1] != "=":
                    changed = line[: found.start()] + new + line[found.end() :]
                    mutated = "\n".join([*lines[:number], changed, *lines[number + 1 :]])
                    what = f"{old.strip()} -> {new.strip()}: {changed.strip()}"
                    yield Mutation(path, number + 1, what, functools.partial(str, mutated))


def _python(path: pathlib.Path, text: str) -> Iterator[Mutation]:
    tree = ast.parse(text)
    ones = {id(value) for projection in _projections(tree) for value in projection.values}
    for number, node in enumerate(_visited(tree)):
        if id(node) in ones:
            continue
        for what, change in _changes(node):
            line, shown = getattr(node, "lineno", 0), ast.unparse(node)[:80]
            yield Mutation(path, line, f"{what}: {shown}", functools.partial(_mutated, text, number, change))


def _projections(tree: ast.Module) -> Iterator[ast.Dict]:
    """Return the dictionaries of ones that are arguments, or constants of the module."""
    arguments = [each for node in ast.walk(tree) if isinstance(node, ast.Call) for each in node.args]
    constants = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    for node in [*arguments, *constants]:
        if isinstance(node, ast.Dict) and all(isinstance(one, ast.Constant) and one.value == 1 for one in node.values):
            yield node


def _mutated(text: str, number: int, change: Callable[[ast.AST], None]) -> str:
    """Return a text with the *number*-th node changed."""
    tree = ast.parse(text)
    change(next(each for index, each in enumerate(_visited(tree)) if index == number))
    return ast.unparse(tree)


def _visited(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk the statements and expressions that run, in a fixed order."""
    for name, value in ast.iter_fields(tree):
        if name in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from _visited(child)


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    """Return the changes of one node, each as a text and a function of the same node in a copy of the tree."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPPED:
        yield "comparison", _swap_comparison
    elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in SWAPPED and not _is_text(node):
        yield "operator", _swap_operator
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped", _drop_not
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "flipped", _flip
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield "moved by one", _move
    elif isinstance(node, ast.Dict):
        for index, key in enumerate(node.keys):
            if isinstance(key, ast.Constant):
                yield f"{key.value!r} dropped", lambda place, at=index: _drop_entry(place, at)  # type: ignore[misc]
    elif isinstance(node, ast.Expr) and _is_effect(node.value):
        yield "call dropped", _drop_call


def _is_text(node: ast.BoolOp | ast.BinOp) -> bool:
    return isinstance(node, ast.BinOp) and any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes))
        for side in (node.left, node.right)
    )


def _is_effect(value: ast.expr) -> bool:
    call = value.value if isinstance(value, ast.Await) else value
    names = {getattr(part, "attr", getattr(part, "id", "")) for part in ast.walk(call)}
    return isinstance(call, ast.Call) and not names & NEVER_RUN


def _swap_comparison(node: ast.AST) -> None:
    assert isinstance(node, ast.Compare)
    node.ops = [SWAPPED[type(node.ops[0])]()]  # type: ignore[list-item]


def _swap_operator(node: ast.AST) -> None:
    node.op = SWAPPED[type(node.op)]()  # type: ignore[attr-defined]


def _drop_not(node: ast.AST) -> None:
    # Twice negated: the same as not negated, without a change of the parent.
    assert isinstance(node, ast.UnaryOp)
    node.operand = ast.UnaryOp(ast.Not(), node.operand)


def _flip(node: ast.AST) -> None:
    assert isinstance(node, ast.Constant)
    node.value = not node.value


def _move(node: ast.AST) -> None:
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int | float)
    node.value += 1


def _drop_entry(node: ast.AST, index: int) -> None:
    assert isinstance(node, ast.Dict)
    del node.keys[index]
    del node.values[index]


def _drop_call(node: ast.AST) -> None:
    assert isinstance(node, ast.Expr)
    node.value = ast.Constant(value=None)
