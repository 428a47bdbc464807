import json

import pytest

from aigc_lab import doctor
from aigc_lab.cli import main


def broken(findings: list[doctor.Finding]) -> dict[str, doctor.Finding]:
    return {f["check"]: f for f in findings if f["status"] == "broken"}


def test_this_installation_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out.splitlines()[-1])["findings"]
    assert not broken(findings)
    assert {"python", "torch and torchvision", "imports", "processors", "disk"} <= {f["check"] for f in findings}


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    real = doctor._version
    names = {name.replace("_", "-"): version for name, version in versions.items()}
    monkeypatch.setattr(doctor, "_version", lambda name: names[name] if name in names else real(name))


def test_a_torchvision_for_another_torch_is_named_with_its_mend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, torch="2.13.0+cpu", torchvision="0.29.2")
    monkeypatch.setattr(doctor, "_imports", lambda: doctor._finding("imports", "not tried"))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "✗ torch and torchvision: torch 2.13.0+cpu, torchvision 0.29.2 do not belong together" in out
    assert "mend: pip install 'torch" in out and "'torchvision==0.29.2'" in out


def test_an_import_that_fails_in_the_binaries_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Child:
        returncode = 1
        stderr = "Traceback\nRuntimeError: operator torchvision::nms does not exist\n"

    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **kwargs: Child())
    finding = doctor._imports()
    assert finding["status"] == "broken"
    assert "built for different versions" in finding["detail"]
    assert "--force-reinstall torch torchvision" in finding["mend"]


def test_a_missing_an_old_and_a_second_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, rich=None, pydantic="1.0", lightning="2.6.4")
    findings = broken([*doctor._requirements(), doctor._lightning_twin()])
    assert findings["rich"]["detail"] == "not installed"
    assert findings["pydantic"]["detail"].startswith("1.0, needs")
    assert findings["one Lightning"]["mend"] == "pip uninstall lightning"
