"""What is kept of a corpus below `paths.cache_dir`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aigc_lab.errors import UserError


@contextmanager
def keeping(path: Path) -> Iterator[None]:
    """Around what is written to the cache; the folder is made.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"paths.cache_dir: cannot write {path}: {error.strerror}") from None
