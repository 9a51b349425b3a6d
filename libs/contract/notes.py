"""What the docstrings under a struct's fields say: the one place where a field is explained."""

import ast
import inspect
import textwrap

import msgspec


def summary(kind: type) -> str:
    """The struct's docstring as one line; empty where it has none of its own."""
    return _line(kind.__dict__.get("__doc__") or "")


def field_notes(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Field name to explanation, inherited fields included. Needs the source text at hand."""
    found: dict[str, str] = {}
    for ancestor in reversed(kind.__mro__):
        if ancestor not in (object, msgspec.Struct) and issubclass(ancestor, msgspec.Struct):
            found.update(_own(ancestor))
    return found


def _own(kind: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    if not isinstance(definition, ast.ClassDef):
        raise TypeError(f"{kind} is no class statement")
    found: dict[str, str] = {}
    field: str | None = None
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            field = statement.target.id
        elif field is not None and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            found[field] = _line(str(statement.value.value))
            field = None
    return found


def _line(text: str) -> str:
    return " ".join(text.split())
