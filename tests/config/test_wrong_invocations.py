"""Every mistake gets one line that names it and what would be right, exit code 2, at once, and leaves nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers

WRONG: list[tuple[str, list[str]]] = [
    # (arguments, what the line must say)
    (
        "train trainer.max_step=5",
        ["unknown key 'trainer.max_step'", "did you mean 'max_steps'?", "log_every_n_steps"],
    ),
    ("train modle=gan", ["unknown key 'modle'", "did you mean 'model'?"]),
    ("train +more-steps=1", ["unknown key 'more-steps'", "valid: callbacks"]),
    ("train +model.foo=1", ["unknown key 'model.foo'", "lr, network"]),
    ("train +model.network.n_head=1", ["unknown key 'model.network.n_head'", "did you mean 'n_heads'?"]),
    ("train logger.tensorboard.verson=1", ["unknown key 'logger.tensorboard.verson'", "did you mean 'version'?"]),
    (
        "train ++trainer.gradient_clip=1",
        ["unknown key 'trainer.gradient_clip'", "did you mean 'gradient_clip_val'?"],
    ),
    ("train model=gna", ["model: no option 'gna'", "did you mean 'gan'?", "transformer"]),
    ("train trainer=ddpcpu", ["trainer: no option 'ddpcpu'", "did you mean 'ddp_cpu'?"]),
    ("train model=gan model/objective=hing", ["model/objective: no option 'hing'", "minimax"]),
    ("train experiment=image/digts_gan", ["experiment: no option", "did you mean 'image/digits_gan'?"]),
    ("train model=null", ["model=null: not an option", "transformer"]),
    ("train +callbacks.more.n=3", ["callbacks.more={'n': 3}", "should be a component"]),
    (
        "train experiment=image/mnist_gan model/penalties=none model.penalties.r1.gamma=3",
        ["unknown key 'model.penalties.r1'"],
    ),
    (
        "train experiment=image/mnist_gan model/generator=mlp model.generator.width=3",
        ["unknown key 'model.generator.width'", "hidden"],
    ),
    ("train trainer={}", ["trainer={}: not an option", "ddp_cpu"]),
    ("train model.network=null", ["model.network=None", "should be a component"]),
    ("train data.batch_size=${foo.bar}", ["'foo.bar' not found"]),
    ("train data.batch_size=${data.batch_size}", ["Recursive interpolation"]),
    ("train ~model.lr model=gan", ["'model.lr' not found"]),
    ("train model.lr=inf", ["model.lr=inf", "should be less than inf"]),
    ("train -m seed=range(0,0)", ["the sweep is empty"]),
    ("train -m seed=0,1 +run_id=a", ["a sweep names its runs itself"]),
    ("train debug=overfitt", ["debug: no option 'overfitt'", "did you mean 'overfit'?"]),
    ("train trainer.max_steps=abc", ["trainer.max_steps=abc", "should be a valid integer"]),
    ("train trainer.max_steps=2.5", ["trainer.max_steps=2.5", "should be a valid integer"]),
    ("train trainer.max_steps=-1", ["trainer.max_steps=-1", "should be greater than or equal to 0"]),
    ("train seed=-1", ["seed=-1", "should be greater than or equal to 0"]),
    ("train model.network.dropout=1.0", ["model.network.dropout=1.0", "should be less than 1"]),
    ("train model.lr=-1e-3", ["model.lr=-0.001", "should be greater than 0"]),
    ("train optimizer.betas=[0.9]", ["optimizer.betas=[0.9]: should have more values"]),
    ("train optimizer.betas=[0.9,1.5]", ["optimizer.betas.1=1.5", "should be less than 1"]),
    ("train trainer.precision=64", ["trainer.precision=64", "'32-true', 'bf16-mixed'"]),
    ("train trainer.precision=16-mixed", ["trainer.precision=16-mixed", "use bf16-mixed"]),
    ("train model=vae model.emit=mode", ["model.emit=mode", "should be 'sample' or 'median'"]),
    ("train model=gan model.penalties.r1=3", ["model.penalties=", "should be a component"]),
    ("train data=text_file", ["data.path", "a value is missing", "give data.path="]),
    ("train data.tokenizer=char", ["data.tokenizer=char", "choose an option with a slash, data/tokenizer=char"]),
    ("train data/tokenizer=chars", ["data/tokenizer: no option 'chars'", "did you mean 'char'?", "bpe, byte"]),
    ("train data/tokenizer=bpe data.tokenizer.vocab_size=255", ["data.tokenizer.vocab_size=255", "equal to 256"]),
    ("train data/tokenizer=hf", ["data.tokenizer.path", "a value is missing"]),
    ("train data=digits data/tokenizer=char", ["data/tokenizer"]),
    ("train data=digits data.levels=1", ["data.levels=1", "greater than or equal to 2"]),
    ("train name=../../etc", ["name=../../etc", "plain words"]),
    ("train model._target_=os.system", ["model._target_", "'os.system' is not an allowed target"]),
    ("train model.network._target_=aigc_lab.nets.transformer.Transfomer", ["did you mean 'Transformer'?"]),
    ("train model.network._target_=aigc_lab.nets.tranformer.Transformer", ["model.network._target_: no"]),
    ("train seed=1,2", ["seed=1,2", "add -m"]),
    ("train model.lr", ["cannot read override 'model.lr'", "give model.lr=VALUE"]),
    ("train data=[1,2", ["cannot read override 'data=[1,2'"]),
    ("train 'data.separator=\n'", [r"cannot read override 'data.separator=\n'"]),
    ("train hydra.run.dir=x", ["hydra.* settings are not used"]),
    ("train --config-dir=nowhere", ["--config-dir=nowhere", "no such folder"]),
    ("train --config-dir=mine experiment=typo", ["unknown key 'modle'", "did you mean 'model'?"]),
    ("train --config-dir=mine experiment=wrong_group", ["model: no option 'gna'", "did you mean 'gan'?"]),
    ("train --config-dir=mine experiment=broken", ["broken.yaml"]),
    (
        "train --config-dir=mine experiment=unplaced",
        ["unplaced.yaml", "begin with the line '# @package _global_'"],
    ),
    ("train --config-dir=mine experiment=latin", ["latin.yaml: is not UTF-8"]),
    ("train experimnt=image/digits_gan", ["unknown key 'experimnt'", "did you mean 'experiment'?"]),
    ("evaluate control:oracle --data digits sede=1", ["unknown key 'sede'", "valid: data, evaluation, paths"]),
    ("train trainer.max_steps=true", ["trainer.max_steps=True", "should be a number, not true or false"]),
    ("train -m experiment=glob(nothing*)", ["experiment=glob(nothing*)", "matches none of"]),
    ("train -m seed=1,2 model.lr=0.1,oops", ["model.lr=oops", "should be a valid number"]),
    ("train -m seed=1,2 run_id=x", ["run_id", "sweep names its runs itself"]),
    ("resume nowhere", ["nowhere: no such run directory"]),
    ("resume mine", ["mine: not a run directory", "config.yaml is missing"]),
    ("sample nowhere", ["nowhere: no such run directory"]),
    ("evaluate control:orakle --data digits", ["no control 'orakle'", "did you mean 'oracle'?"]),
    ("evaluate control:oracle", ["name the data with --data", "digits"]),
    ("evaluate control:oracle --data digit", ["data: no option 'digit'", "did you mean 'digits'?"]),
    ("evaluate control:oracle --data digits evaluation.m=3", ["unknown key 'evaluation.m'", "valid:"]),
    ("compare", ["name at least one run directory or control"]),
    ("evaluate --calibrate", ["name at least one run directory or control"]),
    ("compare runs --baseline control:oracle", ["--baseline=control:oracle: name a run"]),
    (
        "evaluate control:oracle --data digits evaluation/features=pixels",
        ["has no options of its own; give evaluation/features/image=pixels"],
    ),
    (
        "evaluate control:oracle --data digits evaluation.features=inception",
        ["has no options of its own; give evaluation/features/image=inception"],
    ),
    ("evaluate control:oracle --data digits evaluation=quikc@1k", ["no option 'quikc'", "did you mean 'quick'?"]),
    ("compare evaluation.n=10", ["name at least one run directory or control"]),
    ("runs nowhere", ["nowhere: no such folder"]),
    ("trian", ["No such command 'trian'", "Did you mean 'train'?"]),
    ("train --wat", ["No such option '--wat'"]),
    ("train model=finetune", ["model.run", "a value is missing"]),
    ("train model=finetune model.run=nowhere", ["model.run=nowhere: no such run directory"]),
    ("train model=hf model.path=x model/adapters=lroa", ["model/adapters: no option 'lroa'", "lora"]),
    ("chat nowhere", ["nowhere: no such run directory"]),
    ("write mine --task sumary", ["--task sumary: no such task", "did you mean 'summary'?"]),
    ("write mine --task summary", ["--task summary: the field 'text' is missing; give --field text="]),
    ("write mine --task summary --field txt=x", ["--field txt: summary has no such field", "'text'"]),
    ("write mine --task summary --field text", ["--field text: give KEY=VALUE"]),
    ("sample x -n 0", ["Invalid value for '-n'"]),
]

CHILD = """
import contextlib, io, json, shlex, sys, time
from aigc_lab.cli import main
for line in json.load(sys.stdin):
    out, err, began = io.StringIO(), io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(shlex.split(line))
    heavy = sorted({"torch", "pytorch_lightning", "transformers"} & set(sys.modules))
    print(json.dumps([code, out.getvalue(), err.getvalue(), heavy]), flush=True)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str, list[str]]]:
    """All of them in one process: none may import torch, so the order does not matter and 50 take seconds."""
    folder = tmp_path_factory.mktemp("empty")
    experiments = folder / "mine/experiment"
    experiments.mkdir(parents=True)
    header = "# @package _global_\n"
    (experiments / "typo.yaml").write_text(f"{header}modle: 3\n")
    (experiments / "wrong_group.yaml").write_text(f"{header}defaults:\n  - override /model: gna\n")
    (experiments / "broken.yaml").write_text(f"{header}model: {{lr: [1\n")
    (experiments / "unplaced.yaml").write_text("seed: 3\n")
    (experiments / "latin.yaml").write_bytes(f"{header}name: caf\xe9\n".encode("latin-1"))
    lines = [line for line, _ in WRONG]
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=folder,
        check=True,
    )
    assert sorted(p.name for p in folder.iterdir()) == ["mine"], "a mistake left something behind"
    return {line: tuple(json.loads(row)) for line, row in zip(lines, child.stdout.splitlines(), strict=True)}


@pytest.mark.parametrize(("line", "says"), WRONG, ids=[line for line, _ in WRONG])
def test_one_line_names_the_mistake(answers: dict, line: str, says: list[str]) -> None:
    code, stdout, stderr, heavy = answers[line]
    assert code == 2
    assert stdout == ""
    assert stderr.startswith("aigc: ")
    assert stderr.count("\n") == 1, stderr
    for part in says:
        assert part in stderr
    assert heavy == [], "the answer waited for a heavy import"


BERNOULLI = "aigc_lab.objectives.likelihoods.Bernoulli"
LATE = [
    # found once the data or the model is built: torch is imported by then, and still no run directory appears
    (["data=text_file", "data.path=nowhere"], "data.path=nowhere: no such file or folder"),
    (["data=text_file", "data.path=empty.txt"], "empty.txt is empty"),
    (["data=text_file", "data.path=binary.bin"], "is not UTF-8 text"),
    (["data=text_file", "data.path=short.txt"], "data.passage=256 needs at least 512"),
    (["data=text_file", "data.path=nothing.txt"], "nothing.txt is empty"),
    (["data=text_file", "data.path=book.txt", "data.context=4096"], "data.context=4096 needs at least 8192"),
    (["data=shakespeare", "paths.data_dir=nowhere"], "data.path=nowhere/tinyshakespeare/input.txt: no such file"),
    (["data/tokenizer=hf", "data.tokenizer.path=nowhere"], "data.tokenizer.path=nowhere: no tokenizer can be"),
    (["data/tokenizer=hf", "data.tokenizer.path=pictures"], "data.tokenizer.path=pictures: no tokenizer can be"),
    (["data/tokenizer=hf", "data.tokenizer.path=lossy"], "data.tokenizer: the tokenizer loses text: "),
    (["data.tokenizer._target_=aigc_lab.data.images.Digits"], "data.tokenizer"),
    (["data=image_folder", "data.path=nowhere", "model=gan"], "data.path=nowhere: no such folder"),
    (["data=image_folder", "data.path=pictures", "model=gan"], "cannot read the image"),
    (["data=mnist", "model=gan", "paths.data_dir=nowhere"], "MNIST is not complete in nowhere"),
    (["data=digits", "model=vae", "model/likelihood=bernoulli"], "needs binary pixels but the data has 17 levels"),
    (["data=digits", "model=gan", "data.levels=200"], "data.levels=200: the pixels of digits take 17 values only"),
    (["data=pydoc", "model.network.n_heads=5"], "must divide into n_heads=5"),
    (["data=pydoc", "model=gan"], "pydoc holds texts"),
    (["data=pydoc", "trainer=ddp_cpu", "data.batch_size=3"], "data.batch_size=3: must divide by the 2 processes"),
    (["data=digits", "model=gan", "trainer=fsdp", "trainer.accelerator=cpu"], "trainer.strategy=fsdp: GAN is not"),
    (
        ["model=gan", f"model.objective._target_={BERNOULLI}"],
        "model.objective: Bernoulli cannot take the place of Game",
    ),
    (
        ["data=digits", "model=gan", f"+model.penalties.x._target_={BERNOULLI}"],
        "model.penalties.x: Bernoulli cannot take the place of Penalty",
    ),
    (
        ["data=digits", "model=gan", f"+model.augment._target_={BERNOULLI}"],
        "model.augment: Bernoulli cannot take the place of Augmentation",
    ),
    (["data=digits", "model=vae", "trainer.precision=bf16-true"], "train with trainer.precision=bf16-mixed"),
    (["logger=wandb"], "logger.wandb: "),
    (["trainer=gpu", "trainer.devices=512"], "trainer.devices=512: this machine has"),
]


@pytest.mark.parametrize(("overrides", "says"), LATE, ids=[" ".join(o) for o, _ in LATE])
def test_what_only_data_or_model_can_tell(
    overrides: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from aigc_lab.cli import main

    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text(" \n")
    Path("nothing.txt").touch()
    Path("book.txt").write_text("It was the best of times. " * 500)
    Path("short.txt").write_text("too short")
    Path("binary.bin").write_bytes(bytes(range(256)) * 9)
    Path("pictures").mkdir()
    Path("lossy").mkdir()
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    words.save("lossy/tokenizer.json")
    for name in ("a.png", "b.png"):
        Path("pictures", name).write_bytes(b"not a picture")
    assert main(["train", *overrides]) == 2
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert last.startswith("aigc: ")
    assert says in last
    assert captured.out == ""
    assert not Path("runs").exists()
