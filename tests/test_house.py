"""The repository as a whole: who imports whom, what ships, what the documents say."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

from aigc_lab.cli import aigc
from aigc_lab.config.compose import Composer
from aigc_lab.reproduce.plan import Plan
from aigc_lab.reproduce.reproduction import judge_again

ROOT = Path(__file__).resolve().parents[1]


def test_imports_go_downwards_only() -> None:
    """The contracts of pyproject.toml, as `make lint` checks them."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def a_run(folder: Path, *overrides: str, name: str = "run") -> Path:
    """As much of a run as another needs to be composed that begins as it."""
    (folder / name).mkdir()
    (folder / name / "config.yaml").write_text(yaml.safe_dump({"model": Composer().train(overrides).model}))
    return folder / name


MODEL_OF = dict.fromkeys(("generator", "discriminator", "objective", "penalties", "augment"), "gan")
MODEL_OF |= dict.fromkeys(("velocity", "solver", "guidance"), "flow")
"""Which model a group of options below `model/` belongs to, where it is not the VAE's."""


def test_every_experiment_and_every_option_composes(tmp_path: Path) -> None:
    composer, run = Composer(), a_run(tmp_path)
    experiments = composer.options("experiment")
    assert {
        "text/pydoc",
        "text/stdlib_code",
        "image/digits_gan",
        "image/digits_vae",
        "text/digits_pixels",
    } <= set(experiments)
    for name in experiments:
        assert composer.reproduction([f"experiment={name}"]).name == name
    given = {
        "data=text_file": ["data.path=x"],
        "data/tokenizer=hf": ["data.tokenizer.path=x"],
        "data=image_folder": ["data.path=x", "model=gan"],
        "data=pairs": ["data.path=x", "model=encoder_decoder"],
        "model=hf": ["model.path=x"],
        "data=instructions": ["data.path=x"],
        "data=preferences": ["data.path=x"],
        "data/template=plain": ["data=instructions", "data.path=x"],
        "data/tokenizer=run": ["data.tokenizer.path=x"],
        "model=finetune": [f"model.run={run}"],
        "model=dpo": [f"model.run={run}"],
        "model=code_transformer": [f"model.run={a_run(tmp_path, 'data=digits', 'model=vqvae', name='codes')}"],
        "model=resampled": [f"model.run={a_run(tmp_path, 'data=digits', 'model=gan', name='players')}"],
        "model/codes=strided": ["model=vqvae"],
        "model/adapters=lora": ["model=hf", "model.path=x"],
    }
    for group in composer.groups():
        for option in composer.options(group):
            if group.startswith("evaluation/"):
                of_judges = [f"evaluation.{group[11:].replace('/', '.')}.model=x"] if option == "causal_lm" else []
                composer.evaluate([f"{group}={option}", *of_judges])
            elif group not in ("experiment", "evaluation"):
                model = MODEL_OF.get(group[6:].removesuffix("_condition"), "vae")
                needed = [f"model={model}"] if group.startswith("model/") else []
                composer.train([f"{group}={option}", *(given.get(f"{group}={option}", needed))])
    for option in composer.options("evaluation"):
        assert composer.evaluate([f"evaluation={option}"]).evaluation.name == option


def test_the_wheel_brings_its_configs(tmp_path: Path) -> None:
    """Built, installed into an environment of its own, run from an empty folder: every experiment is found."""
    pip, source = [sys.executable, "-m", "pip"], tmp_path / "source"
    left_out = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=left_out)  # what an earlier build left in the tree must not count
    build = [*pip, "wheel", str(source), "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    install = [*pip, "--python", python, "install", "--no-deps", "--no-index", "-q", wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    (site,) = (tmp_path / "env").glob("lib/*/site-packages")
    (lender,) = {p for p in sys.path if p.endswith("site-packages") and Path(p, "torch").is_dir()}
    (site / "borrowed.pth").write_text(lender + "\n")  # the dependencies, without installing gigabytes again
    (tmp_path / "empty").mkdir()

    code = (
        "import aigc_lab; from aigc_lab.config.compose import Composer; c = Composer()\n"
        "from aigc_lab.evaluation import report; from jinja2 import PackageLoader\n"
        "PackageLoader('aigc_lab.evaluation.report', '.').list_templates().index('report.html.j2')\n"
        "PackageLoader('aigc_lab.minimax', '.').list_templates().index('tour.html.j2')\n"
        "print(aigc_lab.__file__, *[c.reproduction([f'experiment={e}']).name for e in c.options('experiment')])"
    )
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path / "empty", capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    where, *found = done.stdout.split()
    assert where.startswith(str(site))
    assert found == Composer().options("experiment")


DOCUMENTS = ["README.md", "README.zh-CN.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))]


def commands(document: str) -> list[str]:
    """Every `aigc ...` line of the code blocks, continuation lines joined."""
    blocks = re.findall(r"```(?:bash|console|sh)\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [m.group(1) for m in re.finditer(r"^(?:\$ )?(aigc .*?)(?:\s+#.*)?$", text, re.MULTILINE)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_documented_command_exists_and_composes(document: str, tmp_path: Path) -> None:
    of_text, of_images = a_run(tmp_path), a_run(tmp_path, "data=digits", "model=gan", name="players")
    for command in commands(document):
        _, verb, *arguments = shlex.split(command)
        assert verb in aigc.commands, command
        options = {o for parameter in aigc.commands[verb].params for o in parameter.opts}
        for argument in arguments:
            if argument.startswith("-"):
                assert argument.split("=")[0] in options, command
        if verb == "train":
            overrides = [a for a in arguments if not a.startswith(("-", "model.run="))]
            run = of_images if "model=resampled" in arguments else of_text
            overrides += [f"model.run={run}" for a in arguments if a.startswith("model.run=")]
            composer = Composer()
            for combination in composer.sweep(overrides) if "-m" in arguments else [overrides]:
                composer.train(combination)


def test_the_table_of_groups_has_every_option() -> None:
    rows = [
        line.split("|")[1:3] for line in (ROOT / "docs/configuration.md").read_text().splitlines() if "|" in line
    ]
    told = {group: text for groups, text in rows for group in re.findall("`([^`]+)`", groups)}
    composer = Composer()
    for group in composer.groups():
        options = set() if group == "experiment" else set(composer.options(group))
        assert options <= set(re.findall("`([^`]+)`", told[group])), group


def test_every_committed_result_is_judged_by_the_claims_of_now(tmp_path: Path) -> None:
    """And the ledger is theirs: after a change of claims, `aigc reproduce NAME --judge`."""
    composer, committed = Composer(), ROOT / "experiments"
    names, files = composer.with_claims(), sorted(committed.glob("*/*.results.*"))
    for file in files:
        (tmp_path / file.parent.name).mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / file.relative_to(committed))
    for file in (file for file in files if file.suffix == ".json"):
        name = str(file.relative_to(committed)).removesuffix(".results.json")
        claims = composer.reproduction([f"experiment={name}"]).claims
        assert claims is not None
        judge_again(Plan(name, claims, False, tmp_path, []), with_claims=names)
        assert (tmp_path / file.relative_to(committed)).read_text() == file.read_text(), name
    assert (tmp_path / "LEDGER.md").read_text() == (committed / "LEDGER.md").read_text()


def test_both_readmes_show_the_same_commands() -> None:
    assert commands("README.md") == commands("README.zh-CN.md")
    assert {shlex.split(c)[1] for c in commands("README.md")} == set(aigc.commands)


def test_no_address_of_a_registry_or_a_machine_is_committed() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    pattern = re.compile(r"pythonhosted|pypi\.org|/wor[k]/|--index-url")
    for name in tracked:
        path = ROOT / name
        if path.suffix not in (".png", ".gif") and path.is_file():
            assert not pattern.search(path.read_text(encoding="utf-8")) or name == "tests/test_house.py", name


def test_the_notebooks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executed from top to bottom in an empty folder, and committed without outputs."""
    import nbformat
    from nbclient import NotebookClient

    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert notebooks
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # their `!aigc` is this one
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        assert all(not cell.get("outputs") for cell in notebook.cells), f"{path.name}: clear its outputs"
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
