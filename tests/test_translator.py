"""Answers to sources: their likelihood, their independence of each other, and runs through the command line."""

from pathlib import Path

import pytest
import torch
from conftest import QUIET, train_these

from aigc_lab.cli import main
from aigc_lab.data.samples import Pairs, Texts
from aigc_lab.decoding import Sampling
from aigc_lab.errors import UserError
from aigc_lab.generators import load
from aigc_lab.reproduce.answers import ExactMatch
from aigc_lab.reproduce.measures import Trial
from aigc_lab.run import Run
from aigc_lab.translator import Translator, ended, padded

LINES = [f"{n}\t{' '.join(reversed(str(n)))}" for n in range(100, 400)]
SMALL = [
    "data=pairs",
    "data.batch_size=8",
    "data.context=12",
    "data/tokenizer=char",
    "model=encoder_decoder",
    "model.network.width=16",
    "model.network.n_encoder_layers=1",
    "model.network.n_decoder_layers=1",
    "model.network.n_heads=2",
    "trainer.max_steps=8",
    "trainer.val_check_interval=4",
    "trainer.micro_batches=2",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps on numbers and their digits backwards."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "numbers.tsv").write_text("\n".join(LINES))
    return train_these(folder / "runs", [*SMALL, f"data.path={folder / 'numbers.tsv'}"])


@pytest.fixture
def translator(run: Path) -> Translator:
    generator = load(run)
    assert isinstance(generator, Translator)
    return generator


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.inference_mode()
def test_the_likelihood_of_an_answer_is_by_hand_and_how_often_it_is_given(translator: Translator) -> None:
    """Of answers without a symbol and with one, their ends counted."""
    tokenizer, network = translator.spec.tokenizer, translator.network
    assert tokenizer is not None
    answers = [b"", *tokenizer.pieces]
    found = translator.log_likelihood(Pairs(Texts([b"12"] * len(answers)), Texts(answers)), rng=rng())
    assert found.kind == "exact" and not found.is_estimate
    assert found.n_bytes.tolist() == [len(text) for text in answers]

    source = ended(tokenizer.encode(b"12")[None], network.start)
    log_p = {
        a: network(source, torch.tensor([[network.start, a]]))[0].log_softmax(-1) for a in range(len(answers) - 1)
    }
    by_hand = [log_p[0][0, network.start], *(p[0, a] + p[1, network.start] for a, p in log_p.items())]
    torch.testing.assert_close(found.nats, torch.stack(by_hand).double(), rtol=1e-5, atol=1e-5)

    n, p = 2000, found.nats.exp()
    given = translator.respond(Texts([b"12"] * n), rng=rng()).passages
    frequency = torch.tensor([given.count(text) / n for text in answers])
    assert ((frequency - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()


def test_an_answer_does_not_depend_on_its_company(translator: Translator) -> None:
    """Sampled, greedy or searched for, and its likelihood."""
    sources = Texts([b"1", b"2345678", b"", b"31415"])
    for sampling in (None, Sampling(temperature=0), Sampling(top_k=3)):
        together = translator.respond(sources, rng=rng(), sampling=sampling).passages
        assert translator.respond(sources[:1], rng=rng(), sampling=sampling).passages == together[:1]
    assert translator.search(sources, n_beams=3).passages == [
        translator.search(sources[i : i + 1], n_beams=3).passages[0] for i in range(4)
    ]
    pairs = Pairs(sources, Texts([b"1 2 3 4 5 6", b"", b"7", b"2"]))
    alone = [float(translator.log_likelihood(pairs[i : i + 1], rng=rng()).nats) for i in range(4)]
    torch.testing.assert_close(
        translator.log_likelihood(pairs, rng=rng()).nats.tolist(), alone, rtol=1e-5, atol=1e-5
    )


def test_sequences_side_by_side_get_their_ends() -> None:
    rows = padded([torch.tensor([1, 2]), torch.tensor([], dtype=torch.long), torch.tensor([3])])
    assert ended(rows, 9).tolist() == [[1, 2, 9], [9, -1, -1], [3, 9, -1]]
    wide = torch.tensor([[1, -1, -1, -1], [2, 3, -1, -1]])
    assert ended(wide, 9).tolist() == [[1, 9, -1], [2, 3, 9]], "no wider than the longest"


def test_from_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def texts(*options: str) -> list[str]:
        assert main(["sample", str(run), "--output", str(tmp_path / "texts"), *options]) == 0
        return capsys.readouterr().out.split("\n" + "-" * 72 + "\n")

    def refusal(*command: str) -> str:
        assert main(list(command)) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert len(texts("--prompt", "123", "-n", "3")) == 3
    assert len(texts("--prompt", "123", "--beams", "2")) == 1
    shown = [text.split("\n")[0] for text in texts("-n", "4", "--temperature", "0")]
    assert set(shown) <= {line.split("\t")[0] for line in LINES}, (
        "without a prompt: test sources and their answers"
    )
    sample = ("sample", str(run), "--prompt")
    assert refusal(*sample, "x").endswith(
        "--prompt: the character 'x' is not in the vocabulary of the training data"
    )
    assert refusal(*sample, "1" * 12).endswith("--prompt: 12 symbols and an end exceed the context of 12")
    assert refusal(*sample, "1", "--stop", "2").endswith("sample: --stop: an answer ends by itself")
    assert refusal(*sample, "1", "--beams", "2", "--top-k", "1").endswith("--top-k: a search draws nothing")
    assert "judge answers with `aigc reproduce`" in refusal("evaluate", str(run))
    assert refusal("export", str(run), "--to", str(tmp_path / "x")).endswith("only those can be exported")
    assert not (run / "results.jsonl").exists()
    for data, model, able in (
        ("pydoc", "encoder_decoder", "transformer"),
        ("translate_toy", "transformer", "encoder_decoder"),
    ):
        command = ["train", f"data={data}", f"model={model}", f"paths.runs_dir={tmp_path / 'runs'}", *QUIET]
        assert refusal(*command).endswith(f"; use model={able}")
    assert not (tmp_path / "runs").exists()


def test_exact_answers_are_counted(run: Path, trained: dict[str, Path]) -> None:
    measure = ExactMatch(n=20, n_beams=2)
    found = measure(Trial(0, Run.open(run)))
    assert found["exact_match"] == found["exact_match_beam"] == 0, "after a few steps"
    generator, test = load(run), Trial(0, Run.open(run)).dataset.real("held_out")
    assert len(test) == 30
    expected = generator.log_likelihood(test[:20], rng=rng()).bits_per_byte()
    assert found["bits_per_byte"] == pytest.approx(expected)
    with pytest.raises(UserError, match="for a model of pairs only"):
        measure(Trial(0, Run.open(trained["text"])))
