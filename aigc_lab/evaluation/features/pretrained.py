"""Images as large pretrained networks see them. Nothing is downloaded that was not asked for.

All get the same 8-bit pixels (`images.resized`): values differ in the third digit from those of pipelines that
resize without antialiasing, so compare within this table, not with published ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from aigc_lab.data import Dataset
from aigc_lab.data.samples import Images, Samples
from aigc_lab.errors import UserError
from aigc_lab.evaluation.features.base import Features, fastest_device, from_disk, hash_of
from aigc_lab.evaluation.features.images import resized
from aigc_lab.types import PositiveInt

BATCH = 64
"""Images looked at together."""


@dataclass(frozen=True, kw_only=True)
class InceptionV3:
    """The 2048 pooled features of Inception-v3 with TensorFlow's weights of 2015-12-05, as torch-fidelity holds
    them (its file `weights-inception-2015-12-05-6726825d.pth`), and its 1008 classes without their bias.

    Args:
        weights: that file.
        download: fetch it from where torch-fidelity has it, where there is no such file.
    """

    weights: str
    download: bool = False

    def fit(self, dataset: Dataset, cache_dir: Path) -> Features:
        """Load it; nothing is learned.

        Raises:
            UserError: torch-fidelity is not installed, or the file is missing or of something else.
        """
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import (
                URL_INCEPTION_V3,
                FeatureExtractorInceptionV3,
            )
        except ImportError:
            raise UserError("InceptionV3 needs the package torch-fidelity") from None
        path = Path(self.weights).expanduser()
        if not path.is_file() and self.download:
            _fetch(URL_INCEPTION_V3, path)
        if not path.is_file():
            raise UserError(
                f"no file {path}; InceptionV3 needs torch-fidelity's weights (download=true fetches them)"
            )
        try:
            torch.load(path, weights_only=True)  # torch-fidelity's own load would execute what a file says
            network = FeatureExtractorInceptionV3("inception", ["2048"], str(path))
        except (RuntimeError, UnpicklingError, EOFError, KeyError) as error:
            raise UserError(f"{path} does not hold Inception-v3 ({str(error).splitlines()[0]})") from None
        classes = network.fc.weight.detach().double()
        network.to(fastest_device())

        def classify(points: Tensor) -> Tensor:
            return (points @ classes.T).softmax(-1)

        return Features(
            "inception2048",
            hash_of(network),
            _extractor(lambda pixels: network(pixels)[0], network, 299),
            classify,
        )


@dataclass(frozen=True, kw_only=True)
class DINOv2:
    """The class token of a DINOv2, normalised by its last layer (Stein et al. 2023 advise ViT-L/14 at 224 pixels).

    Args:
        model: a folder, or the id of a model in the local cache.
        size: side of the images that it sees, in pixels.
        download: bring the id into the local cache first.
    """

    model: str
    size: PositiveInt
    download: bool = False

    def fit(self, dataset: Dataset, cache_dir: Path) -> Features:
        """Load it; nothing is learned.

        Raises:
            UserError: it is not there.
        """
        from transformers import Dinov2Model

        network = from_disk(Dinov2Model, self.model, download=self.download).to(fastest_device())

        def embed(pixels: Tensor) -> Tensor:
            return network(pixel_values=_standardised(pixels, *IMAGENET)).last_hidden_state[:, 0]

        name = f"{Path(self.model).name}@{self.size}"
        return Features(name, hash_of(network, str(self.size)), _extractor(embed, network, self.size))


@dataclass(frozen=True, kw_only=True)
class CLIP:
    """The projected image embedding of a CLIP, at the resolution that it was trained for (Jayasumana et al. 2024
    take ViT-L/14 at 336 pixels). Not normalised: `metrics.cmmd` does that.

    Args:
        model: a folder, or the id of a model in the local cache.
        download: bring the id into the local cache first.
    """

    model: str
    download: bool = False

    def fit(self, dataset: Dataset, cache_dir: Path) -> Features:
        """Load it; nothing is learned.

        Raises:
            UserError: it is not there.
        """
        from transformers import CLIPVisionModelWithProjection

        network = from_disk(CLIPVisionModelWithProjection, self.model, download=self.download).to(fastest_device())

        def embed(pixels: Tensor) -> Tensor:
            return network(pixel_values=_standardised(pixels, *CLIPS_OWN)).image_embeds

        extract = _extractor(embed, network, network.config.image_size)
        return Features(Path(self.model).name, hash_of(network), extract, clip=True)


def _fetch(url: str, path: Path) -> None:
    """A file whose name ends in the beginning of its SHA-256.

    Raises:
        UserError: it cannot be fetched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=url.rpartition("-")[2][:8], progress=False)
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot fetch {url}: {str(error).splitlines()[0]}") from None


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIPS_OWN = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Means and standard deviations of the channels of the pixels that these were trained on."""


def _standardised(pixels: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """uint8 [n, 3, h, w] -> float32, each channel less its mean and by its deviation."""
    shape = (1, 3, 1, 1)
    means, deviations = (torch.tensor(values, device=pixels.device).view(shape) for values in (mean, deviation))
    return (pixels / 255 - means) / deviations


def _extractor(embed: Callable[[Tensor], Tensor], network: nn.Module, size: int) -> Callable[[Samples], Tensor]:
    device = next(network.parameters()).device

    @torch.inference_mode()
    def extract(samples: Samples) -> Tensor:
        if not isinstance(samples, Images):
            raise UserError("this network sees images only")
        parts = [samples[i : i + BATCH] for i in range(0, len(samples), BATCH)]
        return torch.cat([embed(resized(part, size).to(device)).double().cpu() for part in parts])

    return extract
