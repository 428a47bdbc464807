"""The verb `doctor`: is this installation sound? Package metadata first, imports in child processes, so that
a broken package is a finding and not a crash."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, TypedDict

from packaging.requirements import InvalidRequirement, Requirement

STATES = {"ok": "✓", "note": "·", "broken": "✗"}


class Finding(TypedDict):
    """One line of the examination; `mend` is a command or an advice, empty where nothing is wrong."""

    check: str
    status: Literal["ok", "note", "broken"]
    detail: str
    mend: str


def examine() -> list[Finding]:
    """Every check, in the order in which they explain one another."""
    return [
        _python(),
        *_requirements(),
        _torchvision(),
        _imports(),
        _lightning_twin(),
        _processors(),
        _disk(),
        _data(),
    ]


def print_findings(findings: list[Finding]) -> None:
    for finding in findings:
        mend = f"\n    mend: {finding['mend']}" if finding["mend"] else ""
        print(f"{STATES[finding['status']]} {finding['check']}: {finding['detail']}{mend}")


def _finding(check: str, detail: str, mend: str = "", *, note: bool = False) -> Finding:
    status: Literal["ok", "note", "broken"] = "note" if note else "broken" if mend else "ok"
    return {"check": check, "status": status, "detail": detail, "mend": mend}


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return _finding("python", found, "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer")


def _requirements() -> list[Finding]:
    """The lab's own requirements, against what is installed."""
    findings = []
    for line in requires("aigc_lab") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        if found is None:
            findings.append(_finding(requirement.name, "not installed", f"pip install '{requirement}'"))
        elif not requirement.specifier.contains(found, prereleases=True):
            findings.append(
                _finding(
                    requirement.name,
                    f"{found}, needs {requirement.specifier}",
                    f"pip install '{requirement}'",
                )
            )
    return findings or [_finding("requirements", "all installed, in the versions that are asked for")]


def _torchvision() -> Finding:
    """torchvision says which torch it was built for; with another, its operators fail on import."""
    torch, torchvision = _version("torch"), _version("torchvision")
    if torch is None or torchvision is None:
        return _finding(
            "torch and torchvision",
            f"torch {torch}, torchvision {torchvision}",
            "pip install torch torchvision",
        )
    pair = f"torch {torch}, torchvision {torchvision}"
    for line in requires("torchvision") or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.name == "torch" and not requirement.specifier.contains(
            torch.split("+")[0], prereleases=True
        ):
            return _finding(
                "torch and torchvision",
                f"{pair} do not belong together (this torchvision needs torch{requirement.specifier})",
                f"pip install 'torch{requirement.specifier}' 'torchvision=={torchvision.split('+')[0]}'",
            )
    return _finding("torch and torchvision", pair)


def _imports() -> Finding:
    """Import the heavy packages in a child process: metadata can agree and the binaries still not."""
    code = "import torch, torchvision, pytorch_lightning, torchmetrics, transformers"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if child.returncode == 0:
        return _finding("imports", "torch, torchvision, pytorch_lightning, torchmetrics, transformers")
    last = (child.stderr.strip().splitlines() or ["no message"])[-1]
    mend = "pip install --force-reinstall torch torchvision"
    if "nms" in last or "torchvision" in last:
        last += " (torch and torchvision were built for different versions)"
    return _finding("imports", last, mend)


def _lightning_twin() -> Finding:
    """A second distribution of Lightning breaks isinstance checks between the two."""
    twin = _version("lightning")
    detail = f"pytorch-lightning {_version('pytorch-lightning')}" + (f" beside lightning {twin}" if twin else "")
    return _finding("one Lightning", detail, "pip uninstall lightning" if twin else "")


def _processors() -> Finding:
    code = (
        "import torch; print(*[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())], sep=', ')"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    gpus = child.stdout.strip() or "no CUDA GPU; trainer=cpu and trainer=ddp_cpu work here"
    return _finding("processors", f"{os.cpu_count()} CPU cores; {gpus}", note=not child.stdout.strip())


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / 2**30
    return _finding(
        "disk", f"{free:.0f} GiB free here", "free some space: runs need about 1 GiB" if free < 1 else ""
    )


def _data() -> Finding:
    """AIGC_DATA, which MNIST and its like are read from; not needed for the embedded data."""
    root = os.environ.get("AIGC_DATA")
    if root is None:
        return _finding("AIGC_DATA", "not set; MNIST and its like are then looked for in ./data", note=True)
    exists = Path(root).is_dir()
    return _finding("AIGC_DATA", root, "" if exists else "name a folder that exists, or unset AIGC_DATA")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
