"""What a fitted extractor is, and what several extractors need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from aigc_lab.data import Dataset
from aigc_lab.data.samples import Samples
from aigc_lab.data.splits import content_hash
from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.hub import TOKENIZER, WEIGHTS, folder_of, without_bars


class Judge(Protocol):
    """A language model that did not write the texts that it judges."""

    def __call__(self, passages: Sequence[bytes], given: Sequence[bytes] | None = None) -> Tensor:
        """log p(passage | what is given before it) of each passage, in nats, float64 [n].

        Without `given`, a passage is judged as one that begins anywhere.
        """
        ...


@dataclass(frozen=True)
class Features:
    """A fitted extractor.

    Attributes:
        name: what it is, for tables.
        content_hash: of everything that determines its output.
        extract: samples -> float64 [n, d].
        classify: features -> class probabilities [n, K]; None where the extractor knows no classes.
        judge: None where the extractor is no language model.
        clip: whether the features are CLIP's, which CMMD is made for.
    """

    name: str
    content_hash: str
    extract: Callable[[Samples], Tensor]
    classify: Callable[[Tensor], Tensor] | None = None
    judge: Judge | None = None
    clip: bool = False

    def __call__(self, samples: Samples) -> Tensor:
        """Features of the samples, float64 [n, d]."""
        return self.extract(samples)


class Extractor(Protocol):
    def fit(self, dataset: Dataset, cache_dir: Path) -> Features:
        """The extractor fitted to the training split, or read from the cache."""
        ...


def train_once(network: nn.Module, cached: Path, train: Callable[[], None]) -> None:
    """Give the network the cached weights; where there are none that can be read, train it and keep them there.

    It is trained in one thread: their number decides in which order gradients are summed, and so the weights.
    """
    try:
        network.load_state_dict(safetensors.torch.load_file(cached))
        return
    except (OSError, RuntimeError, SafetensorError):
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            train()
        finally:
            torch.set_num_threads(n_threads)
    cached.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.contiguous() for name, weight in network.state_dict().items()}
    write_atomically(cached, safetensors.torch.save(weights))


def check_dim(dim: int, n_passages: int, width: int) -> None:
    """
    Raises:
        UserError: so many passages of so many dimensions have fewer than `dim` components.
    """
    if dim > (most := min(n_passages, width)):
        raise UserError(f"dim={dim}: {n_passages} passages of {width} dimensions have at most {most} components")


def hash_of(network: nn.Module, *more: str) -> str:
    """Of its weights, the name of its class, and whatever else determines its output."""
    return content_hash(*network.state_dict().values(), type(network).__name__, *more)


def fastest_device() -> torch.device:
    """For pretrained networks, which are slow without a GPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def from_disk(kind: Any, model: str, *, download: bool) -> Any:
    """A model or tokenizer of `transformers` from a folder or the local cache, in float32 and evaluation mode.

    With `download` an id is brought into the cache first. Only safetensors are read, and no code that comes with a
    model is run.

    Raises:
        UserError: it is not there, or of another kind.
    """
    is_tokenizer = not hasattr(kind, "config_class") and "Tokenizer" in kind.__name__
    patterns = TOKENIZER if is_tokenizer else WEIGHTS
    try:
        folder = folder_of(model, fetch=patterns if download else ())
        if is_tokenizer:
            return kind.from_pretrained(folder, local_files_only=True)
        with without_bars():
            loaded, report = kind.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(": ")
        raise UserError(
            f"cannot load {model} ({reason}); give a folder that holds its config.json and model.safetensors, "
            "or an id (download=true fetches it)"
        ) from None
    if report["missing_keys"]:
        raise UserError(f"{model} is no {kind.__name__}: it lacks most of its weights")
    return loaded.eval()
