"""What type checkers are told of the package."""

import ast
from pathlib import Path

import recbole_genci

PACKAGE = Path(recbole_genci.__file__).parent


def test_the_stub_names_what_the_package_exports():
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    names = {
        alias.asname or alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names == recbole_genci._EXPORTS
    declared = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert {*names, *declared} == set(recbole_genci.__all__)
