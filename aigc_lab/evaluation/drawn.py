"""What a generator has drawn for its evaluation, kept so that other metrics and features need no new samples."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from torch import Tensor

from aigc_lab.data.samples import Images, Samples, Texts
from aigc_lab.data.spec import DataSpec
from aigc_lab.evaluation.completions import Completion
from aigc_lab.evaluation.effort import Effort
from aigc_lab.evaluation.safety import pronoun_pairs
from aigc_lab.files import write_atomically
from aigc_lab.generators import Cost, LogLikelihood


@dataclass(frozen=True)
class Spent:
    """What sampling took, of n samples at once.

    Attributes:
        seconds: wall time per sample.
        peak_memory: highest resident size of the process meanwhile, in bytes; None where it cannot be told from
            what came before.
        peak_gpu_memory: highest size of torch's allocations on the GPU, in bytes; None without one.
        kwh: energy per sample of the whole machine; None where no counter is readable.
    """

    seconds: float
    peak_memory: int | None = None
    peak_gpu_memory: int | None = None
    kwh: float | None = None

    @classmethod
    def of(cls, effort: Effort, n: int) -> "Spent":
        memory = effort.peak_memory if effort.peak_memory_of == "the work" else None
        kwh = effort.energy.kwh
        return cls(effort.seconds / n, memory, effort.peak_gpu_memory, None if kwh is None else kwh / n)


@dataclass(frozen=True)
class Drawn:
    """What a generator says when the harness asks.

    Attributes:
        likelihood: of the held-out items; None where it has none.
        cost, spent: of one sample.
        own: likelihood of its own samples; None where it has none, or the samples are images.
        completions: of the harness's prompts; none where it cannot continue.
        pronouns: see `Reading`.
        asked: the class that each sample was to be of, int64 [n]; None where none was asked for.
    """

    samples: Samples
    likelihood: LogLikelihood | None
    cost: Cost
    spent: Spent
    own: LogLikelihood | None = None
    completions: Sequence[Completion] = ()
    pronouns: Tensor | None = None
    asked: Tensor | None = None

    def save(self, path: Path, *, key: str) -> None:
        """Write everything to one safetensors file; `key` says what it was drawn from."""
        tensors = _tensors(self.samples)
        metadata = {"key": key, "cost": json.dumps(asdict(self.cost)), "spent": json.dumps(asdict(self.spent))}
        completions = [[getattr(c, name).decode(BYTES) for name in _PARTS] for c in self.completions]
        metadata["completions"] = json.dumps(completions)
        for name, likelihood in {"likelihood": self.likelihood, "own": self.own}.items():
            if likelihood is not None:
                tensors |= {f"{name}.nats": likelihood.nats, f"{name}.n_bytes": likelihood.n_bytes}
                metadata[name] = likelihood.kind
                if likelihood.n_symbols is not None:
                    tensors[f"{name}.n_symbols"] = likelihood.n_symbols
                    metadata[f"{name}.window"] = str(likelihood.window)
        optional = {"pronouns": self.pronouns, "asked": self.asked}
        tensors |= {name: tensor for name, tensor in optional.items() if tensor is not None}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, safetensors.torch.save(tensors, metadata=metadata))

    @classmethod
    def load(cls, path: Path, *, key: str, spec: DataSpec, n: int) -> "Drawn":
        """What was drawn from `key`: n items of data of this description.

        Raises:
            OSError, ValueError: it is missing, damaged, or something else.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if metadata.get("key") != key:
                raise ValueError(f"{path}: drawn from {metadata.get('key')}")
            samples = _samples(tensors)
            if not _is_of(samples, spec, n) or not _is_whole(tensors, spec, n):
                raise ValueError(f"{path}: not {n} samples of {spec.name}")
            return cls(
                samples,
                _likelihood("likelihood", metadata, tensors),
                TypeAdapter(Cost).validate_json(metadata["cost"]),
                TypeAdapter(Spent).validate_json(metadata["spent"]),
                _likelihood("own", metadata, tensors),
                [
                    Completion(*(part.encode(BYTES) for part in parts))
                    for parts in TypeAdapter(list[tuple[str, str, str]]).validate_json(metadata["completions"])
                ],
                tensors.get("pronouns"),
                tensors.get("asked"),
            )
        except (SafetensorError, KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from None


BYTES = "latin-1"
"""Each byte as the character of its number: what JSON can hold."""
_PARTS = ("given", "real", "generated")


def _tensors(samples: Samples) -> dict[str, Tensor]:
    if isinstance(samples, Images):
        return {"pixels": samples.pixels, "levels": torch.tensor(samples.levels)}
    assert isinstance(samples, Texts)
    text = b"".join(samples.passages)
    return {
        "text": torch.from_numpy(np.frombuffer(bytearray(text), np.uint8)),  # torch.frombuffer wants a byte
        "lengths": torch.tensor(samples.bytes_per_item()),
    }


def _samples(tensors: Mapping[str, Tensor]) -> Samples:
    if "pixels" in tensors:
        return Images(tensors["pixels"], int(tensors["levels"]))
    parts = tensors["text"].split(tensors["lengths"].tolist())
    return Texts([bytes(part.numpy()) for part in parts])


def _is_of(samples: Samples, spec: DataSpec, n: int) -> bool:
    """Whether these are n items of such data."""
    if not isinstance(samples, Images):
        return spec.modality == "text" and len(samples) == n
    pixels, levels = samples.pixels, samples.levels
    return pixels.shape == (n, *spec.shape) and levels == spec.vocab_size and int(pixels.amax()) < levels


def _is_whole(tensors: Mapping[str, Tensor], spec: DataSpec, n: int) -> bool:
    """Whether what is said of the samples, and of held-out items, is said of each."""
    n_held_out = len(tensors.get("likelihood.nats", ()))
    sizes = {"likelihood.": n_held_out, "own.": n, "asked": n, "pronouns": len(pronoun_pairs())}
    asked = tensors.get("asked")
    return (
        all(tensors[name].dtype == torch.uint8 for name in ("pixels", "text") if name in tensors)
        and all(
            tensor.shape == (size,)
            for name, tensor in tensors.items()
            for start, size in sizes.items()
            if name.startswith(start)
        )
        and (asked is None or 0 <= int(asked.min()) <= int(asked.max()) < spec.n_classes)
    )


def _likelihood(name: str, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> LogLikelihood | None:
    if name not in metadata:
        return None
    kind, window = metadata[name], metadata.get(f"{name}.window")
    return LogLikelihood(
        tensors[f"{name}.nats"],
        tensors[f"{name}.n_bytes"],
        TypeAdapter(Literal["exact", "lower bound"]).validate_python(kind),
        n_symbols=tensors.get(f"{name}.n_symbols"),
        window=None if window is None else int(window),
    )
