"""aigc_lab: a multimodal lab for generative models."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["UserError", "__version__", "load"]

if TYPE_CHECKING:
    from aigc_lab.errors import UserError
    from aigc_lab.generators import load

_LAZY = {"load": "aigc_lab.generators", "UserError": "aigc_lab.errors"}


def __getattr__(name: str) -> Any:
    """Import on first use: torch takes seconds, and `aigc --help` must not wait for it (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
