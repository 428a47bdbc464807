"""What a generator has drawn for its evaluation, kept so that other metrics and features need no new samples."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from aigc_lab.data.samples import Images, Samples, Texts
from aigc_lab.evaluation.exhibit import Continuation
from aigc_lab.files import write_atomically
from aigc_lab.generators import Cost, LogLikelihood


@dataclass(frozen=True)
class Drawn:
    """Samples, the likelihood of the held-out items (None where there is none), what they cost, and the harness's
    prompts continued (none where the generator cannot)."""

    samples: Samples
    likelihood: LogLikelihood | None
    cost: Cost
    seconds_per_sample: float
    continuations: Sequence[Continuation] = ()

    def save(self, path: Path, *, key: str) -> None:
        """Write everything to one safetensors file; `key` says what it was drawn from."""
        tensors = _tensors(self.samples)
        metadata = {"key": key, "seconds_per_sample": repr(self.seconds_per_sample)}
        metadata |= {name: str(value) for name, value in asdict(self.cost).items()}
        metadata["continuations"] = json.dumps([asdict(c) for c in self.continuations])
        if self.likelihood is not None:
            tensors |= {"nats": self.likelihood.nats, "n_bytes": self.likelihood.n_bytes}
            metadata["likelihood"] = self.likelihood.kind
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, safetensors.torch.save(tensors, metadata=metadata))

    @classmethod
    def load(cls, path: Path, *, key: str) -> "Drawn":
        """
        Raises:
            OSError, ValueError, KeyError: it is missing, damaged, or was drawn from something else.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except SafetensorError as error:
            raise ValueError(f"{path}: {error}") from None
        if metadata["key"] != key:
            raise ValueError(f"{path}: drawn from {metadata['key']}")
        kind: Any = metadata.get("likelihood")
        likelihood = LogLikelihood(tensors["nats"], tensors["n_bytes"], kind) if kind else None
        names = ("parameters", "flops_per_sample", "bytes_per_sample")
        cost = Cost(*(int(metadata[name]) for name in names))
        continuations = [Continuation(**values) for values in json.loads(metadata["continuations"])]
        return cls(_samples(tensors), likelihood, cost, float(metadata["seconds_per_sample"]), continuations)


def _tensors(samples: Samples) -> dict[str, Tensor]:
    if isinstance(samples, Images):
        return {"pixels": samples.pixels, "levels": torch.tensor(samples.levels)}
    assert isinstance(samples, Texts)
    text = b"".join(samples.passages)
    return {
        "text": torch.frombuffer(bytearray(text), dtype=torch.uint8),
        "lengths": torch.tensor(samples.bytes_per_item()),
    }


def _samples(tensors: dict[str, Tensor]) -> Samples:
    if "pixels" in tensors:
        return Images(tensors["pixels"], int(tensors["levels"]))
    parts = tensors["text"].split(tensors["lengths"].tolist())
    return Texts([bytes(part.numpy()) for part in parts])
