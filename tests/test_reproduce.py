"""`aigc reproduce`: claims become verdicts, and a claim that fails is shown as failed."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from aigc_lab.cli import main
from aigc_lab.config import compose
from aigc_lab.config.schema import Claims, check
from aigc_lab.errors import UserError
from aigc_lab.reproduce import measures
from aigc_lab.reproduce.ledger import number, ours, write_ledger
from aigc_lab.reproduce.plan import make_plan
from aigc_lab.reproduce.verdict import judge, t_interval

TINY = """# @package _global_
defaults:
  - override /data: ring8
  - override /model: gan
  - override /model/generator: mlp
  - override /model/discriminator: mlp
  - override /logger: none
  - _self_
data: {batch_size: 8, n_train: 100, n_held_out: 100}
model: {latent_dim: 2, generator: {hidden: [8]}, discriminator: {hidden: [8]}}
trainer: {max_steps: 4, num_threads: 1}
claims:
  protocol: eight modes in four steps
  seeds: [0, 1]
  quick: {seeds: [0], overrides: [trainer.max_steps=2]}
  variants:
    non_saturating: []
    minimax: [model/objective=minimax]
  measures:
    coverage: {_target_: aigc_lab.reproduce.measures.ModeCoverage, n: 50}
    game: {_target_: aigc_lab.reproduce.measures.GameAtItsEnd, n: 2000}
  judged:
    - {quantity: modes, variant: minimax, published: 8, at_least: 8, source: a tiny run cannot}
    - {quantity: jsd, published: 0, source: theorem 1, at_most: 0.7}
    - {quantity: reverse_kl, variant: minimax, minus: non_saturating, source: ours}
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configs with one experiment that makes claims."""
    (tmp_path / "conf/experiment/area").mkdir(parents=True)
    (tmp_path / "conf/experiment/area/tiny.yaml").write_text(TINY)
    monkeypatch.setattr(measures, "LARGE", 1000)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "conf"


def test_from_an_experiment_to_its_ledger(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reproduce", "area/tiny", "--config-dir", str(mine), "--json"]
    assert main([*command, "--quick"]) == 0, "a quick version proves nothing either way"
    out = capsys.readouterr().out
    results = json.loads(out.splitlines()[-1])
    written = json.loads((mine / "experiment/area/tiny.quick.results.json").read_text())
    assert written == results and results["quick"] and "short version" in results["note"]
    verdicts = {(c["quantity"], c["variant"]): c["verdict"] for c in results["claims"]}
    assert verdicts == {
        ("modes", "minimax"): "fails",
        ("jsd", "non_saturating"): "holds",
        ("jsd", "minimax"): "holds",
        ("reverse_kl", "minimax"): "reported",
    }
    per_seed = results["measured"]["minimax"]["reverse_kl"], results["measured"]["non_saturating"]["reverse_kl"]
    assert results["claims"][3]["per_seed"] == [a - b for a, b in zip(*per_seed, strict=True)]
    runs = sorted(Path("runs").glob("area/tiny/*/run.json"))
    assert len(runs) == 2 and "claims: null" in (runs[0].parent / "config.yaml").read_text()
    before = [r.stat().st_mtime_ns for r in runs]

    assert main([*command, "--quick"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [r.stat().st_mtime_ns for r in runs] == before, "finished runs are used again"
    assert again["measured"] == results["measured"]

    ledger = (mine / "experiment/LEDGER.md").read_text()
    assert "| area/tiny (**quick**) | modes (minimax) | 8 (a tiny run cannot) |" in ledger
    assert "| at least 8, every seed | **fails** |" in ledger
    assert "image/digits_gan" not in ledger and "minimax/dirac" not in ledger, "claims of this folder only"
    git = json.loads(runs[0].read_text())["git"] or {"commit": "installed package"}
    assert results["trained_at"] == [git["commit"]] and results["diverged"] == []
    assert ledger.rstrip().endswith("![area/tiny](area/tiny.quick.results.png)")
    assert ledger.count("| eight modes in four steps |") == 1

    assert main(command) == 1, "a claim of the full version fails"
    full = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(full["claims"][0]["per_seed"]) == 2 and not full["quick"] and full["note"] == ""
    assert json.loads((mine / "experiment/area/tiny.quick.results.json").read_text()) == again
    ledger = (mine / "experiment/LEDGER.md").read_text()
    assert "quick**) |" not in ledger and "| **fails** |" in ledger, (
        "the quick result does not stand before the full one"
    )
    picture = mine / "experiment/area/tiny.results.png"
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 100_000
    assert "![area/tiny](area/tiny.results.png)" in ledger


def test_new_claims_are_judged_on_old_measurements(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reproduce", "area/tiny", "--config-dir", str(mine), "--quick", "--judge", "--json"]
    assert main(command) == 2
    assert (
        "there is nothing to judge; measure it anew: aigc reproduce area/tiny --quick" in capsys.readouterr().err
    )
    assert main([word for word in command if word != "--judge"]) == 0
    before = json.loads(capsys.readouterr().out.splitlines()[-1])
    shutil.rmtree("runs")
    experiment, path = mine / "experiment/area/tiny.yaml", mine / "experiment/area/tiny.quick.results.json"
    experiment.write_text(TINY.replace("at_least: 8", "at_least: 0"))
    assert main(command) == 0
    after = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (before["claims"][0]["verdict"], after["claims"][0]["verdict"]) == ("fails", "holds")
    assert after == json.loads(path.read_text()) == before | {"claims": after["claims"]}
    assert "| at least 0, every seed | holds |" in (mine / "experiment/LEDGER.md").read_text()
    for changed, says in (
        (
            TINY.replace("quick: {seeds: [0]", "quick: {seeds: [3]"),
            "is of seeds [0], and area/tiny is judged on [3]",
        ),
        (TINY.replace("quantity: jsd,", "quantity: surprise,"), "has no 'surprise'; measure it anew"),
    ):
        experiment.write_text(changed)
        assert main(command) == 2 and says in capsys.readouterr().err
    assert json.loads(path.read_text()) == after and not Path("runs").exists()


def test_a_trial_that_diverges_fails_its_claims_and_the_rest_goes_on(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diverging = TINY.replace("minimax: [model/objective=minimax]", "minimax: [model.lr=1e30]")
    (mine / "experiment/area/tiny.yaml").write_text(diverging)
    command = ["reproduce", "area/tiny", "--config-dir", str(mine), "--json"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert "minimax seed 0 has diverged" in err and "Traceback" not in err
    results = json.loads(out.splitlines()[-1], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert results == json.loads((mine / "experiment/area/tiny.results.json").read_text())
    assert results["diverged"] == ["minimax seed 0", "minimax seed 1"]
    claims = {(c["quantity"], c["variant"]): (c["verdict"], c["value"]) for c in results["claims"]}
    assert claims["modes", "minimax"] == claims["jsd", "minimax"] == ("fails", None)
    assert claims["jsd", "non_saturating"][0] == "holds"
    assert results["measured"]["minimax"] == {name: [None, None] for name in ("modes", "jsd", "reverse_kl")}
    ledger = (mine / "experiment/LEDGER.md").read_text()
    row = "| area/tiny | modes (minimax) | 8 (a tiny run cannot) | not finite (2 of 2) | at least 8, every seed |"
    assert f"{row} **fails** |" in ledger

    records = sorted(Path("runs").glob("area/tiny/*/run.json"))
    before = [r.stat().st_mtime_ns for r in records]
    assert main(command) == 1 and [r.stat().st_mtime_ns for r in records] == before, (
        "it is not tried until it holds"
    )


def test_an_experiment_that_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "experiment=minimax/dirac"]) == 2
    assert "trains nothing; judge its claims with `aigc reproduce minimax/dirac`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("quantity: modes", "quantity: moods"), "no measure gives 'moods'; did you mean 'modes'?"),
        (("variant: minimax, minus", "variant: minmax, minus"), "no variant 'minmax'; did you mean 'minimax'?"),
        (
            ("model/objective=minimax", "model/objective=minmax"),
            "claims.variants.minimax: model/objective: no",
        ),
        (("at_least: 8,", "at_least: 8, at_most: 7,"), "nothing is at least 8.0 and at most 7.0"),
        (("n: 50}", "n: 50, m: 1}"), "unknown key 'claims.measures.coverage.m'"),
        (("at_least: 8,", "atleast: 8,"), "unknown key 'claims.judged.0.atleast'; did you mean 'at_least'?"),
        (("seeds: [0, 1]", "seeds: []"), "claims.seeds=[]"),
        (("measures.ModeCoverage", "measures.ModeCovrage"), "did you mean 'ModeCoverage'?"),
        (("aigc_lab.reproduce.measures.ModeCoverage", "os.path.ModeCoverage"), "not an allowed target"),
        (("published: 0, source: theorem 1, at_most", "source: theorem 1, within"), "needs a published number"),
    ],
)
def test_a_mistake_gets_one_line(
    mine: Path, change: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert change[0] in TINY
    (mine / "experiment/area/tiny.yaml").write_text(TINY.replace(*change))
    assert main(["reproduce", "area/tiny", "--config-dir", str(mine), "--quick"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert message in error[-1]
    assert not list(mine.rglob("*.json")) and not list(mine.rglob("LEDGER.md"))


def test_wrong_names_are_answered_without_torch(tmp_path: Path) -> None:
    code = "import sys; from aigc_lab.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    for name, message in (
        ("minimax/dirca", "did you mean 'minimax/dirac'?"),
        ("image/digits_gan", "image/digits_gan makes no claims; these do: "),
    ):
        command = [sys.executable, "-c", code, "reproduce", name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.stdout == "2 False\n" and message in done.stderr


def claims(**claim: Any) -> Claims:
    judged = [{"quantity": "q", "source": "s", **claim}]
    tree = {"seeds": [0, 1], "quick": {"seeds": [0]}, "measures": {"m": {}}, "judged": judged}
    return check(tree | {"variants": {"a": [], "b": []}}, Claims)


@pytest.mark.parametrize(
    ("claim", "values", "verdict"),
    [
        ({"at_least": 2}, [2.0, 3.0], "holds"),
        ({"at_least": 2}, [1.9, 3.0], "fails"),
        ({"at_least": 2, "over": "mean"}, [1.9, 3.0], "holds"),
        ({"at_least": 2, "over": "interval"}, [1.9, 3.0], "fails"),
        ({"at_least": 2, "over": "interval"}, [2.5], "fails"),
        ({"at_least": 2, "over": "interval"}, [2.5, 2.6, 2.55], "holds"),
        ({"published": 1.0, "within": 0.01}, [1.005, 0.995], "holds"),
        ({"published": 1.0, "within": 0.01}, [1.02], "fails"),
        ({"at_least": 0, "at_most": 1}, [float("nan")], "fails"),
        ({"at_least": 0}, [0.5, float("nan")], "fails"),
        ({"at_least": 0}, [0.5, math.inf], "fails"),
        ({"at_least": 0, "over": "mean"}, [0.5, math.inf, -math.inf], "fails"),
        ({"at_least": 0, "over": "interval"}, [0.5, 0.6, float("nan")], "fails"),
        ({}, [0.5, float("nan")], "reported"),
        ({"published": "225 ± 2"}, [12.0], "reported"),
    ],
)
def test_verdicts(claim: dict[str, Any], values: list[float], verdict: str) -> None:
    (judged,) = judge(claims(variant="a", **claim), {"a": {"q": values}, "b": {"q": values}})
    assert judged.verdict == verdict


def test_a_difference_is_taken_seed_by_seed_and_its_interval_is_students() -> None:
    found = claims(variant="a", minus="b", at_most=0, over="interval")
    (judged,) = judge(found, {"a": {"q": [1.0, 5.0, 9.0]}, "b": {"q": [2.0, 6.1, 10.2]}})
    assert judged.per_seed == pytest.approx([-1, -1.1, -1.2]) and judged.verdict == "holds"
    assert ours(asdict(judged)) == "−1.1 ± 0.1 (n = 3; 95 %: −1.348 to −0.8516)"
    # scipy.stats.ttest_1samp([-1, -1.1, -1.2], 0).confidence_interval()
    assert judged.interval == pytest.approx((-1.348414, -0.851586), abs=1e-6)
    assert t_interval([3.0]) is None


def test_the_ledger_lists_what_was_not_run_and_refuses_what_is_damaged(tmp_path: Path) -> None:
    assert "| area/x |  |  |  |  | not run |" in write_ledger(tmp_path, ["area/x"]).read_text()
    claim = {"verdict": "holds", "quantity": "q", "variant": "", "minus": "", "published": 1, "source": "s"}
    claim |= {"bound": "at least 1", "over": "mean", "per_seed": [1.0], "value": 1.0, "spread": None}
    whole = {"experiment": "x", "command": "c", "claims": [claim], "git": None, "minutes": 1, "device": "d"}
    (tmp_path / "x.results.json").write_text(json.dumps(whole | {"finished": "f"}))
    assert "| x | `c` | 1.0 | d | installed package | f |  |" in write_ledger(tmp_path, ["x"]).read_text()
    damages = ("{", "[]", '{"claims": [{}], "command": "c"}', '{"claims": [], "command": "c"}')
    for text in (
        *damages,
        json.dumps(whole | {"claims": 3}),
        json.dumps(whole | {"finished": "f", "minutes": "n"}),
    ):
        (tmp_path / "x.results.json").write_text(text)
        with pytest.raises(UserError, match="damaged") as refusal:
            write_ledger(tmp_path, ["x"])
        assert "\n" not in str(refusal.value)
    assert [number(v) for v in (-1.38629, 8, None, "225 ± 2", 1e-5)] == ["−1.386", "8", "—", "225 ± 2", "1e−05"]


def test_the_ledger_names_the_commits_of_the_runs_and_links_figures_without_matplotlib(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[1] / "experiments"
    for folder in ("modes", "minimax"):
        shutil.copytree(root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.png"))
    (tmp_path / "minimax/saturation.results.png").write_bytes(b"")
    found = json.loads((tmp_path / "modes/grid25.results.json").read_text())
    found |= {"git": {"commit": "a" * 40, "diff": "clean"}, "trained_at": ["b" * 40, "installed package"]}
    (tmp_path / "modes/grid25.results.json").write_text(json.dumps(found))
    code = (
        "import sys, pathlib; from aigc_lab.reproduce.ledger import write_ledger\n"
        "write_ledger(pathlib.Path(sys.argv[1]), ['modes/grid25', 'minimax/saturation'])\n"
        "print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    ledger = (tmp_path / "LEDGER.md").read_text()
    assert done.stdout == "False False\n"
    assert f"| {'a' * 12}; trained at {'b' * 12}, installed package |" in ledger
    assert ledger.endswith("### minimax/saturation\n\n![minimax/saturation](minimax/saturation.results.png)\n")


def test_protocols_are_said_in_one_line() -> None:
    composer = compose.Composer()
    names = [name for name in composer.with_claims() if name.startswith(("modes/", "goodfellow2014/"))]
    found = [composer.reproduction([f"experiment={name}"]).claims for name in names]
    assert len(found) >= 8 and all(claims and claims.protocol for claims in found)
    with pytest.raises(UserError, match="protocol"):
        check(found[0].model_dump() | {"protocol": "a\nb"}, Claims)


def test_a_wheels_results_go_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    composer = compose.Composer()
    assert composer.results_root("minimax/dirac") == composer.experiments
    monkeypatch.setattr(compose, "_package", lambda: composer.experiments.parent)
    monkeypatch.chdir(tmp_path)
    assert composer.results_root("minimax/dirac") == tmp_path / "experiments"


def test_another_trainer_moves_a_reproduction_and_changes_nothing_else() -> None:
    composer = compose.Composer()
    own, moved = (make_plan(composer, "minimax/gaussian_1d", quick=False, trainer=t) for t in (None, "gpu"))
    assert moved.command == "aigc reproduce minimax/gaussian_1d --trainer gpu" and own.trainer is None
    for mine, theirs in zip(own.trials, moved.trials, strict=True):
        assert theirs.config.trainer.accelerator == "gpu" != mine.config.trainer.accelerator
        assert theirs.config.trainer.max_steps == mine.config.trainer.max_steps
        assert theirs.config.model == mine.config.model and theirs.config.data == mine.config.data
    with pytest.raises(UserError, match=r"--trainer gpu: minimax/dirac trains no run"):
        make_plan(composer, "minimax/dirac", quick=True, trainer="gpu")
    (short,) = make_plan(composer, "modes/stacked_mnist", quick=True, trainer="gpu").trials[:1]
    assert short.config.trainer.accelerator == "gpu" and short.config.trainer.max_steps == 5
    with pytest.raises(UserError, match=r"trainer: no option 'gqu'; did you mean 'gpu'"):
        make_plan(composer, "minimax/gaussian_1d", quick=False, trainer="gqu")
