"""What most measures of images show: samples of each trial, in a row of their own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aigc_lab.data.samples import Images
from aigc_lab.pictures import sheet
from aigc_lab.reproduce.trial import Seen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_SHOWN = 12
"""Images in a row."""


def rows_of_samples(seen: Sequence[Seen]) -> "Figure | None":
    """Some samples of each trial; None where they are no images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.36 * N_SHOWN + 1.8, 0.38 * len(seen) + 0.1), layout="constrained")
    for axes, s in zip(figure.subplots(len(seen), squeeze=False)[:, 0], seen, strict=True):
        generator = s.trial.generator
        if generator.modality != "image":
            return None
        samples = generator.sample(N_SHOWN, rng=s.trial.rng())
        assert isinstance(samples, Images)
        axes.imshow(sheet(samples, columns=N_SHOWN))
        axes.set_ylabel(f"{s.variant} seed {s.trial.seed}", rotation=0, ha="right", va="center", fontsize=7)
        axes.set(xticks=[], yticks=[], frame_on=False)
    return figure
