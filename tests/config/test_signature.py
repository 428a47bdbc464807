"""Signatures are read from source, before anything is imported."""

from pathlib import Path

import pytest

from aigc_lab.config.signature import signature


def test_a_single_file_of_ones_own_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_networks.py").write_text("class Net:\n    def __init__(self, *, width: int) -> None: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(signature("own_networks.Net", typed=True).parameters) == ["width"]
