"""The verb `sample`: from a run to pictures, plots or text."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aigc_lab.config.targets import build
from aigc_lab.data.samples import Images, Points, Texts
from aigc_lab.data.stream import fold
from aigc_lab.decoding import Sampling, beam_search, write
from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.generators import Autoregressive, load
from aigc_lab.pictures import plot, sheet, to_png
from aigc_lab.run import Run


def sample_to_file(
    run: Run,
    *,
    n: int,
    seed: int,
    output: Path | None,
    prompt: str,
    length: int | None,
    n_beams: int | None,
    stop: Sequence[str],
    **sampling: Any,
) -> Path:
    """Draw n samples and write them; texts also go to stdout.

    Args:
        length: symbols of a text; None: a passage.
        sampling: of `aigc_lab.decoding.Sampling`; None where its default holds.

    Returns:
        The file written: a PNG sheet of images, a PNG plot of points, or a text file.

    Raises:
        UserError: the run has no weights, or an option does not fit its kind.
    """
    generator = load(run.path)
    given = {name: value for name, value in sampling.items() if value is not None}
    run.samples.mkdir(exist_ok=True)
    if generator.modality != "text":
        asked = {"prompt": prompt, "length": length, "beams": n_beams, "stop": stop, **given}
        if used := [f"--{name.replace('_', '-')}" for name, value in asked.items() if value not in ("", None, ())]:
            raise UserError(f"sample: {', '.join(used)}: for text models only")
        samples = generator.sample(n, rng=torch.Generator().manual_seed(seed))
        path = output or run.samples / f"seed{seed}-n{n}.png"
        if isinstance(samples, Points):
            _write(path, plot(samples, build(run.config().data, path="data").law))
        else:
            assert isinstance(samples, Images)
            _write(path, to_png(sheet(samples, columns=min(n, 16))))
        return path
    assert isinstance(generator, Autoregressive)
    try:
        (symbols,) = generator.spec.encode(Texts([prompt.encode()]))
    except ValueError as error:
        raise UserError(f"--prompt: {error}") from None
    if n_beams:
        written = [_search(generator, symbols, length or generator.spec.passage, n_beams, given)]
    else:
        written = write(
            generator.network,
            [symbols] * n,
            seeds=[fold(seed, i) for i in range(n)],
            sampling=Sampling(**given),
            length=length or generator.spec.passage,
            stopped=_enough(generator, stop, n_bytes=generator.spec.passage if length is None else None),
        )
    texts = [prompt + cut(_decode(generator, symbols), stop) for symbols in written]
    rule = "\n" + "-" * 72 + "\n"
    text = rule.join(texts) + "\n"
    sys.stdout.write(text)
    path = output or run.samples / f"seed{seed}-n{n}.txt"
    _write(path, text.encode())
    return path


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the strings in it."""
    ends = [found for string in stop if (found := text.find(string)) >= 0]
    return text[: min(ends, default=len(text))]


def _search(
    generator: Autoregressive,
    prompt: torch.Tensor,
    length: int,
    n_beams: int,
    given: Mapping[str, Any],
) -> list[int]:
    if given:
        raise UserError(f"--beams: a search draws nothing; leave out --{min(given).replace('_', '-')}")
    try:
        return beam_search(generator.network, prompt, n_beams=n_beams, length=length)
    except ValueError as error:
        raise UserError(f"--beams: {error}") from None


def _enough(generator: Autoregressive, stop: Sequence[str], *, n_bytes: int | None) -> Callable[[list[int]], bool]:
    """Whether symbols hold a string to stop at, or make up so many bytes."""
    assert generator.spec.tokenizer is not None
    sizes = generator.spec.tokenizer.sizes

    def enough(symbols: list[int]) -> bool:
        if n_bytes is not None and int(sizes[symbols].sum()) >= n_bytes:
            return True
        return any(string in _decode(generator, symbols) for string in stop)

    return enough


def _decode(generator: Autoregressive, symbols: Sequence[int]) -> str:
    texts = generator.spec.decode(torch.tensor([symbols], dtype=torch.long))
    assert isinstance(texts, Texts)
    return texts.to_strings()[0]


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
