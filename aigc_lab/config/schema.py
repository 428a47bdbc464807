"""The root of a configuration and the check of everything below it, without importing torch.

Sections with fixed keys (trainer, paths, evaluation) are pydantic models here. Components, the nodes with
`_target_`, are checked against their constructor's own signature (`aigc_lab.config.signature`). Defaults
stand in conf/, once.
"""

import pathlib
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar, get_args

from annotated_types import Len, Lt
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    create_model,
    model_validator,
)

from aigc_lab.config.signature import Component, names, signature
from aigc_lab.config.targets import is_allowed, refusal
from aigc_lab.errors import UserError
from aigc_lab.types import NonNegativeFloat, NonNegativeInt, PositiveInt

Path = Annotated[str, StringConstraints(min_length=1)]


def _plain_words(value: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", value):
        raise ValueError("should be plain words (letters, digits, _ . -), with / between them")
    return value


Name = Annotated[str, AfterValidator(_plain_words)]
"""It becomes a folder below paths.runs_dir, which it can never leave."""


Seed = Annotated[NonNegativeInt, Lt(2**63)]
"""Of torch's generators, and of the database of results, whose integers have 64 bits."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _no_half(value: Any) -> Any:
    if str(value).removesuffix("-mixed").removesuffix("-true") in ("16", "float16", "fp16"):
        raise ValueError(
            "float16 needs its losses scaled, and one scale does not serve several optimizers and penalties on "
            "gradients; use bf16-mixed, which has float32's range"
        )
    return value


class Paths(Section):
    runs_dir: Path
    data_dir: Path
    cache_dir: Path

    @property
    def cache(self) -> pathlib.Path:
        """`cache_dir`, wherever ~ is."""
        return pathlib.Path(self.cache_dir).expanduser()


class Trainer(Section):
    """Names are Lightning's; `max_steps` and every interval count batches, whatever the optimizers do."""

    accelerator: Literal["cpu", "gpu"]
    devices: PositiveInt
    num_nodes: PositiveInt
    strategy: Literal["auto", "ddp", "fsdp"]
    precision: Annotated[Literal["32-true", "bf16-mixed", "bf16-true"], BeforeValidator(_no_half)]
    max_steps: NonNegativeInt
    gradient_clip_val: NonNegativeFloat | None
    micro_batches: PositiveInt
    compile: bool
    val_check_interval: PositiveInt
    limit_val_batches: NonNegativeInt
    log_every_n_steps: PositiveInt
    limit_train_items: PositiveInt | None
    deterministic: bool
    detect_anomaly: bool
    profiler: Literal["simple", "advanced"] | None
    num_threads: PositiveInt | None


FeatureKind = Literal["image", "unlabelled_image", "text"]


class Evaluation(Section):
    """A protocol: what is measured, on how many samples, with which features."""

    name: Annotated[str, StringConstraints(pattern=r"^[\w-]+$")]
    n: PositiveInt
    seed: Seed
    importance_samples: PositiveInt
    features: dict[FeatureKind, dict[str, Any]]
    judge: dict[str, Any]
    """An extractor that is a language model: what reads generated texts for fluency and coherence."""


class EvaluateConfig(Section):
    """The root of conf/evaluate.yaml: `data` is used by controls, a run brings its own."""

    data: dict[str, Any]
    evaluation: Evaluation
    paths: Paths


Word = Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")]


class Claim(Section):
    """A quantity that a measure gives, what is published of it, and the bounds that ours has to keep.

    Without a bound it is reported beside the published value and not judged.
    """

    quantity: Path
    source: Path
    """Where the published value stands, or why the bound is what it is."""
    variant: Word | None = None
    """None: a claim about every variant."""
    minus: Word | None = None
    """Judge the difference from this variant, seed by seed."""
    published: float | str | None = None
    at_least: float | None = None
    at_most: float | None = None
    within: NonNegativeFloat | None = None
    """Of the published value."""
    over: Literal["every seed", "mean", "interval"] = "every seed"
    """What has to keep the bounds: each seed's value, their mean, or the whole 95 % t interval of the mean."""

    @model_validator(mode="after")
    def _bounds_make_sense(self) -> "Claim":
        if self.within is not None and not isinstance(self.published, float | int):
            raise ValueError(f"quantity={self.quantity}: `within` needs a published number")
        if self.minus is not None and self.variant is None:
            raise ValueError(f"quantity={self.quantity}: `minus` needs a `variant` to subtract from")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(
                f"quantity={self.quantity}: nothing is at least {self.at_least} and at most {self.at_most}"
            )
        return self


def _component(value: Any) -> Any:
    """A node with `_target_`, or a mapping or a list of such."""
    inside = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list) and "_target_" not in value:
        for item in inside:
            _component(item)
    elif not isinstance(value, Mapping):
        raise ValueError("should be a component (a mapping with _target_)")
    return value


class Quick(Section):
    """What the short version changes; its verdicts are never those of the full one."""

    seeds: Annotated[list[Seed], Len(1)]
    overrides: list[str] = []


class Claims(Section):
    """What an experiment claims, and how `aigc reproduce` finds out; see docs/reproduce.md."""

    seeds: Annotated[list[Seed], Len(1)]
    quick: Quick
    measures: Annotated[dict[Word, dict[str, Any]], Len(1)]
    judged: Annotated[list[Claim], Len(1)]
    variants: Annotated[dict[Word, list[str]], Len(1)] | None = None
    """Overrides by name; None: one variant without a name and without overrides."""
    first: Annotated[list[str], Len(1)] | None = None
    """Overrides of the run that is trained before a seed's others, and which their `model.run` names."""
    protocol: Annotated[str, StringConstraints(pattern=r"^[^\n]+$")] | None = None
    """How the published values came about, and what is done otherwise here: one line of the ledger."""
    trains: bool = True
    """False: the measures train what they need, or there is nothing to train."""

    @model_validator(mode="after")
    def _variants_exist(self) -> "Claims":
        known = list(self.variants or {})
        for claim in self.judged:
            if claim.over == "interval" and len(self.seeds) == 1:
                raise ValueError(f"quantity={claim.quantity}: one seed has no interval; give `seeds` two or more")
            for name in (claim.variant, claim.minus):
                if name is not None and name not in known:
                    raise ValueError(f"quantity={claim.quantity}: no variant '{name}'{nearest(name, known)}")
        return self


class Config(Section):
    """The root of conf/train.yaml."""

    name: Name
    run_id: Name | None
    seed: Seed
    tags: list[str]
    paths: Paths
    trainer: Trainer
    data: dict[str, Any]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    logger: dict[str, Annotated[dict[str, Any], AfterValidator(_component)]]
    callbacks: dict[str, Annotated[dict[str, Any], AfterValidator(_component)]]
    launcher: dict[str, Any]
    selection: Annotated[str, StringConstraints(pattern=r"^[^\n]+$")] | None = None
    """What rates, steps and the like were chosen on, out of how many trials: one line beside a run's scores."""
    claims: Claims | None = None
    """Of an experiment with claims; runs do not keep them."""


Root = TypeVar("Root", bound=Section)

SUPPLIED: Mapping[str, frozenset[str]] = {
    "data": frozenset({"cache_dir"}),
    "model": frozenset({"plan", "shape", "vocab_size"}),
    "logger": frozenset({"save_dir"}),
    "callbacks": frozenset({"run_dir", "dataset"}),
}
"""Parameters that the lab supplies at run time to the components of a section; no key sets them."""


def check(tree: Mapping[str, Any], root: type[Root]) -> Root:
    """Check a composed configuration in full.

    Raises:
        UserError: one line that names the key, what is wrong with it and what would be right.
    """
    try:
        checked = root.model_validate(tree)
    except ValidationError as error:
        raise UserError(_explain(error, root, "")) from None
    for path, node in _components(tree, ""):
        _check_component(path, node)
    return checked


def nearest(word: str, valid: list[str]) -> str:
    """`; did you mean 'x'?` and the valid choices, for the end of an error line."""
    close = get_close_matches(word, valid, n=1, cutoff=0.5)
    suggestion = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{suggestion} valid: {', '.join(sorted(set(valid))) or 'none'}"


def _components(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _components(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _components(value, f"{path}[{i}]")


def _check_component(path: str, node: Mapping[str, Any]) -> None:
    target = node["_target_"]
    if not isinstance(target, str) or not is_allowed(target):
        raise UserError(f"{path}._target_: {refusal(str(target))}")
    module, _, name = target.rpartition(".")
    try:
        found = signature(target, typed=not target.startswith(("torch.", "pytorch_lightning.")))
    except LookupError:
        raise UserError(f"{path}._target_: no '{name}' in {module}{nearest(name, names(module))}") from None
    supplied = SUPPLIED.get(path.partition(".")[0], frozenset())
    fields: dict[str, Any] = {
        key: (_component_or(p.annotation), ... if p.required else None)
        for key, p in found.parameters.items()
        if key not in supplied
    }
    extra: Literal["allow", "forbid"] = "allow" if found.is_open else "forbid"
    model = create_model(name, __config__=ConfigDict(extra=extra, protected_namespaces=()), **fields)
    try:
        model.model_validate({k: v for k, v in node.items() if k != "_target_"})
    except ValidationError as error:
        raise UserError(_explain(error, model, path)) from None


def _component_or(annotation: Any) -> Any:
    """A value that is itself a component is checked on its own; here it only has to be one."""
    return Annotated[Any, AfterValidator(_component)] if annotation is Component else annotation


def _explain(error: ValidationError, model: type[BaseModel], path: str) -> str:
    """The first error of pydantic's list as one line."""
    first = error.errors(include_url=False)[0]
    # a union reports each of its branches as a part of the location: keep what the user wrote
    location = [str(part) for part in first["loc"] if not isinstance(part, str) or part.isidentifier()]
    if first["type"] == "extra_forbidden" and location[-1:] != [first["loc"][-1]]:
        location.append(str(first["loc"][-1]))  # whatever it is, the user wrote it
    key = ".".join(([path] if path else []) + location)
    if first["type"] == "extra_forbidden":
        for part in location[:-1]:
            if part in model.model_fields:  # not the index in a list
                model = _section_in(model.model_fields[part].annotation)
        return f"unknown key '{key}'{nearest(location[-1], list(model.model_fields))}"
    if first["type"] == "missing" and isinstance(first["loc"][-1], int):
        return f"{key.rpartition('.')[0]}={_shown(first['input'])}: should have more values"
    if first["type"] == "missing":
        return f"{key}: a value is missing; give {key}=..."
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    return f"{key}={_shown(first['input'])}: {message}"


def _section_in(annotation: Any) -> type[BaseModel]:
    """The section that an annotation such as `Section | None` or `list[Section]` is about."""
    parts = (annotation, *get_args(annotation))
    return next(part for part in parts if isinstance(part, type) and issubclass(part, BaseModel))


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
