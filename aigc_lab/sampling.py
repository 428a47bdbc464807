"""The verb `sample`: from a run to pictures, plots or text."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aigc_lab.config.targets import build
from aigc_lab.data.samples import Images, Pairs, Points, Texts
from aigc_lab.data.stream import fold
from aigc_lab.decoding import Sampling, beam_search, write
from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.flow import Flow
from aigc_lab.generators import Autoregressive, NeuralGenerator, load
from aigc_lab.looking import LOOKS
from aigc_lab.looking.scene import Scene, look
from aigc_lab.pictures import plot, sheet, to_gif, to_png
from aigc_lab.run import Run
from aigc_lab.translator import Translator


def sample_to_file(
    run: Run,
    *,
    n: int,
    seed: int,
    output: Path | None,
    guidance: float | None,
    prompt: str,
    length: int | None,
    n_beams: int | None,
    stop: Sequence[str],
    **sampling: Any,
) -> Path:
    """Draw n samples and write them; texts also go to stdout. A text ends where its model says so, if it can.

    Args:
        guidance: weight of a flow's guidance; None: as it was configured.
        length: symbols of a text at most; None: a passage, as far as a beam search has room for one.
        sampling: of `aigc_lab.decoding.Sampling`; None where its default holds.

    Returns:
        The file written: a PNG sheet of images, a PNG plot of points, or a text file.

    Raises:
        UserError: the run has no weights, or an option does not fit its kind.
    """
    generator = _loaded(run, guidance)
    given = {name: value for name, value in sampling.items() if value is not None}
    run.samples.mkdir(exist_ok=True)

    def show(texts: Sequence[str]) -> Path:
        return _show(texts, output or run.samples / f"seed{seed}-n{len(texts)}.txt")

    if isinstance(generator, Translator):
        _refuse("an answer ends by itself", length=length, stop=stop)
        answers = _answers(generator, run, prompt, n=n, seed=seed, n_beams=n_beams, given=given)
        return show(answers)
    if not isinstance(generator, Autoregressive) or generator.modality != "text":
        kind = "models that write from left to right" if generator.modality == "text" else "text models"
        _refuse(f"for {kind} only", prompt=prompt, length=length, beams=n_beams, stop=stop, **given)
        if generator.modality != "text":
            _check_picture(output, moves=False)
        samples = generator.sample(n, rng=torch.Generator().manual_seed(seed))
        if isinstance(samples, Texts):
            return show(samples.to_strings())
        path = output or run.samples / f"seed{seed}-n{n}{_named(guidance)}.png"
        if isinstance(samples, Points):
            _write(path, plot(samples, build(run.config().data, path="data").law))
        else:
            assert isinstance(samples, Images)
            _write(path, to_png(sheet(samples, columns=min(n, 16))))
        return path
    try:
        (symbols,) = generator.spec.encode(Texts([prompt.encode()]))
    except ValueError as error:
        raise UserError(f"--prompt: {error}") from None
    if (unread := len(symbols) + 1 - generator.network.context) > 0 and not n_beams:
        print(f"aigc: --prompt: its first {unread} symbols are beyond what is read at once", file=sys.stderr)
    if n_beams:
        room = max(1, generator.network.context - len(symbols))  # a search sees the whole text
        length = length or min(generator.spec.passage, room)
        written = [_search(generator, symbols, length, n_beams, given)]
    else:
        written = write(
            generator.network,
            [symbols] * n,
            seeds=[fold(seed, i) for i in range(n)],
            sampling=Sampling(**given),
            length=length or generator.spec.passage,
            ends=generator.ends,
            stopped=_enough(generator, stop, n_bytes=generator.spec.passage if length is None else None),
        )
    texts = [prompt + cut(_decode(generator, symbols), stop) for symbols in written]
    return show(texts)


def look_to_file(
    run: Run, *, what: str, n: int, seed: int, output: Path | None, guidance: float | None, **options: Any
) -> tuple[Path, str]:
    """Look at a run of images in one of the ways in `aigc_lab.looking.LOOKS`, and write what there is to see.

    Args:
        output: a PNG, or a GIF of what moves; None: a PNG below RUN/samples.
        guidance: weight of a flow's guidance; None: as it was configured.
        options: of the look; None where not given.

    Returns:
        The file, and a line that says what it shows.

    Raises:
        UserError: the run has not what this needs, or an option is wrong.
    """
    _check_picture(output, moves=LOOKS[what].moves)
    scene = Scene(_loaded(run, guidance), run.config().data, run.config().paths.cache, n, seed)
    view = look(what, scene, **{name: value for name, value in options.items() if value is not None})
    path = output or run.samples / f"{what}-seed{seed}-n{n}{_named(guidance)}.png"
    if output is None:
        run.samples.mkdir(exist_ok=True)
    _write(path, to_gif(view.frames) if path.suffix.lower() == ".gif" else to_png(view.picture))
    return path, view.caption


def _loaded(run: Run, guidance: float | None) -> NeuralGenerator:
    """
    Raises:
        UserError: the run has no weights, or is not guided.
    """
    generator = load(run.path)
    if guidance is not None:
        if not isinstance(generator, Flow):
            raise UserError(f"--guidance: is for flows, and {run.path} is none")
        try:
            generator.guide(guidance)
        except ValueError as error:
            raise UserError(f"--guidance {guidance:g}: {error}") from None
    return generator


def _named(guidance: float | None) -> str:
    return "" if guidance is None else f"-guidance{guidance:g}"


def _check_picture(output: Path | None, *, moves: bool) -> None:
    """
    Raises:
        UserError: its name is not that of a picture that can be written.
    """
    if output is not None and output.suffix.lower() not in ((".png", ".gif") if moves else (".png",)):
        raise UserError(f"--output {output}: a picture is written as .png{' or .gif' if moves else ''}")


def _refuse(why: str, **options: Any) -> None:
    """
    Raises:
        UserError: one of the options was given.
    """
    if used := [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in ("", None, ())]:
        raise UserError(f"sample: {', '.join(used)}: {why}")


def _show(texts: Sequence[str], path: Path) -> Path:
    """Texts on stdout and in a file."""
    rule = "\n" + "-" * 72 + "\n"
    text = rule.join(texts) + "\n"
    sys.stdout.write(text)
    _write(path, text.encode())
    return path


def _answers(
    generator: Translator,
    run: Run,
    prompt: str,
    *,
    n: int,
    seed: int,
    n_beams: int | None,
    given: Mapping[str, Any],
) -> list[str]:
    """n answers to the prompt; without one, the first n test sources, each with an answer below it."""
    if prompt:
        sources = Texts([prompt.encode()] * (1 if n_beams else n))
    else:
        pairs = build(run.config().data, path="data").real("held_out")
        assert isinstance(pairs, Pairs)
        sources = pairs.sources[:n]
    try:
        if n_beams:
            _refuse("a search draws nothing", **given)
            answers = generator.search(sources, n_beams=n_beams)
        else:
            rng = torch.Generator().manual_seed(seed)
            answers = generator.respond(sources, rng=rng, sampling=Sampling(**given))
    except ValueError as error:
        raise UserError(f"--prompt: {error}") from None
    shown = answers.to_strings()
    return shown if prompt else [f"{a}\n{b}" for a, b in zip(sources.to_strings(), shown, strict=True)]


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
        return beam_search(generator.network, prompt, n_beams=n_beams, length=length, ends=generator.ends)
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
