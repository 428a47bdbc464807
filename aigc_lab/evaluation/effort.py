"""What making samples costs: speed, memory, energy, and the time that they save over a human hand.

Every number that rests on an assumption carries it, so that it can be printed beside.
"""

import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of processors (RAPL: Intel's, and AMD's under the same names)."""

JOULES_PER_KWH = 3.6e6

T = TypeVar("T")


@dataclass(frozen=True)
class Energy:
    """Energy drawn while the work was done, or why it is not known.

    Attributes:
        kwh: of the whole processor packages and GPUs that could be read, whoever else used them; None where none
            could.
        source: which counters, or the reason.
    """

    kwh: float | None
    source: str


@dataclass(frozen=True)
class Effort:
    """What a piece of work took.

    Attributes:
        seconds: wall time.
        peak_memory: highest resident size of the process meanwhile, in bytes.
        peak_memory_of: `the work`, or `the process so far` where Linux would not let the peak be reset.
        peak_gpu_memory: highest size of torch's allocations on the GPU meanwhile, in bytes; None without one.
        energy: of the machine meanwhile.
    """

    seconds: float
    peak_memory: int
    peak_memory_of: str
    peak_gpu_memory: int | None
    energy: Energy

    def per_second(self, count: int) -> float:
        """Samples, bytes or tokens a second, where the work made so many."""
        return count / self.seconds


def measure(work: Callable[[], T], *, powercap: Path = POWERCAP) -> tuple[T, Effort]:
    """Do it, and say what it took. Measurements do not nest: the inner one resets the outer one's peaks."""
    gpu = torch.cuda.is_available()
    reset = _reset_peak_memory()
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    counters = _cpu_counters(powercap) + _gpu_counters()
    before = [counter.read() for counter in counters]
    began = time.perf_counter()
    result = work()
    if gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    joules = sum(counter.since(start) for counter, start in zip(counters, before, strict=True))
    energy = (
        Energy(joules / JOULES_PER_KWH, ", ".join(counter.name for counter in counters))
        if counters
        else Energy(None, f"no energy counter is readable: neither RAPL below {powercap} nor NVML")
    )
    effort = Effort(
        seconds,
        _peak_memory(),
        "the work" if reset else "the process so far",
        torch.cuda.max_memory_allocated() if gpu else None,
        energy,
    )
    return result, effort


def _reset_peak_memory() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_memory() -> int:
    """Bytes. Linux counts ru_maxrss in KiB."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class _Counter:
    """Joules drawn so far, starting again from 0 at `wraps_at`."""

    name: str
    read: Callable[[], float]
    wraps_at: float

    def since(self, start: float) -> float:
        """Right if it wrapped at most once: a package at 100 W does so every 45 minutes."""
        drawn = self.read() - start
        return drawn if drawn >= 0 else drawn + self.wraps_at


def _cpu_counters(powercap: Path) -> list[_Counter]:
    """One for each processor package. Its parts (`intel-rapl:0:0`) are counted in it, `psys` counts it again."""
    counters = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        with suppress(OSError, ValueError):
            name = (folder / "name").read_text().strip()
            if folder.name.count(":") == 1 and name != "psys":
                file, wraps_at = folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()) / 1e6
                int(file.read_text())  # since 2020 only root may
                counters.append(_Counter(f"RAPL {name}", partial(_joules, file), wraps_at))
    return counters


def _joules(file: Path) -> float:
    return int(file.read_text()) / 1e6


def _gpu_counters() -> list[_Counter]:
    """One for each GPU that torch sees, where NVML's Python binding is installed (Volta and newer count)."""
    if not torch.cuda.is_available():
        return []
    try:
        import pynvml
    except ImportError:
        return []
    counters = []
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for index in range(torch.cuda.device_count()):
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(index).uuid}")
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)  # an older card refuses here
            counters.append(_Counter(f"NVML GPU {index}", partial(_gpu_joules, handle), wraps_at=2**64 / 1e3))
    return counters


def _gpu_joules(handle: object) -> float:
    import pynvml

    return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


@dataclass(frozen=True)
class HumanRate:
    """How fast a person does the same.

    Attributes:
        per_hour: units an hour.
        unit: `bytes` or `pictures`.
        assumption: where the number comes from, to be printed beside whatever rests on it.
    """

    per_hour: float
    unit: str
    assumption: str


TYPING = HumanRate(
    60 * 52 * 5,
    "bytes",
    "typing 260 bytes a minute: 52 words of 5 (mean of 168,000 volunteers, Dhakal et al. 2018), or 87 Chinese "
    "characters of 3 (an assumption, no measurement)",
)
"""A word of the typing literature is five characters, spaces among them, which are as many bytes of ASCII."""

DRAWING = HumanRate(4, "pictures", "4 pictures an hour: an assumption, no measurement")


@dataclass(frozen=True)
class TimeSaved:
    """How much longer a person would have taken for what is worth keeping.

    Attributes:
        human_seconds, machine_seconds: for the units that are kept; the machine makes the others too.
        kept: their share.
        assumptions: to be printed beside.
    """

    human_seconds: float
    machine_seconds: float
    kept: float
    assumptions: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Saved; negative where the machine takes longer."""
        return self.human_seconds - self.machine_seconds

    @property
    def factor(self) -> float:
        """How many times as fast the machine is."""
        return self.human_seconds / self.machine_seconds


def time_saved(units: float, seconds: float, rate: HumanRate, *, kept: float = 1.0) -> TimeSaved:
    """Time saved by making `units` in `seconds` instead of by hand.

    Args:
        units: bytes or pictures that the machine made.
        rate: a person's.
        kept: share of them that is worth keeping: that looks like data, and not all alike.
    """
    assumptions = (
        rate.assumption,
        f"{kept:.0%} of the {rate.unit} are worth keeping (the smaller of precision and coverage)",
        "nobody looks at them to decide, training time is not counted",
    )
    return TimeSaved(units * kept / rate.per_hour * 3600, seconds, kept, assumptions)
