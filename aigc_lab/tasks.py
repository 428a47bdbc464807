"""What `aigc write` asks a model for: prompt templates by task, conf/write/TASK.jinja."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import StrictUndefined, UndefinedError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aigc_lab.config.schema import nearest
from aigc_lab.errors import UserError


def templates(folders: Sequence[Path]) -> dict[str, Path]:
    """The file of each task; the first folder that has one counts."""
    found = [path for folder in reversed(folders) for path in sorted(folder.glob("write/*.jinja"))]
    return {path.stem: path for path in found}


def prompt(task: str, fields: Mapping[str, str], folders: Sequence[Path]) -> str:
    """A task's template filled in.

    Raises:
        UserError: there is no such task, a field is missing or unknown, or the template cannot be read.
    """
    known = templates(folders)
    if task not in known:
        raise UserError(f"--task {task}: no such task{nearest(task, list(known))}")
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True)
    try:
        source = known[task].read_text(encoding="utf-8")
        names = meta.find_undeclared_variables(environment.parse(source))
        if unknown := sorted(fields.keys() - names):
            raise UserError(f"--field {unknown[0]}: {task} has no such field{nearest(unknown[0], list(names))}")
        text = environment.from_string(source).render(fields)
    except UndefinedError as error:
        missing = sorted(name for name in names - fields.keys() if f"'{name}'" in str(error))
        if missing:
            name = missing[0]
            raise UserError(f"--task {task}: the field '{name}' is missing; give --field {name}=...") from None
        raise UserError(f"{known[task]}: {_first_line(error)}") from None
    except UserError:
        raise
    except Exception as error:  # whatever the user's template does
        raise UserError(f"{known[task]}: cannot be filled in ({_first_line(error)})") from None
    return text.strip()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
