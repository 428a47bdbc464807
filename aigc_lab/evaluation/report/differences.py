"""In which keys of their configurations runs differ."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

PLACES = ("run_id", "paths")
"""Where a run stands on some machine; says nothing about it."""
HIDDEN = "•••"

_SECRET = re.compile(
    r"(^|[._-])(token|secrets?|passw(or)?d|passphrase|credentials?|auth|(api|access|secret|private)_?key)$", re.I
)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")


def config_differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[str | None]]:
    """key -> its value in each configuration, as JSON; None where it has no such key. Secrets are hidden."""
    leaves = [dict(_leaves(config, "")) for config in configs]
    keys = dict.fromkeys(key for found in leaves for key in found)
    rows = {key: [found.get(key) for found in leaves] for key in keys if key.split(".")[0] not in PLACES}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def without_secrets(command: Sequence[str]) -> list[str]:
    """A command line with the values of secret keys and the logins of addresses hidden."""
    shown = []
    for word in command:
        key, equals, _ = word.partition("=")
        shown.append(f"{key}={HIDDEN}" if equals and _SECRET.search(key) else _LOGIN.sub(f"{HIDDEN}@", word))
    return shown


def _leaves(node: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(node, Mapping) and node:
        return [
            leaf for name, child in node.items() for leaf in _leaves(child, f"{key}.{name}" if key else str(name))
        ]
    if _SECRET.search(key):
        return [(key, HIDDEN)]
    return [(key, _LOGIN.sub(f"{HIDDEN}@", json.dumps(node, ensure_ascii=False)))]
