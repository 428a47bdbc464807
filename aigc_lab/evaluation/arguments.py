"""What a user may name on the command line of `evaluate` and `compare`; checked without importing torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from aigc_lab.config.compose import Composer
from aigc_lab.config.schema import EvaluateConfig, nearest
from aigc_lab.errors import UserError
from aigc_lab.run import Run
from aigc_lab.scores import read_scores

CONTROL = "control:"
SAMPLE_CONTROLS = ("oracle", "copycat", "noisy_copycat", "baseline", "noise")
"""Controls that are generators."""
FEATURE_CONTROLS = ("halves", "dropped_mode", "gaussian")
"""Controls that are made of features: they have no samples to look at."""
CONTROL_NAMES = ("oracle", "halves", "copycat", "noisy_copycat", "dropped_mode", "gaussian", "baseline", "noise")
MAIN_CONTROLS = ("oracle", "copycat", "baseline", "noise")
"""Those that stand in the table on the terminal."""
PERFECT = ("oracle", "halves")
"""Controls without a fault."""


def split_arguments(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """(subjects, overrides): what has an `=` and is no existing path is an override.

    Raises:
        UserError: a control is unknown.
    """
    subjects: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        is_override = "=" in argument and not Path(argument).exists()
        (overrides if is_override else subjects).append(argument)
    for subject in subjects:
        name = subject.removeprefix(CONTROL)
        if subject.startswith(CONTROL) and name not in CONTROL_NAMES:
            raise UserError(f"no control '{name}'{nearest(name, list(CONTROL_NAMES))}")
    if not subjects:
        raise UserError("name at least one run directory or control, e.g. control:oracle --data digits")
    return subjects, overrides


def check_subjects(
    composer: Composer, arguments: Sequence[str], data: str | None
) -> tuple[list[str], EvaluateConfig]:
    """Everything that can be wrong with a command line, before torch is imported.

    Raises:
        UserError: a run cannot be opened, or an override is wrong.
    """
    subjects, overrides = split_arguments(arguments)
    for subject in subjects:
        if not subject.startswith(CONTROL):
            run = Run.open(subject)
            run.config()
            run.record()
            read_scores(run.results_path)
            if not run.weights_path.is_file():
                raise UserError(f"{subject}: has no weights yet; finish it with `aigc resume {subject}`")
    has_data = data is not None or any(o.startswith(("data=", "data.")) for o in overrides)
    if not has_data and all(s.startswith(CONTROL) for s in subjects):
        raise UserError(f"{subjects[0]}: name the data with --data, one of {', '.join(composer.options('data'))}")
    if has_data and not any(s.startswith(CONTROL) for s in subjects):
        given = f"--data={data}" if data else next(o for o in overrides if o.startswith(("data=", "data.")))
        raise UserError(f"{given}: is for controls, and a run brings its own data; leave it out or name a control")
    config = composer.evaluate([*([f"data={data}"] if data else []), *overrides])
    cache = Path(config.paths.cache_dir).expanduser()
    if blocking := next((path for path in (cache, *cache.parents) if path.is_file()), None):
        raise UserError(f"paths.cache_dir={cache}: {blocking} is a file; name a folder")
    return subjects, config
