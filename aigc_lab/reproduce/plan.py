"""What reproducing an experiment will take; everything that can be wrong is found here, without torch."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from aigc_lab.config.compose import Composer
from aigc_lab.config.schema import Claims, Config, nearest
from aigc_lab.errors import UserError
from aigc_lab.sweep import sweep_id


@dataclass(frozen=True)
class Planned:
    """One seed of one variant.

    Attributes:
        variant: its name; empty where there is only one, without a name.
        config: of its run, without claims.
        first: the configuration of the run that it begins as; None where it begins anew.
    """

    variant: str
    seed: int
    config: Config
    first: Config | None = None

    @property
    def label(self) -> str:
        return f"{self.variant} seed {self.seed}".strip()


@dataclass(frozen=True)
class Plan:
    """A reproduction.

    Attributes:
        root: the folder below which results and the ledger are written.
        trials: by variant, then by seed.
        trainer: option of the group `trainer` that it trains with; None for the experiment's own.
    """

    name: str
    claims: Claims
    quick: bool
    root: Path
    trials: list[Planned]
    trainer: str | None = None

    @property
    def command(self) -> str:
        trainer = f" --trainer {self.trainer}" if self.trainer else ""
        return f"aigc reproduce {self.name}{' --quick' if self.quick else ''}{trainer}"

    @property
    def seeds(self) -> list[int]:
        return self.claims.quick.seeds if self.quick else self.claims.seeds

    @property
    def results_path(self) -> Path:
        """A quick result has a file of its own, so that it never replaces a full one."""
        return results_path(self.root, self.name, quick=self.quick)

    @property
    def figure_path(self) -> Path:
        return figure_path(self.root, self.name, quick=self.quick)


def results_path(root: Path, name: str, *, quick: bool) -> Path:
    return root / f"{name}{'.quick' if quick else ''}.results.json"


def figure_path(root: Path, name: str, *, quick: bool) -> Path:
    """What a measure has drawn of the results stands beside them."""
    return results_path(root, name, quick=quick).with_suffix(".png")


def make_plan(
    composer: Composer, name: str, *, quick: bool, runs_dir: str | None = None, trainer: str | None = None
) -> Plan:
    """
    Raises:
        UserError: there is no such experiment or trainer, it makes no claims, it trains no run that a trainer
            could be for, or one of its variants does not compose.
    """
    options = composer.options("experiment")
    if name not in options:
        raise UserError(f"experiment: no option '{name}'{nearest(name, options)}")
    base = [f"experiment={name}", *([f"paths.runs_dir={runs_dir}"] if runs_dir else [])]
    if quick and (claims := composer.reproduction(base).claims) is not None:
        base += claims.quick.overrides
    base += [f"trainer={trainer}"] if trainer else []  # the last choice of a group is the one that counts
    claims = composer.reproduction(base).claims
    if claims is None:
        raise UserError(f"{name} makes no claims; these do: {', '.join(composer.with_claims()) or 'none'}")
    if trainer and not claims.trains:
        raise UserError(
            f"--trainer {trainer}: {name} trains no run, and its measures run on the CPU; leave it out"
        )
    seeds = claims.quick.seeds if quick else claims.seeds
    # all but the experiment, and its claims: nobody judges the run before
    before = [*(claims.first or []), *(o for o in base[1:] if not o.startswith("claims."))]
    first = {seed: _planned(composer, "", seed, before).config for seed in seeds if claims.first}
    trials = [
        _planned(composer, variant, seed, [*base, *overrides], first.get(seed))
        for variant, overrides in (claims.variants or {"": []}).items()
        for seed in seeds
    ]
    return Plan(name, claims, quick, composer.results_root(name), trials, trainer)


def _planned(
    composer: Composer, variant: str, seed: int, overrides: list[str], first: Config | None = None
) -> Planned:
    if first is not None:
        overrides = [*overrides, f"model.run={Path(first.paths.runs_dir, first.name, str(first.run_id))}"]
    try:
        config = composer.reproduction([*overrides, f"seed={seed}"]).model_copy(update={"claims": None})
    except UserError as error:
        raise UserError(f"claims.variants.{variant}: {error}" if variant else str(error)) from None
    digest = sha256(sweep_id(config).encode()).hexdigest()[:8]  # another setting is another run
    run_id = f"{variant}-" * bool(variant) + f"seed{seed}-{digest}"
    return Planned(variant, seed, config.model_copy(update={"run_id": run_id}), first)
