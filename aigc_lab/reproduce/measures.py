"""Measures: what a claim is judged by. One class each: a trial in, numbers by name out.

A new measure is a frozen dataclass whose fields are its settings (they are the configuration's keys), with
`__call__(self, trial) -> dict[str, float]`. It draws random numbers from `trial.rng()` only, so that repeating
it on the same run gives the same numbers. One that can be looked at has a method `figure` (`trial.Illustrated`).
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import MixtureSameFamily

from aigc_lab.config.compose import Composer
from aigc_lab.config.targets import build
from aigc_lab.data import Dataset
from aigc_lab.data.images import ImageData
from aigc_lab.data.samples import Images, Points
from aigc_lab.data.stacked import StackedImages
from aigc_lab.errors import UserError
from aigc_lab.evaluation import metrics
from aigc_lab.evaluation.features import ImageClassifier
from aigc_lab.evaluation.harness import Harness
from aigc_lab.generators import Implicit
from aigc_lab.metrics_file import read_metrics
from aigc_lab.minimax import modes, parzen, sampled
from aigc_lab.modules.gan import GAN
from aigc_lab.reproduce.rows import rows_of_samples
from aigc_lab.reproduce.trial import Seen, Trial
from aigc_lab.types import PositiveInt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGE = 100_000
"""Samples of the quantities named `@100k`."""


@dataclass(frozen=True, kw_only=True)
class ModeCoverage:
    """`aigc_lab.minimax.modes.coverage` of samples: modes, high_quality, reverse_kl, binned_kl.

    And the same of 100,000 others, `high_quality@100k` and so on, where chance has no part: that of a perfect
    sampler's `high_quality` has a standard deviation of 0.0021 at n = 2,500 and of 0.0003 there.

    Args:
        n: samples; 2,500 are customary, and every one of these numbers depends on it.
    """

    n: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the data is no mixture in the plane.
        """
        law, rng = _mixture(trial), trial.rng()
        drawn = [_points(trial, n, rng) for n in (self.n, LARGE)]
        if not all(points.isfinite().all() for points in drawn):
            names = [field.name for field in fields(modes.ModeReport)]
            return dict.fromkeys([*names, *(f"{name}@100k" for name in names)], math.nan)
        few, many = (modes.coverage(points, law) for points in drawn)
        return asdict(few) | {f"{name}@100k": value for name, value in asdict(many).items()}

    def figure(self, seen: Sequence[Seen]) -> "Figure":
        """The samples of each trial."""
        from aigc_lab.minimax import figures

        drawn = {f"{s.variant} seed {s.trial.seed}".strip(): _points(s.trial, self.n, s.trial.rng()) for s in seen}
        columns = max(Counter(s.variant for s in seen).values())
        return figures.mode_panels(drawn, _mixture(seen[0].trial), columns=columns)


def _mixture(trial: Trial) -> MixtureSameFamily:
    law = trial.law
    if not isinstance(law, MixtureSameFamily) or law.event_shape != (2,):
        raise UserError(f"claims: {trial.dataset.spec.name} has no modes in the plane to count")
    return law


def _points(trial: Trial, n: int, rng: torch.Generator) -> Tensor:
    samples = trial.generator.sample(n, rng=rng)
    assert isinstance(samples, Points)
    return samples.coordinates


@dataclass(frozen=True, kw_only=True)
class StackedCoverage:
    """`aigc_lab.minimax.modes.stacked_coverage` of samples whose channels a classifier reads: `modes`, `kl`.

    Beside them `modes_of_real` and `kl_of_real` of as many items of the held-out split, drawn without replacement,
    and `accuracy`, the share of the held-out grey images that the classifier reads right.

    Args:
        n: samples; 26,000 are customary, and both numbers depend on it.
        classifier: trained on the grey images and their labels.
    """

    n: PositiveInt
    classifier: ImageClassifier

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the data is not of stacked digits, or has fewer than n held-out items.
        """
        dataset = trial.dataset
        if not isinstance(dataset, StackedImages) or dataset.images.spec.n_classes != modes.N_DIGITS:
            raise UserError(f"claims: {dataset.spec.name} has no stacked digits to count")
        if dataset.n_held_out < self.n:
            raise UserError(f"claims: StackedCoverage.n={self.n} of {dataset.n_held_out} held-out items")
        cache = Composer().evaluate([]).paths.cache
        features = self.classifier.fit(dataset.images, cache)
        assert features.classify is not None
        classify = features.classify

        def read(images: Images) -> Tensor:
            """Any channels [n, C, H, W] -> digits [n, C]."""
            grey = Images(images.pixels.flatten(0, 1).unsqueeze(1), images.levels)
            return classify(features(grey)).argmax(1).view(images.pixels.shape[:2])

        samples = trial.generator.sample(self.n, rng=trial.rng())
        chosen = torch.randperm(dataset.n_held_out, generator=trial.rng())[: self.n]
        real = Images(dataset.gather_held_out(chosen), dataset.spec.vocab_size)
        assert isinstance(samples, Images)
        found, of_real = (modes.stacked_coverage(read(images)) for images in (samples, real))
        right = read(dataset.images.real("held_out")).squeeze(1) == dataset.images.labels("held_out")
        return {
            "modes": found.modes,
            "kl": found.kl,
            "modes_of_real": of_real.modes,
            "kl_of_real": of_real.kl,
            "accuracy": float(right.double().mean()),
        }


@dataclass(frozen=True, kw_only=True)
class GameAtItsEnd:
    """How a trained game stands on data of known density: `aigc_lab.minimax.sampled.play`.

    Gives `jsd` = JSD(p, p_g), its stated error `jsd_error` and `jsd_at_most`, their sum; `value` = V(D, G) on
    held-out points, `optimum` = C(G), and `distance_from_half` = mean |D - 1/2|. All are NaN where the generator
    gives a point that is not finite.

    Args:
        n: generated points; they set the error.
    """

    n: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the run is no GAN, or the data's density is not known.
        """
        module, law = trial.module, trial.law
        if not isinstance(module, GAN):
            raise UserError("claims: the game has an end for a GAN only")
        real = trial.dataset.real("held_out")
        assert isinstance(real, Points)
        generated = module.sampler.push_forward(self.n, rng=trial.rng())
        if not generated.isfinite().all():
            names = ("jsd", "jsd_error", "jsd_at_most", "value", "optimum", "distance_from_half")
            return dict.fromkeys(names, math.nan)
        played = sampled.play(module.discriminator, law, real=real.coordinates, generated=generated)
        return {
            "jsd": played.jsd.value,
            "jsd_error": played.jsd.error,
            "jsd_at_most": played.jsd.value + played.jsd.error,
            "value": played.value,
            "optimum": played.optimum,
            "distance_from_half": played.distance_from_half,
        }

    def figure(self, seen: Sequence[Seen]) -> "Figure | None":
        """V(D_t, G_t) and C(G_t) along the games, where the callback `MinimaxValue` has logged them."""
        from aigc_lab.minimax import figures

        games: dict[str, list[figures.Game]] = {}
        for s in seen:
            rows = {(step, name): value for step, name, value in read_metrics(s.trial.run.metrics_path)}
            steps = [step for step, name in rows if name == "minimax/value"]
            if steps:
                game = [(step + 1, rows[step, "minimax/value"], rows[step, "minimax/optimum"]) for step in steps]
                games.setdefault(s.variant, []).append(game)
        return figures.played_games(games) if games else None


@dataclass(frozen=True, kw_only=True)
class ParzenWindow:
    """The Parzen estimate of 2014 (`aigc_lab.minimax.parzen`) of a GAN's real-valued images, in nats per image.

    Gives `parzen`, its standard error over the test images `parzen_error` and the width `parzen_sigma`, and beside
    it what the number is worth: `parzen_real_data` of training images in the place of samples, and
    `parzen_k_means` of as many centroids of the training images.

    Args:
        n: samples, images and centroids; 10,000 in 2014.
        k_means_rounds: of Lloyd's algorithm.
    """

    n: PositiveInt
    k_means_rounds: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the run is no GAN of images, or there are too few images for the protocol.
        """
        generator, dataset = trial.generator, trial.dataset
        if not isinstance(generator, Implicit) or not isinstance(dataset, ImageData):
            raise UserError("claims: the Parzen estimate of 2014 is for a GAN of images")
        train, test = dataset.intensities()
        own = train[: parzen.N_TRAIN_2014].flatten(1)
        if len(own) < self.n:
            raise UserError(f"claims: ParzenWindow.n={self.n} of {len(own)} training images")
        kernels = {
            "parzen": (generator.push_forward(self.n, rng=trial.rng()) + 1) / 2,
            "parzen_real_data": own[torch.randperm(len(own), generator=trial.rng())[: self.n]],
            "parzen_k_means": parzen.k_means(own, self.n, rounds=self.k_means_rounds, rng=trial.rng()),
        }
        found: dict[str, float] = {}
        for name, samples in kernels.items():
            try:
                estimate = parzen.protocol_2014(samples, train, test)
            except ValueError as error:
                raise UserError(f"claims: {error}") from error
            found |= {
                name: estimate.mean,
                f"{name}_error": estimate.standard_error,
                f"{name}_sigma": estimate.sigma,
            }
        return found

    def figure(self, seen: Sequence[Seen]) -> "Figure | None":
        return rows_of_samples(seen)


@dataclass(frozen=True, kw_only=True)
class SharedHarness:
    """Distances of the run's samples from training data on the harness's extractor and reference.

    Gives `frechet`, `precision` and `recall` as `aigc evaluate` has them at the same n, and `frechet_floor` of
    held-out real data in the place of samples. The controls and the slower metrics are left to `aigc evaluate`.

    Where the extractor knows classes, `rarest` and `commonest`: the least and the largest ratio of a class's
    share of the samples to its share of the held-out items. Where the generator takes classes, `asked_class`: the
    share of samples taken for the class that was asked for, and `asked_class_floor` of held-out items.

    Args:
        protocol: option of the configuration group `evaluation`.
        n: `evaluation.n`; every one of these numbers depends on it.
    """

    protocol: str
    n: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: there are fewer than n held-out items.
        """
        bench = _bench(json.dumps(trial.run.config().data, sort_keys=True), self.protocol, self.n)
        generator, rng, classes = trial.generator, trial.rng(), None
        if generator.takes_classes:
            classes = generator.draw_classes(self.n, rng=rng)
            samples = generator.sample_classes(classes, rng=rng)
        else:
            samples = generator.sample(self.n, rng=rng)
        generated = bench.harness.features(samples)
        manifold = metrics.manifold(bench.reference, generated)
        found = {
            "frechet": metrics.frechet_distance(bench.reference, generated).value,
            "frechet_floor": bench.floor,
            "precision": manifold.precision.value,
            "recall": manifold.recall.value,
        }
        if (classify := bench.harness.features.classify) is None:
            return found
        read, real = classify(generated), classify(bench.harness.held_out_features)
        shares = [p.argmax(1).bincount(minlength=p.shape[1]).double() / len(p) for p in (read, real)]
        ratios = shares[0] / shares[1]
        found |= {"rarest": float(ratios.min()), "commonest": float(ratios.max())}
        if classes is not None:
            asked = metrics.conditional_accuracy(read, classes)
            of_real = metrics.conditional_accuracy(real, bench.harness.held_out_classes)
            found |= {"asked_class": asked.value, "asked_class_floor": of_real.value}
        return found

    def figure(self, seen: Sequence[Seen]) -> "Figure | None":
        return rows_of_samples(seen)


@dataclass(frozen=True)
class _Bench:
    """A harness, the features [n, d] of its reference, and how far from it n held-out items are."""

    harness: Harness
    reference: Tensor
    floor: float


@cache
def _bench(data: str, protocol: str, n: int) -> _Bench:
    """One for all seeds and variants on the same data: its extractor is fitted once."""
    config = Composer().evaluate([f"evaluation={protocol}", f"evaluation.n={n}"])
    dataset: Dataset = build(json.loads(data), path="data", supplied={"cache_dir": config.paths.cache})
    harness = Harness(dataset, config.evaluation, config.paths.cache)
    if harness.n < n:
        raise UserError(f"claims: SharedHarness.n={n} of {harness.n} held-out items")
    reference = harness.reference_features
    floor = metrics.frechet_distance(reference, harness.held_out_features)
    return _Bench(harness, reference, floor.value)
