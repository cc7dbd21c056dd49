"""The code means the same on every supported Python."""

import ast
import pathlib

CHECKOUT = pathlib.Path(__file__).parents[2]
FOLDERS = ("indexing", "indexer_service", "workers", "indexer_client", "devstack", "deploy", "docs", "tests")


def _raises_in_except_star(tree: ast.AST) -> list[int]:
    """Return the lines of raise and assert statements in handlers of `except*`, outside nested functions."""
    open_nodes = [part for node in ast.walk(tree) if isinstance(node, ast.TryStar) for part in node.handlers]
    lines: list[int] = []
    nodes: list[ast.AST] = list(open_nodes)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Raise | ast.Assert):
            lines.append(node.lineno)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes += ast.iter_child_nodes(node)
    return sorted(lines)


def test_no_handler_of_except_star_raises() -> None:
    """Python 3.11.0 to 3.11.3 put what it raises into a group; `concurrency.first_error_alone` does not."""
    modules = [path for folder in FOLDERS for path in (CHECKOUT / folder).rglob("*.py")]

    found = {str(path): _raises_in_except_star(ast.parse(path.read_text("utf-8"))) for path in modules}

    assert len(modules) > 300
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_a_raise_is_found_when_it_is_nested_in_a_handler() -> None:
    """Also under an if; not in a function that the handler defines."""
    text = """
try:
    work()
except* OSError as group:
    if group.exceptions:
        raise group.exceptions[0]
    def later():
        raise ValueError
"""

    assert _raises_in_except_star(ast.parse(text)) == [6]
