"""Hydra's grammar and composition, with answers of one line. The only module that imports Hydra."""

import re
from collections.abc import Collection, Sequence
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, ValueType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from aigc_lab.config.schema import Config, EvaluateConfig, check, nearest
from aigc_lab.config.signature import signature
from aigc_lab.errors import UserError


def _folder(name: str) -> Path:
    """conf/ or experiments/: inside the package in a wheel, at the top of the repository in a checkout."""
    package = _package()
    return package / name if (package / name).is_dir() else package.parent / name


def _package() -> Path:
    return Path(str(files("aigc_lab")))


class _ExperimentSource(FileConfigSource):
    """Serves the folder experiments/ as the Hydra group `experiment`."""

    @staticmethod
    def scheme() -> str:
        return "experiments"

    def load_config(self, config_path: str) -> ConfigResult:
        return super().load_config(self._below(config_path))

    def is_group(self, config_path: str) -> bool:
        return self._is_ours(config_path) and super().is_group(self._below(config_path))

    def is_config(self, config_path: str) -> bool:
        return self._is_ours(config_path) and super().is_config(self._below(config_path))

    def list(self, config_path: str, results_filter: Any) -> list[str]:
        return super().list(self._below(config_path), results_filter)

    @staticmethod
    def _is_ours(path: str) -> bool:
        return path in ("", "experiment") or path.startswith("experiment/")

    @staticmethod
    def _below(path: str) -> str:
        return path.removeprefix("experiment").removeprefix("/")


Plugins.instance().register(_ExperimentSource)


def _model_of(run: str, part: str | None = None) -> Any:
    """`${model_of:RUN}`: a run's model, without what it was trained with on top (adapters, a run before it), or
    with `${model_of:RUN,KEY}` a part of it.

    Raises:
        UserError: there is no such run, or its model has no such part.
    """
    path = Path(run, "config.yaml")
    try:
        model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
        model = model.get("base", model)
        whole = OmegaConf.create({str(key): value for key, value in model.items() if key != "adapters"})
    except FileNotFoundError:
        raise UserError(f"model.run={run}: no such run directory") from None
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as a run's configuration ({_one_line(error)})") from None
    if part is None:
        return whole
    if part not in whole:
        raise UserError(f"model.run={run}: its model has no {part}")
    return whole[part]


OmegaConf.register_new_resolver("model_of", _model_of, replace=True)


class Composer:
    """Composes configurations from conf/, experiments/ and, before both, a folder of the user's own."""

    def __init__(self, config_dir: str | None = None) -> None:
        """
        Raises:
            UserError: `config_dir` is not a folder.
        """
        if config_dir is not None and not Path(config_dir).is_dir():
            raise UserError(f"--config-dir={config_dir}: no such folder")
        self.conf, self.experiments = _folder("conf"), _folder("experiments")
        self.own = Path(config_dir).resolve() if config_dir else None

    def train(self, overrides: Sequence[str]) -> Config:
        """The checked configuration of one run.

        Raises:
            UserError: an override, a file or a value is wrong, or the experiment trains nothing.
        """
        config = self.reproduction(overrides)
        if config.claims is not None and not config.claims.trains:
            raise UserError(f"{config.name} trains nothing; judge its claims with `aigc reproduce {config.name}`")
        return config

    def reproduction(self, overrides: Sequence[str]) -> Config:
        """The checked configuration of an experiment, whether it trains or not.

        Raises:
            UserError: an override, a file or a value is wrong.
        """
        tree, choices = self._compose("train", overrides)
        if tree.get("name") is None:
            tree["name"] = choices.get("experiment") or f"{choices['data']}_{choices['model']}"
        return check(tree, Config)

    def evaluate(self, overrides: Sequence[str]) -> EvaluateConfig:
        """The checked configuration of an evaluation.

        Raises:
            UserError: as for `train`.
        """
        return check(self._compose("evaluate", _with_counts(overrides))[0], EvaluateConfig)

    def sweep(self, overrides: Sequence[str]) -> list[list[str]]:
        """Expand comma lists, ranges and globs into one list of overrides per run, in order.

        Raises:
            UserError: an override cannot be read, or a glob matches nothing.
        """
        axes: list[list[str]] = []
        for override in _parse(overrides):
            assert override.input_line is not None
            if not override.is_sweep_override():
                axes.append([override.input_line])
                continue
            key = override.get_key_element()
            if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
                glob = override.value()
                assert isinstance(glob, Glob)
                options = self.options(override.key_or_group)
                values = glob.filter(options)
                if not values:
                    raise UserError(f"{override.input_line}: matches none of {', '.join(options)}")
            else:
                values = list(override.sweep_string_iterator())
            axes.append([f"{key}={value}" for value in values])
        return [list(run) for run in product(*axes)]

    def options(self, group: str) -> list[str]:
        """The names that `group=` accepts; for experiments with their area (`image/digits_gan`)."""
        folders = [self.conf / group] + ([self.own / group] if self.own else [])
        deep = group == "experiment"
        if deep:
            folders.append(self.experiments)
        found = {
            path.relative_to(folder).with_suffix("").as_posix()
            for folder in folders
            for path in folder.glob("**/*.yaml" if deep else "*.yaml")
        }
        return sorted(found)

    def experiment_file(self, name: str) -> Path:
        """The file of an experiment that `options` lists; the user's own folder comes first."""
        folders = [*([self.own / "experiment"] if self.own else []), self.experiments]
        return next(path for folder in folders if (path := folder / f"{name}.yaml").is_file())

    def results_root(self, name: str) -> Path:
        """Where results of an experiment are written: beside its file, but never into an installed package."""
        root = self.experiment_file(name).parents[name.count("/")]
        return Path("experiments").absolute() if root == _package() / "experiments" else root

    def with_claims(self) -> list[str]:
        """The experiments that `aigc reproduce` accepts."""
        texts = {name: self.experiment_file(name).read_bytes() for name in self.options("experiment")}
        return [name for name, text in texts.items() if re.search(rb"^claims:", text, re.MULTILINE)]

    def groups(self) -> list[str]:
        """Every group, nested ones included: `model`, `model/generator`, `experiment`, ..."""
        roots = [self.conf] + ([self.own] if self.own else [])
        found = {p.parent.relative_to(root).as_posix() for root in roots for p in root.glob("**/*.yaml")}
        return sorted((found | {"experiment"}) - {"."})

    def _compose(self, root: str, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str | None]]:
        for override in _parse(overrides):
            self._check_override(override)
        overrides = [self._without_null(override) for override in _parse(overrides)]
        parsed = _parse(overrides)
        groups = [o for o in parsed if self._is_group(o)]
        with_groups, chosen = self._hydra(root, [str(o.input_line) for o in groups])
        replaced = [o.key_or_group for o in groups if not o.is_add()]
        _drop_leftovers(with_groups, replaced)
        for override in parsed:
            if override not in groups and not override.is_add() and not override.is_force_add():
                _check_key(override, with_groups, [group for group in chosen if "/" not in group])
        composed, choices = self._hydra(root, overrides)
        _drop_leftovers(composed, replaced)
        try:
            if missing := sorted(OmegaConf.missing_keys(composed)):
                raise UserError(f"{missing[0]}: a value is missing; give {missing[0]}=...")
            tree = OmegaConf.to_container(composed, resolve=True)
        except OmegaConfBaseException as error:
            raise _refusal(error) from None
        assert isinstance(tree, dict)
        return {str(k): v for k, v in tree.items()}, choices

    def _hydra(self, root: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str | None]]:
        search = [f"experiments://{self.experiments}"]
        if self.own:
            search.insert(0, f"file://{self.own}")
        search_path = f"hydra.searchpath=[{','.join(repr(s) for s in search)}]"
        try:
            with initialize_config_dir(str(self.conf), version_base="1.3"):
                composed = hydra_compose(root, [search_path, *overrides], return_hydra_config=True)
        except MissingConfigException as error:
            group, _, name = str(error.missing_cfg_file).rpartition("/")
            raise UserError(f"{group}: no option '{name}'{nearest(name, list(error.options or []))}") from None
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
            raise _refusal(error) from None
        choices = dict(composed.hydra.runtime.choices)
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        return composed, choices

    def _is_group(self, override: Override) -> bool:
        return override.key_or_group in self.groups()

    def _check_override(self, override: Override) -> None:
        key = override.key_or_group
        if key.split(".")[0] == "hydra":
            raise UserError(f"{override.input_line}: hydra.* settings are not used by aigc")
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: several values make a sweep; add -m")
        value = override.value()
        option_of, groups = key.replace(".", "/"), self.groups()
        if "." in key and option_of in groups and isinstance(value, str):
            raise UserError(f"{override.input_line}: choose an option with a slash, {option_of}={value}")
        below = [group for group in groups if group.startswith(f"{option_of}/")]
        if below and option_of not in groups and isinstance(value, str):
            choices = [f"{g}={value}" for g in below if value in self.options(g)] or [f"{g}=..." for g in below]
            raise UserError(f"{override.input_line}: has no options of its own; give {' or '.join(choices)}")
        none = value is None and not override.is_delete() and not self._may_be_null(key)
        if self._is_group(override) and (none or isinstance(value, dict)):
            raise UserError(f"{override.input_line}: not an option{nearest('', self.options(key))}")
        if self._is_group(override) and isinstance(value, str) and value not in self.options(key):
            raise UserError(f"{key}: no option '{value}'{nearest(value, self.options(key))}")
        if key == "experiment" and isinstance(value, str):
            self._check_experiment(value)

    def _without_null(self, override: Override) -> str:
        """As Hydra has it: no option of a group is `~group`."""
        assert override.input_line is not None
        none = self._is_group(override) and not override.is_delete() and override.value() is None
        return f"~{override.key_or_group}" if none else override.input_line

    def _may_be_null(self, group: str) -> bool:
        """Whether a file of conf/ leaves the group without an option."""
        folder, _, name = group.rpartition("/")
        files = (self.conf / folder).glob("*.yaml")
        return any(re.search(rf"^  - {re.escape(name)}: null\b", path.read_text(), re.MULTILINE) for path in files)

    def _check_experiment(self, name: str) -> None:
        """Refuse a file that Hydra would misunderstand: its content would land below the key `experiment`."""
        path = self.experiment_file(name)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start})") from None
        if not _GLOBAL_PACKAGE.match(text):
            raise UserError(f"{path}: an experiment has to begin with the line '# @package _global_'")


def _with_counts(overrides: Sequence[str]) -> list[str]:
    """`evaluation=quick@1k`, a protocol as the tables name it, is `evaluation=quick evaluation.n=1000`."""
    expanded: list[str] = []
    for override in overrides:
        if found := _PROTOCOL.fullmatch(override):
            name, count, thousand = found.groups()
            expanded += [f"evaluation={name}", f"evaluation.n={int(count) * (1000 if thousand else 1)}"]
        else:
            expanded.append(override)
    return expanded


_PROTOCOL = re.compile(r"evaluation=(\w+)@(\d+)(k?)")

_GLOBAL_PACKAGE = re.compile(r"(\s*#.*\n)*?\s*#\s*@package\s+_global_\s*$", re.MULTILINE)


def _drop_leftovers(composed: DictConfig, replaced: Sequence[str]) -> None:
    """Of each group whose option the user has replaced, what an experiment sets that only its own option had: keys
    of a component that the new one does not take (`model.generator.width` of an mlp), and settings of components
    by name that are not there any more (`callbacks.pictures.n` of `callbacks=default`)."""
    for group in replaced:
        node = OmegaConf.select(composed, group.replace("/", "."), throw_on_missing=False)
        if not isinstance(node, DictConfig):
            continue
        if "_target_" in node:
            leftovers = [key for key in node if key not in _parameters(str(node["_target_"]), list(node))]
        else:
            parts = node.items_ex(resolve=False)
            leftovers = [key for key, part in parts if isinstance(part, DictConfig) and not _has_component(part)]
        for key in leftovers:
            del node[key]


def _has_component(node: DictConfig) -> bool:
    parts = (part for _, part in node.items_ex(resolve=False) if isinstance(part, DictConfig))
    return "_target_" in node or any(_has_component(part) for part in parts)


def _parameters(target: str, otherwise: Sequence[str]) -> Collection[str]:
    """What the keys of a component may be, or `otherwise` where any may be or there is no such component."""
    try:
        found = signature(target, typed=False)
    except LookupError:
        return otherwise
    return otherwise if found.is_open else {"_target_", *found.parameters}


def _check_key(override: Override, composed: DictConfig, groups: list[str]) -> None:
    """Refuse a key that the composed configuration does not have (Hydra would, without a suggestion)."""
    node: Any = OmegaConf.to_container(composed, resolve=False)
    parts = override.key_or_group.replace("/", ".").split(".")
    for i, part in enumerate(parts):
        valid = [str(key) for key in node] if isinstance(node, dict) else []
        if part not in valid:
            key = ".".join(parts[: i + 1])
            raise UserError(f"unknown key '{key}'{nearest(part, valid if i else [*valid, *groups])}")
        node = node[part]


def _parse(overrides: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        bad = next((o for o in overrides if not _readable(o)), overrides[0])
        hint = "" if "=" in bad else f"; give {bad}=VALUE"
        raise UserError(f"cannot read override '{_visible(bad)}'{hint or ': ' + _one_line(error)}") from None


def _visible(text: str) -> str:
    """On one line."""
    return text.replace("\n", "\\n")


def _readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _refusal(error: BaseException) -> UserError:
    """What the user is told: `_one_line`, or what a resolver of ours said, or which value it lacked."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, MissingMandatoryValue):
            key = str(cause).rpartition(": ")[2]
            return UserError(f"{key}: a value is missing; give {key}=...")
        cause = cause.__cause__ or cause.__context__
    return UserError(_one_line(error))


def _one_line(error: BaseException) -> str:
    """An exception with its causes, on one line and without Hydra's advice on stack traces."""
    parts = [" ".join(str(error).split())]
    while error.__cause__ is not None:
        error = error.__cause__
        text = " ".join(str(error).split())
        if text not in parts[-1]:
            parts.append(text)
    return ": ".join(parts)
