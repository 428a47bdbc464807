"""The verb `sample`: from a run to pictures, plots or text."""

import sys
from pathlib import Path

import torch

from aigc_lab.config.targets import build
from aigc_lab.data.samples import Images, Points, Texts
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
    temperature: float,
    top_k: int | None,
) -> Path:
    """Draw n samples and write them; texts also go to stdout.

    Returns:
        The file written: a PNG sheet of images, a PNG plot of points, or a text file.

    Raises:
        UserError: the run has no weights, or an option does not fit its kind.
    """
    generator = load(run.path)
    rng = torch.Generator().manual_seed(seed)
    run.samples.mkdir(exist_ok=True)
    if generator.modality != "text":
        if prompt or length or top_k or temperature != 1.0:
            raise UserError("sample: --prompt, --length, --temperature and --top-k are for text models")
        samples = generator.sample(n, rng=rng)
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
    write = generator.continue_bytes if length is None else generator.continue_symbols
    drawn = write(
        symbols.expand(n, -1),
        length or generator.spec.passage,
        rng=rng,
        temperature=temperature,
        top_k=top_k,
    )
    texts = generator.spec.decode(drawn)
    assert isinstance(texts, Texts)
    rule = "\n" + "-" * 72 + "\n"
    text = rule.join(texts.to_strings()) + "\n"
    sys.stdout.write(text)
    path = output or run.samples / f"seed{seed}-n{n}.txt"
    _write(path, text.encode())
    return path


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
