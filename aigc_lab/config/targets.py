"""The allow-list: which classes a configuration may name in `_target_`, and how they are built.

A configuration can come from a stranger's run directory, so it may only choose among classes of the lab,
of `torch.optim` and of Lightning's callbacks and loggers, never a function. The name is
checked before anything is imported, and the object it resolves to again before it is called: an alias
cannot smuggle in what it points to.
"""

import importlib
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from aigc_lab.errors import UserError

ROOMS = (
    "aigc_lab.callbacks.",
    "aigc_lab.data.",
    "aigc_lab.evaluation.features.",
    "aigc_lab.launchers.",
    "aigc_lab.modules.",
    "aigc_lab.nets.",
    "aigc_lab.objectives.",
    "aigc_lab.optimizers.",
    "aigc_lab.reproduce.",
    "pytorch_lightning.callbacks.",
    "pytorch_lightning.loggers.",
    "torch.optim.",
)


def rooms() -> tuple[str, ...]:
    """The allowed prefixes: `ROOMS` and the packages that the user trusts in `AIGC_TRUST` (comma list)."""
    return ROOMS + tuple(f"{p.strip()}." for p in os.environ.get("AIGC_TRUST", "").split(",") if p.strip())


def is_allowed(target: str) -> bool:
    return target.startswith(rooms())


def refusal(target: str) -> str:
    return (
        f"'{target}' is not an allowed target; allowed: {', '.join(r + '*' for r in ROOMS)} "
        "(to build from a package of your own, name it in the environment variable AIGC_TRUST)"
    )


def resolve(target: str) -> Any:
    """Import the class that `target` names.

    Raises:
        UserError: it is not on the allow-list, under its given name or under its own, or does not exist.
    """
    if not is_allowed(target):
        raise UserError(refusal(target))
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"cannot find target '{target}': {error}") from error
    own = f"{getattr(found, '__module__', '?')}.{getattr(found, '__qualname__', '?')}"
    if not inspect.isclass(found):
        raise UserError(f"'{target}' is not a class")
    if not is_allowed(own):
        raise UserError(refusal(own))
    return found


def is_component(node: Any) -> bool:
    return isinstance(node, Mapping) and "_target_" in node


def fills(role: Any, part: Any) -> bool:
    """Whether an object can stand for a parameter annotated with a class, or has all that a protocol names."""
    if get_origin(role) in (Union, UnionType):
        return any(fills(choice, part) for choice in get_args(role))
    if not inspect.isclass(role):
        return True
    if not getattr(role, "_is_protocol", False):
        return isinstance(part, role)
    public = (name for name in vars(role) if not name.startswith("_") or name == "__call__")
    return all(hasattr(part, name) for name in public)


def _components(node: Any, part: Any, role: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """(path, built, annotation) of a component, or of those in a mapping by name or in a list."""
    if is_component(node):
        yield path, part, role
    elif isinstance(node, Mapping) and get_origin(role) in (dict, Mapping):
        for key in node:
            yield from _components(node[key], part[key], get_args(role)[1], f"{path}.{key}")
    elif isinstance(node, list | tuple) and get_origin(role) in (list, Sequence):
        for i, item in enumerate(node):
            yield from _components(item, part[i], get_args(role)[0], f"{path}[{i}]")


def _called(role: Any) -> str:
    """A class as the user may know it."""
    choices = [choice for choice in get_args(role) if choice is not NoneType] or [role]
    return " or ".join(choice.__name__ for choice in choices)


def build(node: Any, *, path: str = "", supplied: Mapping[str, Any] | None = None) -> Any:
    """Build a configuration node: every mapping with `_target_` becomes the object it describes.

    `supplied` holds values known only at run time (the shape of the data, the optimizer): each constructor,
    however deep, receives those that it has a parameter for.

    Raises:
        UserError: a target is refused or a constructor rejects its values; the message starts with `path`.
    """
    supplied = supplied or {}
    if isinstance(node, Mapping):
        built = {
            key: build(value, path=f"{path}.{key}" if path else key, supplied=supplied)
            for key, value in node.items()
            if key != "_target_"
        }
        if "_target_" not in node:
            return built
        factory = resolve(node["_target_"])
        wanted = inspect.signature(factory).parameters
        for key in wanted.keys() & built.keys():
            for where, part, role in _components(node[key], built[key], wanted[key].annotation, f"{path}.{key}"):
                if not fills(role, part):
                    raise UserError(f"{where}: {type(part).__name__} cannot take the place of {_called(role)}")
        try:
            return factory(**built, **{k: v for k, v in supplied.items() if k in wanted})
        except (ValueError, TypeError, ImportError) as error:
            raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    if isinstance(node, list | tuple):
        return [build(value, path=f"{path}[{i}]", supplied=supplied) for i, value in enumerate(node)]
    return node
