"""Many runs from one command: expanded and checked before the first starts, one process each, resumable."""

import json
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from aigc_lab.config.compose import Composer
from aigc_lab.config.schema import Config
from aigc_lab.config.targets import build
from aigc_lab.errors import UserError
from aigc_lab.launchers import Job
from aigc_lab.run import Run


def sweep(composer: Composer, overrides: Sequence[str], config_dir: str | None) -> int:
    """Train every combination that is not finished yet, and continue those that were interrupted.

    A run's id is a hash of its configuration, so repeating the command finds the same runs again.

    Returns:
        0, or 1 when a run failed; the others are trained all the same.

    Raises:
        UserError: a configuration is wrong; nothing has been started then.
    """
    if any(override.lstrip("+").startswith("run_id=") for override in overrides):
        raise UserError("run_id: a sweep names its runs itself; leave it out, or use name=...")
    checked = [(combination, composer.train(combination)) for combination in composer.sweep(overrides)]
    if not checked:
        raise UserError("the sweep is empty: a range or a list has no value")
    different = {sweep_id(config): (combination, config) for combination, config in checked}
    combinations, configs = zip(*different.values(), strict=True)
    pending: list[tuple[Path, Job]] = []
    for combination, config in zip(combinations, configs, strict=True):
        path = Path(config.paths.runs_dir, config.name, sweep_id(config)).absolute()
        if path.exists() and Run.open(path).status() == "finished":
            print(f"aigc: finished already: {path}", file=sys.stderr)
            print(f"run: {path}")
        else:
            pending.append((path, Job(command=_command(combination, config, config_dir), trainer=config.trainer)))
    print(f"aigc: sweep of {len(configs)} runs, {len(pending)} to train ...", file=sys.stderr, flush=True)
    launch = build(configs[0].launcher, path="launcher")
    failed = 0
    for i, code in launch([job for _, job in pending], log_dir=Path(configs[0].paths.runs_dir, "jobs").absolute()):
        path = pending[i][0]
        if code:
            failed += 1
            print(f"aigc: failed with exit code {code}: {path}", file=sys.stderr, flush=True)
        else:
            print(f"run: {path}", flush=True)
    return 1 if failed else 0


def sweep_id(config: Config) -> str:
    """A run's name within sweeps: a hash of everything that shapes its result."""
    shaping = config.model_dump(exclude={"paths", "launcher", "run_id", "name", "tags", "selection", "claims"})
    return f"sweep-{sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]}"


def _command(combination: Sequence[str], config: Config, config_dir: str | None) -> list[str]:
    """The command of one run; what launches it is left out, so that it trains where it is started."""
    own = [o for o in combination if not o.lstrip("+~").startswith(("launcher=", "launcher."))]
    options = ["--continue", *(["--config-dir", config_dir] if config_dir else [])]
    return [sys.executable, "-m", "aigc_lab", "train", *options, *own, f"run_id={sweep_id(config)}"]
