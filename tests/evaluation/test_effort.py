from pathlib import Path

import pytest
import torch

from aigc_lab.evaluation.effort import TYPING, HumanRate, measure, time_saved


def counter(folder: Path, name: str, microjoules: int, wraps_at: int = 10**9) -> Path:
    folder.mkdir()
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    return folder / "energy_uj"


def test_energy_is_the_packages_alone_and_survives_a_wrap(tmp_path: Path) -> None:
    first = counter(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    second = counter(tmp_path / "intel-rapl:1", "package-1", 999_000_000)
    part = counter(tmp_path / "intel-rapl:0:0", "core", 0)
    platform = counter(tmp_path / "intel-rapl:2", "psys", 0)

    def work() -> str:
        first.write_text("4000000")  # 3 J
        second.write_text("1000000")  # 2 J: past 1000 J it starts again
        part.write_text("5000000")
        platform.write_text("5000000")
        return "done"

    result, effort = measure(work, powercap=tmp_path)
    assert result == "done"
    assert effort.energy.kwh == pytest.approx(5 / 3.6e6)
    assert effort.energy.source.startswith("RAPL package-0, RAPL package-1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may have a counter of its own")
def test_energy_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    counter(tmp_path / "intel-rapl:0", "package-0", 1).unlink()
    _, effort = measure(lambda: None, powercap=tmp_path)
    assert effort.energy.kwh is None and "no energy counter is readable" in effort.energy.source
    assert effort.peak_gpu_memory is None


def test_peak_memory_is_of_the_work() -> None:
    _, small = measure(lambda: None)
    _, large = measure(lambda: torch.ones(50_000_000).sum().item())
    _, after = measure(lambda: None)
    if small.peak_memory_of == "the work":
        assert 150e6 < large.peak_memory - small.peak_memory < 300e6
        assert after.peak_memory < large.peak_memory - 100e6
    assert large.seconds > 0 and large.per_second(10) == 10 / large.seconds


def test_time_saved_by_hand() -> None:
    """15,600 bytes are an hour of typing, be they 3,120 words of 5 or 5,200 Chinese characters of 3; half of them
    kept, half an hour."""
    saved = time_saved(15_600, 60, TYPING, kept=0.5)
    assert saved.human_seconds == pytest.approx(1800) and saved.seconds == pytest.approx(1740)
    assert saved.factor == pytest.approx(30)
    assert "52 words of 5 (" in saved.assumptions[0] and "87 Chinese characters of 3" in saved.assumptions[0]
    assert "50% of the bytes" in saved.assumptions[1]
    assert time_saved(1, 7200, HumanRate(1, "pictures", "one an hour")).seconds < 0
