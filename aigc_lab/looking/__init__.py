"""What there is to see of a run of images: `aigc sample RUN --what NAME`.

The names stand here so that `--help` can list them; what draws them is imported when one is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SAMPLES = "samples"
"""What `aigc sample` shows of any run, without a look."""


@dataclass(frozen=True)
class Look:
    """One way to look at a generator.

    Attributes:
        function: `module.function` below this package: a `Scene` and the options that were given in, a `View` out.
        shows: one line of help.
        needs: what the generator must have, a key of `aigc_lab.looking.scene.ABILITIES`.
        instead: an option that takes the place of what it needs.
        options: of the command line, besides -n and --seed, that it takes.
        moves: whether it has frames for a GIF.
    """

    function: str
    shows: str
    needs: str = "images"
    instead: str = ""
    options: tuple[str, ...] = ()
    moves: bool = False


LOOKS: Mapping[str, Look] = {
    "grid": Look("drawn.grid", "samples of the noise that `callbacks=pictures` logs through training"),
    "interpolate": Look("walks.interpolate", "from one latent to another, a walk a row", "latents", moves=True),
    "truncate": Look("walks.truncate", "latents pulled to their mean, a row for each psi", "latents", moves=True),
    "arithmetic": Look("walks.arithmetic", "latents A - B + C", "latents that add up", options=("classes",)),
    "reconstruct": Look(
        "restoring.reconstruct", "held-out images above what their latents or codes say", "reconstruction"
    ),
    "inpaint": Look("restoring.inpaint", "held-out images with a hole, and filled in", "completion"),
    "classes": Look("drawn.classes", "a row of samples for each class", "classes", options=("classes",)),
    "neighbours": Look("drawn.neighbours", "samples above the nearest training images"),
    "style": Look(
        "style.style",
        "a picture (or samples) painted in another one's style",
        "network to see with",
        "vgg",
        options=("style", "content", "vgg", "size", "steps", "style_weight"),
        moves=True,
    ),
}
