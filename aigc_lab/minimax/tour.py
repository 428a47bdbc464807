"""The verb `minimax`: the game in seven steps, on the terminal and as one page that can be read offline."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.minimax.laws import Gaussians

if TYPE_CHECKING:
    from rich.console import Console

Say = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How much is trained. `--quick` gives the same page from shorter games."""

    line_steps: int
    frames: int
    plane_steps: int
    separations: int


FULL = Effort(line_steps=600, frames=40, plane_steps=2500, separations=32)
QUICK = Effort(line_steps=60, frames=10, plane_steps=150, separations=8)


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI."""

    uri: str
    alt: str
    still: str = ""
    """Instead of an animation, for readers who asked their device for less motion."""


@dataclass(frozen=True)
class Text:
    """What a step says, in two languages."""

    title: str
    body: str


@dataclass(frozen=True)
class Step:
    """One screen of the terminal, one section of the page."""

    formula: str
    en: Text
    zh: Text
    pictures: tuple[Picture, ...]


def run_tour(p: Gaussians, q: Gaussians, output: Path, effort: Effort, say: Say, *, made_by: str) -> None:
    """Show the steps one after another, write the page, print its path as the last line.

    Raises:
        UserError: the page cannot be written.
    """
    from rich.console import Console

    say("importing torch and matplotlib")
    from aigc_lab.minimax.tour_steps import steps

    waits = sys.stdin.isatty() and sys.stdout.isatty()
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    shown = []
    for i, step in enumerate(steps(p, q, effort, say), 1):
        show(console, i, step)
        sys.stdout.flush()
        shown.append(step)
        if waits:
            waits = pause(console)
    write_page(shown, output, quick=effort == QUICK, made_by=made_by)
    print(output, flush=True)


def pause(console: "Console") -> bool:
    """Wait for Enter; False at the end of the input: the reader wants the rest at once."""
    try:
        console.input("[dim]Enter for the next step, Ctrl-D for the rest at once[/dim] ")
    except EOFError:
        return False
    return True


def show(console: "Console", number: int, step: Step) -> None:
    """One screen."""
    from rich.padding import Padding
    from rich.text import Text as Words

    console.rule(Words(f"{number}. {step.en.title}", style="bold"), align="left", style="dim")
    console.print(Padding(Words(step.formula, style="cyan"), (1, 0, 1, 4)))
    console.print(Words(step.en.body))
    console.print(Words("on the page: " + "; ".join(picture.alt for picture in step.pictures), style="dim"))
    console.print()


def write_page(steps: Sequence[Step], output: Path, *, quick: bool, made_by: str) -> None:
    """One file without scripts and without references to anything outside it.

    Raises:
        UserError: it cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("aigc_lab.minimax", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("tour.html.j2")
    html = template.render(steps=steps, quick=quick, made_by=made_by)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, html)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
