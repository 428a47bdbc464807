"""Figures of the game: pure functions that return a matplotlib Figure, and four kinds of file to write it to."""

from aigc_lab.minimax.figures.canvas import to_gif, to_png, to_small_png, to_svg
from aigc_lab.minimax.figures.coverage import mode_panels, mode_strip
from aigc_lab.minimax.figures.dynamics import eigenvalue_locus, phase_portraits
from aigc_lab.minimax.figures.exact_curves import optimum, saturation, value_of_slopes
from aigc_lab.minimax.figures.measured import Game, measured_gradients, played_games, trained_discriminators
from aigc_lab.minimax.figures.training import figure_one, value_curves

__all__ = [
    "Game",
    "eigenvalue_locus",
    "figure_one",
    "measured_gradients",
    "mode_panels",
    "mode_strip",
    "optimum",
    "phase_portraits",
    "played_games",
    "saturation",
    "to_gif",
    "to_png",
    "to_small_png",
    "to_svg",
    "trained_discriminators",
    "value_curves",
    "value_of_slopes",
]
