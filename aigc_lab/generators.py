"""What a trained model offers, whatever its kind: samples, likelihoods, costs.

A generator owns the networks; the Lightning modules train it, `load` opens it from a run directory, and
the evaluation sees nothing but the protocol `Generator`, which its controls fulfil too.
"""

import importlib
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from aigc_lab.config.targets import build
from aigc_lab.data.samples import Images, Points, Samples, Texts, join
from aigc_lab.data.spec import DataSpec
from aigc_lab.data.tokens import whole
from aigc_lab.decoding import Sampling, stream, write
from aigc_lab.errors import UserError
from aigc_lab.minimax.sampled import latents
from aigc_lab.nets.architecture import Architecture, at_least_float32
from aigc_lab.nets.conditional import GeneratorCondition, one_hot
from aigc_lab.nets.pretrained import Pretrained
from aigc_lab.nets.transformer import Transformer
from aigc_lab.objectives.likelihoods import Likelihood, to_levels, to_unit
from aigc_lab.objectives.variational import Draws, WeightSums
from aigc_lab.run import Run
from aigc_lab.types import PositiveInt

LAW_BATCH = 1 << 16
"""Items generated at once where millions are needed."""


@dataclass(frozen=True)
class LogLikelihood:
    """log p(x) of each item.

    Attributes:
        nats: float64 [n].
        n_bytes: bytes of each item, int64 [n]; bits per byte are -Σ nats / (ln 2 · Σ n_bytes).
        kind: whether `nats` is log p(x) itself or a lower bound on it.
        is_estimate: whether `nats` is drawn at random around the bound: the sum over many items says something,
            the difference of two nothing.
        draw_error: how far, [n]: its standard deviation over the draws, where it can be told from them.
        n_symbols: symbols of each item, int64 [n], where the model goes symbol by symbol.
        window: how many symbols it sees at a time; longer texts are read in windows that advance by half of it.
    """

    nats: Tensor
    n_bytes: Tensor
    kind: Literal["exact", "lower bound"]
    is_estimate: bool = False
    draw_error: Tensor | None = None
    n_symbols: Tensor | None = None
    window: int | None = None

    def bits_per_byte(self) -> float:
        """Over the whole corpus: the sum of nats by the sum of bytes. For 8-bit pixels this is bits/dim."""
        return -float(self.nats.sum()) / (math.log(2) * int(self.n_bytes.sum()))


@dataclass(frozen=True)
class Cost:
    """What one sample costs: parameters that take part, floating-point operations, bytes emitted, and the symbols
    that it is drawn as one after another, where it is."""

    parameters: int
    flops_per_sample: int
    bytes_per_sample: int
    tokens_per_sample: int | None = None


@runtime_checkable
class Generator(Protocol):
    """Anything that emits items of a data set: a trained model, real data, noise."""

    @property
    def modality(self) -> str:
        """`image`, `text`, `points` or `pairs`."""
        ...

    def sample(self, n: int, *, rng: torch.Generator) -> Samples:
        """n samples; the same state of `rng` (on the CPU) gives the same samples."""
        ...

    def log_likelihood(
        self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1
    ) -> LogLikelihood | None:
        """log p of each item, or None where there is none (a GAN).

        A bound is estimated with `importance_samples` draws from `rng` per item; an exact one needs none.
        """
        ...

    def cost(self) -> Cost: ...


@runtime_checkable
class ClassConditional(Protocol):
    """A generator that may be asked for classes."""

    @property
    def takes_classes(self) -> bool:
        """Whether this one is."""
        ...

    def draw_classes(self, n: int, *, rng: torch.Generator) -> Tensor:
        """n classes as often as the training data has them, int64 [n]."""
        ...

    def sample_classes(self, classes: Tensor, *, rng: torch.Generator) -> Samples:
        """A sample of each of the classes, int64 [n]."""
        ...


class NeuralGenerator(nn.Module, ABC):
    """What generators made of networks share. Samples are drawn in batches of `batch`, in eval mode."""

    batch = 256

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec

    @property
    def modality(self) -> str:
        return self.spec.modality

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @abstractmethod
    def _draw(self, n: int, rng: torch.Generator) -> Samples: ...

    @abstractmethod
    def log_likelihood(
        self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1
    ) -> LogLikelihood | None: ...

    @property
    def takes_classes(self) -> bool:
        """See `ClassConditional`."""
        return False

    def draw_classes(self, n: int, *, rng: torch.Generator) -> Tensor:
        """See `ClassConditional`."""
        counts = torch.tensor(self.spec.class_counts, dtype=torch.double)
        return torch.multinomial(counts, n, replacement=True, generator=rng)

    @torch.inference_mode()
    def sample_classes(self, classes: Tensor, *, rng: torch.Generator) -> Samples:
        """See `ClassConditional`."""
        with evaluating(self):
            return join([self._draw_classes(part, rng) for part in classes.split(self.batch)])

    def _draw_classes(self, classes: Tensor, rng: torch.Generator) -> Samples:
        raise NotImplementedError

    @torch.inference_mode()
    def sample(self, n: int, *, rng: torch.Generator) -> Samples:
        """n samples of the model's own law, of classes as often as in the data; see `Generator`."""
        if self.takes_classes:
            return self.sample_classes(self.draw_classes(n, rng=rng), rng=rng)
        with evaluating(self):
            return join([self._draw(min(self.batch, n - i), rng) for i in range(0, n, self.batch)])

    def cost(self) -> Cost:
        """Operations are counted by torch's own counter, on two samples: one text alone is written in numpy, where
        torch sees nothing (`aigc_lab.nets.single_row`)."""
        with FlopCounterMode(display=False) as counter:
            sample = self.sample(2, rng=torch.Generator().manual_seed(0))[:1]
        parameters = sum(p.numel() for p in self.sampling_parameters())
        flops = counter.get_total_flops() // 2
        return Cost(parameters, flops, sample.bytes_per_item()[0], self._n_tokens(sample))

    def _n_tokens(self, sample: Samples) -> int | None:
        """Symbols that one sample is drawn as, one after another."""
        return None

    def sampling_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that take part in sampling."""
        return self.parameters()


class Autoregressive(NeuralGenerator):
    """p(x) = Π p(x_i | start, x_1 .. x_{i-1}): texts symbol by symbol, images pixel by pixel in raster order."""

    def __init__(self, *, spec: DataSpec, network: Transformer | Pretrained) -> None:
        super().__init__(spec)
        require(spec, "image", "text")
        self.network = network

    def _n_tokens(self, sample: Samples) -> int:
        return len(self.spec.encode(sample)[0])

    @property
    def ends(self) -> frozenset[int]:
        """The symbols at one of which a text ends: those that end a response, the start symbol of a model of
        Hugging Face's, and none where no end has been learnt, from windows of running text or packed documents."""
        if self.spec.chat is not None and self.spec.tokenizer is not None:
            return self.spec.chat.ends(self.spec.tokenizer)
        return frozenset([self.network.start] if isinstance(self.network, Pretrained) else [])

    def logits(self, symbols_BL: Tensor) -> Tensor:
        """Logits [B, L, V] of each symbol given those before it, and that the item goes on."""
        return self.network(behind_start(symbols_BL, self.network.start))[..., : self.network.start]

    def continue_symbols(
        self, prompt_BP: Tensor, length: int, *, rng: torch.Generator, sampling: Sampling | None = None
    ) -> Tensor:
        """Append `length` symbols of the model's own law, or of a `sampling` of it, to each prompt (which may be
        empty): [B, P + length]. See `aigc_lab.decoding`."""
        seeds = torch.randint(2**62, (len(prompt_BP),), generator=rng).tolist()
        with evaluating(self):
            written = write(
                self.network, list(prompt_BP), seeds=seeds, sampling=sampling or Sampling(), length=length
            )
        return torch.cat([prompt_BP, torch.tensor(written).view(len(prompt_BP), length)], 1)

    def continue_bytes(self, prompt_BP: Tensor, n_bytes: int, *, rng: torch.Generator) -> Tensor:
        """Append symbols of a text until every prompt has at least `n_bytes` bytes more, [B, P + L]."""
        assert self.spec.tokenizer is not None
        sizes, columns = self.spec.tokenizer.sizes, list(prompt_BP.unbind(1))
        seeds = torch.randint(2**62, (len(prompt_BP),), generator=rng).tolist()
        written = torch.zeros(len(prompt_BP), dtype=torch.long)
        with evaluating(self):
            following = stream(self.network, list(prompt_BP), seeds=seeds, sampling=Sampling(), length=n_bytes)
            for symbols in following:  # a symbol has a byte at least, or is never drawn
                columns.append(symbols)
                written += sizes[symbols]
                if written.min() >= n_bytes:
                    break
        return torch.stack(columns, 1)

    def _draw(self, n: int, rng: torch.Generator) -> Samples:
        empty = torch.zeros(n, 0, dtype=torch.long)
        if self.modality == "image":
            return self.spec.decode(self.continue_symbols(empty, self.spec.length, rng=rng))
        samples = self.spec.decode(self.continue_bytes(empty, self.spec.passage, rng=rng))
        assert isinstance(samples, Texts)
        return Texts([whole(passage[: self.spec.passage]) for passage in samples.passages])

    @torch.inference_mode()
    def log_likelihood(
        self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1
    ) -> LogLikelihood:
        """Exact, or a bound where a text can be written in several ways (`Tokenizer.one_spelling`). A text longer
        than the context is read in windows: each symbol is scored once, with at least half a context before it
        (or the beginning of the text)."""
        with evaluating(self):
            log_p = symbol_log_p(
                self.logits, self.spec.encode(batch), context=self.network.context, device=self.device
            )
        exact = self.spec.tokenizer is None or self.spec.tokenizer.one_spelling
        return LogLikelihood(
            torch.tensor([float(p.sum()) for p in log_p], dtype=torch.float64),
            torch.tensor(batch.bytes_per_item()),
            "exact" if exact else "lower bound",
            n_symbols=torch.tensor([len(p) for p in log_p]),
            window=self.network.context,
        )


class PretrainedText(Autoregressive):
    """A causal language model of Hugging Face's kind; see `aigc_lab.nets.pretrained`.

    Args:
        path: a folder, or the id of a model in the local cache; whoever opens a run of it needs it too.
    """

    def __init__(self, *, spec: DataSpec, path: str) -> None:
        require(spec, "text")
        super().__init__(spec=spec, network=Pretrained(path, context=spec.length, vocab_size=spec.vocab_size))


class Implicit(NeuralGenerator):
    """x = G(z): samples without a likelihood (a GAN's generator).

    Args:
        latent: law of z's coordinates, which are independent, of mean 0 and variance 1: N(0, 1) or U(-√3, √3).
    """

    def __init__(
        self,
        *,
        spec: DataSpec,
        generator: Architecture,
        latent_dim: PositiveInt,
        latent: Literal["normal", "uniform"] = "normal",  # what runs had before they could choose
        generator_condition: GeneratorCondition | None = None,
    ) -> None:
        super().__init__(spec)
        require(spec, "image", "points")
        self.latent_dim, self.latent, self.conditional = latent_dim, latent, generator_condition is not None
        self.network = (
            generator.decoder(latent_dim, spec.shape)
            if generator_condition is None
            else generator_condition.generator(generator, latent_dim, spec.shape, spec.n_classes)
        )

    @property
    def takes_classes(self) -> bool:
        return self.conditional

    def forward(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """Latents [B, latent_dim], beside one-hot classes [B, K] where it takes them -> images [B, C, H, W] in
        [-1, 1], or points [B, d]."""
        assert (classes is not None) == self.conditional
        output = at_least_float32(self.network(z if classes is None else torch.cat([z, classes.to(z)], 1)))
        return output.tanh() if self.modality == "image" else output

    def real(self, batch: Tensor) -> Tensor:
        """Training items as numbers of the range that `forward` has: what a discriminator compares with it."""
        return to_unit(batch, self.spec.vocab_size) if self.modality == "image" else batch

    def latents(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """z, [n, latent_dim], on the generator's device; of torch's own random numbers where there is no `rng`."""
        normal = torch.randn(n, self.latent_dim, generator=rng, device="cpu" if rng else self.device)
        return LATENTS[self.latent](normal).to(self.device)

    @torch.inference_mode()
    def push_forward(self, n: int, *, rng: torch.Generator) -> Tensor:
        """n items G(z) as `forward` gives them, float32 on the CPU, for an estimate of their law: on a line of
        latents z are its quantiles (`aigc_lab.minimax.sampled.latents`), which `sample` never uses."""
        with evaluating(self):
            parts = latents(n, self.latent_dim, rng).split(LAW_BATCH)
            return torch.cat([self(LATENTS[self.latent](z).to(self.device)).cpu() for z in parts])

    def _draw(self, n: int, rng: torch.Generator) -> Samples:
        return self.as_samples(self(self.latents(n, rng)))

    def _draw_classes(self, classes: Tensor, rng: torch.Generator) -> Samples:
        asked = one_hot(classes, self.spec.n_classes).to(self.device)
        return self.as_samples(self(self.latents(len(classes), rng), asked))

    def as_samples(self, x: Tensor) -> Samples:
        if self.modality == "points":
            return Points(x.cpu())
        return Images(to_levels(x, self.spec.vocab_size).to(torch.uint8).cpu(), self.spec.vocab_size)

    def log_likelihood(self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1) -> None:
        """None: the density of G(z) is not known."""


def _uniform(normal: Tensor) -> Tensor:
    """U(-√3, √3) by its distribution function: √3 (2Φ(z) - 1)."""
    return math.sqrt(3) * torch.erf(normal / math.sqrt(2))


LATENTS: Mapping[str, Callable[[Tensor], Tensor]] = {"normal": lambda z: z, "uniform": _uniform}
"""The laws of z, of mean 0 and variance 1, as functions of normal numbers."""


class LatentVariable(NeuralGenerator):
    """p(x) = ∫ p(x | z) N(z; 0, I) dz with an encoder q(z | x) = N(mean(x), diag variance(x)) (a VAE).

    Args:
        emit: `sample` draws pixels from p(x | z), the model's own law; `median` shows the middle of that law,
            which looks cleaner and is not a sample of the law whose likelihood is reported.
        conditional: p(x | z, y) and q(z | x, y) of a class y (Sohn et al. 2015), one-hot: beside z for the
            decoder, as maps beside the image for the encoder. p(y) is its share of the training data.
    """

    decoded_at_once = 2048
    """Images in the estimate of a likelihood, whatever the number of draws."""

    def __init__(
        self,
        *,
        spec: DataSpec,
        encoder: Architecture,
        decoder: Architecture,
        likelihood: Likelihood,
        latent_dim: PositiveInt,
        emit: Literal["sample", "median"],
        conditional: bool = False,  # what runs were before they could choose
    ) -> None:
        super().__init__(spec)
        require(spec, "image")
        likelihood.check(spec.vocab_size)
        self.likelihood, self.latent_dim, self.emit = likelihood, latent_dim, emit
        self.conditional, n_classes = conditional, spec.n_classes if conditional else 0
        channels, *sides = spec.shape
        self.encoder = encoder.encoder((channels + n_classes, *sides), 2 * latent_dim)
        shape = (likelihood.n_maps(spec.vocab_size) * channels, *sides)
        self.decoder = decoder.decoder(latent_dim + n_classes, shape)

    @property
    def takes_classes(self) -> bool:
        return self.conditional

    def encode(self, pixels: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), [B, latent_dim] each; of q(z | x, y) with classes, int64 [B]."""
        x = to_unit(pixels, self.spec.vocab_size)
        if self.conditional:
            x = torch.cat([x, self._one_hot(classes)[..., None, None].expand(-1, -1, *x.shape[2:])], 1)
        mean, log_variance = at_least_float32(self.encoder(x)).chunk(2, 1)
        return mean, log_variance

    def decode(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """The maps of p(x | z), or of p(x | z, y), for latents [B, latent_dim]."""
        return at_least_float32(self.decoder(torch.cat([z, self._one_hot(classes)], 1) if self.conditional else z))

    def _one_hot(self, classes: Tensor | None) -> Tensor:
        assert classes is not None, "a conditional model is asked for classes"
        return F.one_hot(classes.to(self.device), self.spec.n_classes).float()

    def draws(self, pixels: Tensor, noise: Tensor, classes: Tensor | None = None) -> Draws:
        """z = mean + noise · sd for each of k rows of noise [k, B, latent_dim], and log p(x | z) of each."""
        mean, log_variance = self.encode(pixels, classes)
        z, k = mean + noise * (log_variance / 2).exp(), len(noise)
        maps = self.decode(z.flatten(0, 1), None if classes is None else classes.repeat(k))
        log_p_x = self.likelihood.log_prob(maps, pixels.repeat(k, 1, 1, 1), self.spec.vocab_size)
        return Draws(z, mean, log_variance, log_p_x.unflatten(0, (k, -1)))

    def log_weights(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Unbiased estimates of p(x), one for each row of noise [k, B, latent_dim], as logarithms [k, B].

        Of a conditional model Σ_y p(y) p(x, z_y | y) / q(z_y | x, y) over all classes.
        """
        if not self.conditional:
            return self.draws(pixels, noise).log_weights()
        shares = torch.tensor(self.spec.class_counts) / sum(self.spec.class_counts)
        every = [
            self.draws(pixels, noise, torch.full((len(pixels),), y)).log_weights() + math.log(share)
            for y, share in enumerate(shares.tolist())
            if share > 0
        ]
        return torch.stack(every).logsumexp(0)

    def _draw(self, n: int, rng: torch.Generator) -> Samples:
        return self._emit(self.decode(self._latents(n, rng)), rng)

    def _draw_classes(self, classes: Tensor, rng: torch.Generator) -> Samples:
        return self._emit(self.decode(self._latents(len(classes), rng), classes), rng)

    def _latents(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.randn(n, self.latent_dim, generator=rng).to(self.device)

    def _emit(self, maps: Tensor, rng: torch.Generator) -> Samples:
        return emitted(self.likelihood, maps, self.spec.vocab_size, self.emit, rng)

    def sampling_parameters(self) -> Iterator[nn.Parameter]:
        return self.decoder.parameters()

    @torch.inference_mode()
    def log_likelihood(
        self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1
    ) -> LogLikelihood:
        """A lower bound: the ELBO with one draw per image, or the importance-weighted bound with more.

        Of a conditional model it is of log p(x) = log Σ_y p(y) p(x | y), over all classes, which costs as many
        times as much; it is the importance-weighted bound with one draw too.
        """
        assert isinstance(batch, Images)
        nats, errors = [], []
        with evaluating(self):
            for pixels in batch.pixels.split(self.batch):
                pixels, size = pixels.to(self.device), len(pixels)
                if importance_samples == 1 and not self.conditional:
                    noise = self._latents(size, rng)[None]
                    nats.append(self.draws(pixels, noise).elbo())
                    continue
                each, sums = max(1, self.decoded_at_once // size), None
                for k in torch.arange(importance_samples).split(each):
                    noise = self._latents(len(k) * size, rng).view(len(k), size, -1)
                    more = WeightSums.of(self.log_weights(pixels, noise))
                    sums = more if sums is None else sums + more
                assert sums is not None
                nats.append(sums.bound())
                errors.append(sums.draw_error())
        n_bytes = torch.tensor(batch.bytes_per_item())
        error = torch.cat(errors).cpu() if importance_samples > 1 else None
        return LogLikelihood(torch.cat(nats).double().cpu(), n_bytes, "lower bound", True, error)


def emitted(
    likelihood: Likelihood, maps: Tensor, levels: int, emit: Literal["sample", "median"], rng: torch.Generator
) -> Images:
    """Images of p(x | maps), drawn, or the middle of it."""
    pixels = likelihood.sample(maps, levels, rng) if emit == "sample" else likelihood.median(maps, levels)
    return Images(pixels.to(torch.uint8).cpu(), levels)


GENERATORS: Mapping[str, str] = {
    **dict.fromkeys(("Autoregressive", "PretrainedText", "Implicit", "LatentVariable"), __name__),
    "AnyOrder": "aigc_lab.any_order",
    "Flow": "aigc_lab.flow",
    "Quantised": "aigc_lab.quantised",
    "Resampled": "aigc_lab.resampled",
    "Translator": "aigc_lab.translator",
}
"""The kinds, and the module of each, which is imported when it is needed: those elsewhere build on this one."""


def build_generator(kind: str, model: Mapping[str, Any], spec: DataSpec) -> NeuralGenerator:
    """The generator that a model configuration describes, without its training half (losses, optimizers).

    Raises:
        UserError: `kind` is unknown, or the configuration does not fit it.
    """
    if kind not in GENERATORS:
        raise UserError(f"unknown kind of generator '{kind}'; known: {', '.join(GENERATORS)}")
    family: type[NeuralGenerator] = getattr(importlib.import_module(GENERATORS[kind]), kind)
    parameters = inspect.signature(family.__init__).parameters
    wanted = set(parameters) - {"self", "spec"}
    if missing := {name for name in wanted - set(model) if parameters[name].default is inspect.Parameter.empty}:
        raise UserError(f"model.{min(missing)}: missing, but a generator of kind {kind} needs it")
    supplied = {"spec": spec, "shape": spec.shape, "vocab_size": spec.vocab_size}
    parts = build({key: model[key] for key in sorted(wanted & set(model))}, path="model", supplied=supplied)
    try:
        return family(spec=spec, **parts)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"model: {error}") from error


def load(run_dir: str | Path) -> NeuralGenerator:
    """The generator that a finished run trained, with the weights it samples with, on the CPU.

    Reads data only: nothing that the run directory contains is executed.

    Raises:
        UserError: the directory is not a finished run, or a file in it is damaged.
    """
    run = Run.open(run_dir)
    weights = run.weights()
    model = run.config().model
    model = model.get("base", model)  # of a run that was tuned further: what it began as
    try:
        generator = build_generator(weights.kind, model, weights.spec)
    except UserError as error:
        raise UserError(f"{run.weights_path.with_suffix('.json')}: {error}") from None
    fill(generator, run)
    return generator.eval()


def fill(generator: NeuralGenerator, run: Run) -> None:
    """Give a generator the weights of a finished run of its kind.

    Raises:
        UserError: they are damaged, of another shape, or not finite.
    """
    try:
        generator.load_state_dict(safetensors.torch.load_file(run.weights_path))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{run.weights_path}: cannot be loaded ({reason[:200]})") from None
    if bad := [name for name, tensor in generator.state_dict().items() if not tensor.isfinite().all()]:
        more = f" and {len(bad) - 1} other tensors" if len(bad) > 1 else ""
        raise UserError(
            f"{run.weights_path}: {bad[0]}{more} hold NaN or infinite numbers: the run has diverged; "
            "train anew, with a smaller model.lr for instance"
        )


_NOUNS = {"image": "images", "text": "texts", "points": "points", "pairs": "pairs of texts"}
_ABLE = {"points": "gan", "pairs": "encoder_decoder"}


def require(spec: DataSpec, *modalities: str) -> None:
    """
    Raises:
        ValueError: the data is of none of the modalities.
    """
    if spec.modality not in modalities:
        able = _ABLE.get(spec.modality, "transformer")
        made_for = " and ".join(_NOUNS[m] for m in modalities)
        raise ValueError(
            f"{spec.name} holds {_NOUNS[spec.modality]}, and this model is for {made_for}; use model={able}"
        )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside the block, the former mode after it."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def behind_start(symbols_BL: Tensor, start: int) -> Tensor:
    """What a network reads to predict each symbol: the start symbol, then all but the last."""
    return torch.cat([torch.full_like(symbols_BL[:, :1], start), symbols_BL[:, :-1]], 1)


def sliding_windows(length: int, context: int) -> Iterator[tuple[int, int, int]]:
    """(begin, score_from, end): windows of at most `context` symbols; [score_from, end) partition [0, length)."""
    end = min(length, context)
    if length:
        yield 0, 0, end
    while end < length:
        score_from, end = end, min(length, end + max(1, context // 2))
        yield end - context, score_from, end


@torch.inference_mode()
def symbol_log_p(
    logits: Callable[[Tensor], Tensor], sequences: Sequence[Tensor], *, context: int, device: torch.device
) -> list[Tensor]:
    """log p of each symbol of each sequence given those before it, in nats: float64 [L] each.

    A sequence longer than the context is read in windows: each symbol is scored once, with at least half a
    context before it (or the beginning of the sequence).

    Args:
        logits: symbols [B, L] -> logits [B, L, V] of each symbol given those before it.
        sequences: of symbols, int64 [L] each.
    """
    log_p = [torch.zeros(len(s), dtype=torch.float64) for s in sequences]
    windows = [(i, *w) for i, s in enumerate(sequences) for w in sliding_windows(len(s), context)]
    for group in torch.arange(len(windows)).split(64):
        chosen = [windows[j] for j in group.tolist()]
        symbols = nn.utils.rnn.pad_sequence([sequences[i][b:e] for i, b, _, e in chosen], batch_first=True)
        symbols = symbols.to(device)
        found = -F.cross_entropy(logits(symbols).mT.float(), symbols, reduction="none").double().cpu()
        for row, (i, begin, score_from, end) in zip(found, chosen, strict=True):
            log_p[i][score_from:end] = row[score_from - begin : end - begin]
    return log_p
