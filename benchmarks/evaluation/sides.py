"""What the benchmarks here share: sides take turns on the same input, each turn in a process of its own, and the
last line is one JSON document."""

import contextlib
import io
import json
import multiprocessing
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Inputs = Callable[[int], tuple[Tensor, Tensor]]
"""Number of items to real and generated features."""
Side = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class Turn:
    """What one side returned once, and what it took: `extra_mb` is its peak above the process with its inputs."""

    value: Any
    seconds: float
    extra_mb: float


def require(*packages: str) -> None:
    """Stop with one line where a package is not installed."""
    missing = [package for package in packages if not _installed(package)]
    if missing:
        sys.exit(f"this benchmark compares with packages that are not here: pip install {' '.join(missing)}")


def take_turns(sides: Mapping[str, Side], inputs: Inputs, n: int, rounds: int) -> dict[str, list[Turn]]:
    """Every side once in each round: whatever slows the machine for a while slows all of them."""
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    for index in range(rounds):
        for name, side in sides.items():
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                turns[name].append(process.submit(_turn, side, inputs, n).result())
            done = turns[name][-1]
            print(f"round {index + 1}, {name}: {done.seconds:.2f} s, {done.extra_mb:.0f} MB", flush=True)
    return turns


def finish(benchmark: str, turns: Mapping[str, list[Turn]], packages: tuple[str, ...], **more: Any) -> None:
    """Print medians, and the median over the rounds of each peer's time over ours, as the last line."""
    result = {
        "benchmark": benchmark,
        "seconds": {name: _median(t.seconds for t in own) for name, own in turns.items()},
        "extra_mb": {name: _median(t.extra_mb for t in own) for name, own in turns.items()},
        "speedup": {
            name: _median(p.seconds / o.seconds for p, o in zip(own, turns["ours"], strict=True))
            for name, own in turns.items()
        },
        "value": {name: own[0].value for name, own in turns.items()},
        **more,
        "rounds": len(turns["ours"]),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "versions": {package: version(package) for package in ("torch", "numpy", "scipy", *packages)},
    }
    print(json.dumps(result))


def _turn(side: Side, inputs: Inputs, n: int) -> Turn:
    with contextlib.redirect_stdout(io.StringIO()):  # prdc prints
        side(*inputs(200))  # loads what is loaded lazily
        real, generated = inputs(n)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
        before = _memory("VmRSS")
        began = time.perf_counter()
        value = side(real, generated)
        seconds = time.perf_counter() - began
    return Turn(value, seconds, _memory("VmHWM") - before)


def _memory(field: str) -> float:
    """Of this process, MB."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def _median(values: Any) -> float:
    return round(statistics.median(values), 3)


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
