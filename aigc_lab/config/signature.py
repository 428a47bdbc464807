"""What a constructor accepts, read from its source without importing it.

The constructor is the configuration schema: its parameter names are the valid keys, its annotations the
types and ranges. Importing it to find out would cost three seconds for torch and nine for Lightning, and a
misspelt key deserves its answer at once.
"""

import ast
import importlib.util
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aigc_lab.types


class Component:
    """Annotation of a parameter that is itself built from a node with `_target_` (a network, a loss)."""


@dataclass(frozen=True)
class Parameter:
    """One keyword parameter: the type to check its value against, and whether it must be given."""

    annotation: Any
    required: bool


@dataclass(frozen=True)
class Signature:
    """The keyword parameters of a target; `is_open` when it also takes arbitrary keywords."""

    parameters: dict[str, Parameter]
    is_open: bool


_VOCABULARY = {
    name: value
    for source in (vars(aigc_lab.types), vars(typing))
    for name, value in source.items()
    if not name.startswith("_")
} | {t.__name__: t for t in (int, float, bool, str, list, dict, tuple)}


def signature(target: str, *, typed: bool) -> Signature:
    """Read the signature of the class `package.module.Name` (a dataclass or not).

    With `typed`, annotations are evaluated over `aigc_lab.types` and the builtins; a name outside that
    vocabulary (`nn.Module`, say) is a `Component`. Without, only the names count and every type is `Any`.

    Raises:
        LookupError: no such module, or nothing of that name in it.
    """
    module, _, name = target.rpartition(".")
    found, is_open = {}, False
    for key, node, required in _parameters(module, name):
        if key == "**":
            is_open = True
        else:
            found[key] = Parameter(_evaluate(node) if typed else Any, required)
    return Signature(found, is_open)


def names(module: str) -> list[str]:
    """The public classes that a module defines; none when there is no such module."""
    try:
        tree = _parse(module)
    except LookupError:
        return []
    return [n.name for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]


def _evaluate(node: ast.expr | None) -> Any:
    if node is None:
        return Any
    try:
        return eval(compile(ast.Expression(node), "<annotation>", "eval"), {"__builtins__": {}}, _VOCABULARY)
    except (NameError, AttributeError, TypeError):
        return Component


def _parameters(module: str, name: str) -> Iterator[tuple[str, ast.expr | None, bool]]:
    """(name, annotation, required) of each keyword parameter; the name `**` for arbitrary keywords."""
    module, node = _definition(module, name)
    if any("dataclass" in ast.unparse(d) for d in node.decorator_list):
        for base in node.bases:
            yield from _inherited(module, base)
        yield from _fields(node)
        return
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            yield from _arguments(item.args)
            return
    for base in node.bases:
        yield from _inherited(module, base)


def _inherited(module: str, base: ast.expr) -> Iterator[tuple[str, ast.expr | None, bool]]:
    if isinstance(base, ast.Name):
        try:
            yield from _parameters(module, base.id)
        except LookupError:  # a builtin base (Protocol, ABC, object) adds no parameter
            return


def _arguments(args: ast.arguments) -> Iterator[tuple[str, ast.expr | None, bool]]:
    positional = (args.posonlyargs + args.args)[1:]  # without self
    for i, arg in enumerate(positional):
        yield arg.arg, arg.annotation, i < len(positional) - len(args.defaults)
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield arg.arg, arg.annotation, default is None
    if args.kwarg:
        yield "**", None, False


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None, bool]]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            value = "" if item.value is None else ast.unparse(item.value)
            if "ClassVar" not in ast.unparse(item.annotation) and "init=False" not in value:
                yield item.target.id, item.annotation, item.value is None


def _definition(module: str, name: str) -> tuple[str, ast.ClassDef]:
    """The class called `name` in `module`, following `from x import name`."""
    for node in _parse(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    package = module if _file(module).name == "__init__.py" else module.rpartition(".")[0]
                    source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                    return _definition(source, alias.name)
    raise LookupError(f"{module} has no {name}")


@cache
def _parse(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


def _file(module: str) -> Path:
    head, *rest = module.split(".")
    spec = importlib.util.find_spec(head) if head.isidentifier() else None  # imports nothing: top level
    for folder in (spec and spec.submodule_search_locations) or []:
        path = Path(folder, *rest)
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if candidate.is_file():
                return candidate
    if spec and spec.has_location and spec.origin and not rest:  # a single file
        return Path(spec.origin)
    raise LookupError(f"no module {module}")
