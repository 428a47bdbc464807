"""Lightning callbacks. Configurations name them here."""

from aigc_lab.callbacks.checkpoint import AtomicCheckpointIO, Checkpoint
from aigc_lab.callbacks.pictures import LogSamples
from aigc_lab.callbacks.progress import ShowProgress
from aigc_lab.callbacks.theory import LogParzen, MinimaxValue, StartAtMeans
from aigc_lab.callbacks.watch import WatchGame

__all__ = [
    "AtomicCheckpointIO",
    "Checkpoint",
    "LogParzen",
    "LogSamples",
    "MinimaxValue",
    "ShowProgress",
    "StartAtMeans",
    "WatchGame",
]
