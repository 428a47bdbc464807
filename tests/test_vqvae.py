"""Images in two stages: codes, and a Transformer of them."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import QUIET, train_these
from PIL import Image
from test_distributed import two_processes
from test_generators import every_image, rng, spec_of
from torch import Tensor

from aigc_lab.cli import main
from aigc_lab.data.samples import Images
from aigc_lab.generators import load
from aigc_lab.nets.codes import CodePrior, MovingMeans, Strided, nearest
from aigc_lab.objectives.likelihoods import Bernoulli
from aigc_lab.quantised import Quantised
from aigc_lab.reproduce.bounds import HeldOutBound
from aigc_lab.reproduce.measures import Trial
from aigc_lab.run import Run

CODES = {"n_codes": 3, "code_dim": 2, "width": 4, "halvings": 1, "blocks": 1}
STAGE_1 = [
    "data=digits",
    "data.batch_size=16",
    "model=vqvae",
    "model.codes.n_codes=12",
    "model.codes.code_dim=4",
    "model.codes.width=8",
    "model.codes.blocks=1",
    "model.lr=5e-3",
]
STAGE_2 = ["data=digits", "data.batch_size=16", "model=code_transformer", "model.prior.width=16"]
STAGE_2 += ["model.prior.n_layers=1", "model.prior.n_heads=2"]


@pytest.mark.parametrize("prior", [None, CodePrior(width=8, n_layers=1, n_heads=2, dropout=0.0)])
def test_samples_and_bound_are_of_one_law_over_images(prior: CodePrior | None) -> None:
    """p(x) = Σ_c p(c) p(x | c), by enumeration of all images of eight binary pixels and all grids of two codes."""
    torch.manual_seed(0)
    model = Quantised(
        spec=spec_of("image", (1, 2, 4), 2),
        codes=Strided(**CODES),
        likelihood=Bernoulli(),
        emit="sample",
        prior=prior,
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    torch.nn.init.normal_(model.codebook)
    grids = torch.tensor(list(itertools.product(range(3), repeat=2)))
    log_p_grid = model._log_p(grids)
    assert float(log_p_grid.logsumexp(0)) == pytest.approx(0, abs=1e-5)
    images = Images(every_image(2, 8).pixels.view(-1, 1, 2, 4), 2)
    with torch.no_grad():
        each = [model.log_p_x(images.pixels, model.codebook[g].expand(256, -1, -1)).double() for g in grids]
    exact = (torch.stack(each) + log_p_grid[:, None]).logsumexp(0)
    assert float(exact.logsumexp(0)) == pytest.approx(0, abs=1e-5)
    bound = model.log_likelihood(images, rng=rng())
    assert bound.kind == "lower bound" and not bound.is_estimate
    assert (bound.nats < exact).all()
    n = 20_000
    drawn = model.sample(n, rng=rng()).pixels.flatten(1).long() @ (1 << torch.arange(7, -1, -1))
    frequency = torch.bincount(drawn, minlength=256) / n
    assert (frequency - exact.exp()).abs().max() < 5 * 0.5 / n**0.5


def test_without_decay_the_codebook_is_lloyds_algorithm() -> None:
    torch.manual_seed(0)
    z, means = torch.randn(200, 3), MovingMeans(5, 3, decay=0.0, restart_below=0.0)
    codebook, fresh = z[:5].clone(), torch.full((5, 3), 9.0)
    codebook[4] = 100.0  # nearest to nothing
    codes = nearest(z, codebook)
    assert torch.equal(codes, torch.cdist(z, codebook).argmin(1))
    assert set(codes.tolist()) == {0, 1, 2, 3}
    chosen = torch.nn.functional.one_hot(codes, 5).float()
    moved = means.update(chosen.sum(0), chosen.T @ z, fresh)
    for k in range(4):
        torch.testing.assert_close(moved[k], z[codes == k].mean(0))
    assert torch.equal(moved[4], fresh[4])


def weights(run: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(run / "checkpoints/weights.safetensors")


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of each stage; the first is not where it was any more."""
    root = tmp_path_factory.mktemp("stages")
    first = train_these(root, [*STAGE_1, "trainer.max_steps=60", "trainer.log_every_n_steps=10"])
    second = train_these(root, [*STAGE_2, f"model.run={first}", "trainer.max_steps=40"])
    return first.rename(root / "gone"), second


def test_codes_are_used_and_their_law_is_learnt(stages: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = stages
    rows = [line.split(",") for line in (first / "metrics.csv").read_text().splitlines()[1:]]
    logged = {
        name: [float(v) for _, n, v in rows if n == name] for name in ("train/codes", "train/reconstruction")
    }
    assert logged["train/codes"][-1] > 6, "of twelve"
    assert logged["train/reconstruction"][-1] < logged["train/reconstruction"][0]
    before, after = weights(first), weights(second)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items()), (
        "the first stage stays as it is"
    )

    uniform, learnt = (load(run) for run in stages)
    assert isinstance(uniform, Quantised) and isinstance(learnt, Quantised)
    from sklearn.datasets import load_digits

    images = Images(torch.tensor(load_digits().images[:50]).to(torch.uint8)[:, None], 17)
    gain = learnt.log_likelihood(images, rng=rng()).nats - uniform.log_likelihood(images, rng=rng()).nats
    assert 0.2 < float(gain.mean()) < 4 * math.log(12)
    assert torch.equal(learnt.reconstruct(images).pixels, uniform.reconstruct(images).pixels)
    for run in stages:
        assert main(["sample", str(run), "-n", "4", "--output", str(tmp_path / "sheet.png")]) == 0
        with Image.open(tmp_path / "sheet.png") as picture:
            assert picture.size == (4 * 50 + 2, 52)


def test_what_is_no_run_of_codes_is_refused_in_one_line(
    train: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vae = train("vae", "trainer.max_steps=1")
    capsys.readouterr()
    command = ["train", *STAGE_2, *QUIET, f"paths.runs_dir={tmp_path}/new"]
    assert main([*command, f"model.run={vae}"]) == 2
    assert capsys.readouterr().err == f"aigc: model.run={vae}: its model has no codes\n"
    first = train_these(tmp_path / "runs", [*STAGE_1, "trainer.max_steps=1"])
    capsys.readouterr()
    assert main([*command, f"model.run={first}", "data.levels=4"]) == 2
    assert capsys.readouterr().err.endswith("its codes are of other images than digits\n")
    assert main([*command, f"model.run={first}", "data.held_out=0.5"]) == 2
    assert capsys.readouterr().err.endswith("or of some that are held out here\n")
    odd = ["train", *STAGE_1, *QUIET, "model.codes.halvings=4", f"paths.runs_dir={tmp_path}/new"]
    assert main(odd) == 2
    assert "8x8 pixels cannot be halved so often" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_two_processes_keep_one_codebook_and_resume_exactly(tmp_path: Path) -> None:
    """The codebook, its moving averages and its new entries: a checkpoint has all of them."""
    often = ["callbacks.checkpoint.every_n_steps=3", "callbacks.checkpoint.keep=9", "trainer.log_every_n_steps=2"]
    settings = ["trainer=ddp_cpu", "trainer.max_steps=8", *often, *QUIET, f"paths.runs_dir={tmp_path}"]
    two_processes("train", *STAGE_1, *settings)
    (run,) = tmp_path.glob("*/*")
    expected = (run / "checkpoints/weights.safetensors").read_bytes(), (run / "metrics.csv").read_text()
    for late in ("step_00000008.ckpt", "step_00000006.ckpt", "weights.safetensors", "weights.json"):
        (run / "checkpoints" / late).unlink()
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"status": "running"}))
    two_processes("resume", str(run))
    assert ((run / "checkpoints/weights.safetensors").read_bytes(), (run / "metrics.csv").read_text()) == expected


CODES_OF_DIGITS = """# @package _global_
defaults:
  - override /data: digits
  - override /model: vqvae
  - override /logger: none
  - _self_
model: {codes: {n_codes: 12, code_dim: 4, width: 8, blocks: 1}}
trainer: {max_steps: 40, num_threads: 1}
"""
LAW_OF_CODES = """# @package _global_
defaults:
  - /model/codes/strided@model.codes
  - /model/likelihood/discretised_logistic@model.likelihood
  - override /data: digits
  - override /model: code_transformer
  - override /logger: none
  - _self_
model:
  run: runs/codes/first
  codes: {n_codes: 12, code_dim: 4, width: 8, blocks: 1}
  prior: {width: 16, n_layers: 1, n_heads: 2}
trainer: {max_steps: 40, num_threads: 1}
claims:
  seeds: [0]
  quick: {seeds: [0], overrides: [trainer.max_steps=20, claims.measures.bound.importance_samples=2]}
  first: [experiment=codes]
  variants:
    hardly: [trainer.max_steps=1]
    learnt: []
  measures:
    bound: {_target_: aigc_lab.reproduce.bounds.HeldOutBound, importance_samples: 1}
  judged:
    - {quantity: bits_per_dim, variant: learnt, minus: hardly, at_most: 0, source: it learns}
"""


def test_an_experiment_of_two_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf/experiment"
    folder.mkdir(parents=True)
    (folder / "codes.yaml").write_text(CODES_OF_DIGITS)
    (folder / "law.yaml").write_text(LAW_OF_CODES)
    assert main(["reproduce", "law", "--config-dir", str(tmp_path / "conf"), "--quick"]) == 0
    results = json.loads((folder / "law.quick.results.json").read_text())
    assert results["claims"][0]["verdict"] == "holds"
    assert len(list(Path("runs").glob("codes/*/run.json"))) == 1, "one first stage for both variants"


def test_the_bound_is_a_measure(stages: tuple[Path, Path]) -> None:
    found = HeldOutBound(importance_samples=1)(Trial(0, Run.open(stages[0])))
    assert found.keys() == {"nats_per_image", "nats_error", "bits_per_dim"}
    assert found["nats_per_image"] == pytest.approx(found["bits_per_dim"] * 64 * math.log(2))
