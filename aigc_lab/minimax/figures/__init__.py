"""Figures of the game: pure functions that return a matplotlib Figure, and three kinds of file to write it to."""

from aigc_lab.minimax.figures.canvas import to_gif, to_png, to_svg
from aigc_lab.minimax.figures.coverage import mode_strip
from aigc_lab.minimax.figures.dynamics import eigenvalue_locus, phase_portraits
from aigc_lab.minimax.figures.exact_curves import optimum, saturation, value_of_slopes
from aigc_lab.minimax.figures.training import figure_one, value_curves

__all__ = [
    "eigenvalue_locus",
    "figure_one",
    "mode_strip",
    "optimum",
    "phase_portraits",
    "saturation",
    "to_gif",
    "to_png",
    "to_svg",
    "value_curves",
    "value_of_slopes",
]
