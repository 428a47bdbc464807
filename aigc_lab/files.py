"""Writing files so that a reader, or a run killed half-way, never sees half a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from aigc_lab.errors import UserError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write to a temporary file in the same folder, flush it to the disk, rename it over `path`."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write in pieces; it takes the place of `path` when the block ends, as in `write_atomically`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_output(path: Path, example: str) -> None:
    """Before minutes are spent on it.

    Raises:
        UserError: a file could not be written there.
    """
    folder = next(p for p in (path.absolute().parent, *path.absolute().parent.parents) if p.exists())
    if path.is_dir():
        raise UserError(f"--output {path} is a folder: give a file, e.g. {path / example}")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--output {path}: {folder} is no folder that can be written to")


def remove_temporaries(folder: Path) -> None:
    """Remove what `write_atomically` left behind where a process was killed."""
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)
