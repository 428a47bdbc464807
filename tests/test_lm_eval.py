"""A run under lm_eval's own harness, on tasks that are local files: its numbers are the lab's."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import train_these

from aigc_lab.data.samples import Texts
from aigc_lab.decoding import Sampling, write
from aigc_lab.generators import Autoregressive, load

lm_eval = pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install 'aigc_lab[dev]'")

from aigc_lab.lm_eval_adapter import LabModel  # noqa: E402  # needs lm_eval

DOCUMENTS = ["The import statement", "春眠不覺曉", "class Name(Base): pass  # " + "x = yield from y; " * 9]
CHOICES = [("The if", [" statement", " zzzzz"], 0), ("x = ", ["[]", "y"], 1), ("def f(", ["x): pass", "("], 1)]
ASKED = ["The while ", "for x in "]

TASKS: dict[str, dict[str, Any]] = {
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    },
    "documents": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
    "asked": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{expected}}",
        "generation_kwargs": {"until": ["e"], "max_gen_toks": 12},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def run(trained: dict[str, Path]) -> Path:
    return trained["text"]


@pytest.fixture(scope="module")
def model(run: Path) -> LabModel:
    return LabModel(run, batch_size=2)


def own(run: Path) -> Autoregressive:
    generator = load(run)
    assert isinstance(generator, Autoregressive)
    return generator


def log_p(generator: Autoregressive, text: str) -> float:
    """Of a text that fits into the context."""
    return float(generator.log_likelihood(Texts([text.encode()]), rng=torch.Generator()).nats)


def evaluate(model: LabModel, tmp_path: Path, **rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`lm_eval.simple_evaluate` on tasks of our own."""
    from lm_eval.tasks import TaskManager

    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        files = {"data_files": {"test": str(tmp_path / f"{name}.jsonl")}, "cache_dir": str(tmp_path / "cache")}
        task = {"task": name, "dataset_path": "json", "dataset_kwargs": files, "test_split": "test", **TASKS[name]}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(task))
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    found = lm_eval.simple_evaluate(model=model, tasks=list(rows), task_manager=manager, bootstrap_iters=0)
    samples = {name: [sample["resps"][0][0] for sample in found["samples"][name]] for name in rows}
    return {name: found["results"][name] for name in rows} | {"samples": samples}


def test_the_harness_finds_the_labs_numbers(run: Path, model: LabModel, tmp_path: Path) -> None:
    generator = own(run)
    short = DOCUMENTS[:2]
    expected = [greedy(generator, question, 12).partition("e")[0] for question in ASKED]
    found = evaluate(
        model,
        tmp_path,
        choices=[{"question": q, "choices": c, "answer": a} for q, c, a in CHOICES],
        documents=[{"text": text} for text in short],
        asked=[{"question": q, "expected": e} for q, e in zip(ASKED, expected, strict=True)],
    )
    right = [
        max(range(len(choices)), key=lambda i: log_p(generator, question + choices[i])) == answer
        for question, choices, answer in CHOICES
    ]
    assert found["choices"]["acc,none"] == pytest.approx(sum(right) / len(right))
    bits = generator.log_likelihood(Texts([t.encode() for t in short]), rng=torch.Generator()).bits_per_byte()
    assert found["documents"]["bits_per_byte,none"] == pytest.approx(bits, rel=1e-5)
    assert found["samples"]["asked"] == expected


def greedy(generator: Autoregressive, prompt: str, length: int) -> str:
    symbols = torch.tensor([*prompt.encode()])
    how = {"seeds": [0], "sampling": Sampling(temperature=0)}
    return bytes(write(generator.network, [symbols], length=length, **how)[0]).decode(errors="replace")


def request(kind: Any, *arguments: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def test_likelihoods_are_those_of_one_text_at_a_time(run: Path, model: LabModel) -> None:
    """Whatever stands beside it in the batch; an empty context is the start; a text longer than the context loses
    its beginning; trailing spaces belong to the continuation."""
    generator, long = own(run), "abc " * 20
    pairs = [("", "The import"), ("The ", "import"), ("x", "yz"), (long, "tail"), ("The im", "port statement")]
    found = model.loglikelihood([request("loglikelihood", *pair) for pair in pairs], disable_tqdm=True)
    expected = [
        log_p(generator, "The import"),
        log_p(generator, "The import") - log_p(generator, "The"),
        log_p(generator, "xyz") - log_p(generator, "x"),
        by_hand(generator, [*(long + "tail").encode()][-33:], n=4 + 1),
        log_p(generator, "The import statement") - log_p(generator, "The im"),
    ]
    assert [total for total, _ in found] == pytest.approx(expected, abs=1e-4)
    best = greedy(generator, "The import", 5)
    ((_, is_greedy),) = model.loglikelihood([request("loglikelihood", "The import", best)], disable_tqdm=True)
    assert is_greedy or "\ufffd" in best


def by_hand(generator: Autoregressive, symbols: list[int], n: int) -> float:
    """Σ log p of the last n of these symbols given those before them."""
    with torch.inference_mode():
        rows = generator.network(torch.tensor([symbols[:-1]]))[0, :, :256].log_softmax(-1)[-n:]
    return float(rows.gather(1, torch.tensor(symbols[-n:])[:, None]).sum())


def test_a_long_document_is_read_in_disjoint_windows(run: Path, model: LabModel) -> None:
    """The first behind the start symbol, the others behind the last symbol of the window before; the last window
    sees as much as fits, and of it only what is left is scored."""
    generator, context = own(run), 32
    symbols = [256, *DOCUMENTS[2].encode()]
    assert len(symbols) > 4 * context
    expected, done = 0.0, 0
    while done < len(symbols) - 1:
        n = min(context, len(symbols) - 1 - done)
        expected += by_hand(generator, symbols[max(0, done + n - context) : done + n + 1], n=n)
        done += n
    (found,) = model.loglikelihood_rolling([request("loglikelihood_rolling", DOCUMENTS[2])])
    assert found == pytest.approx(expected, abs=1e-3)
    assert math.isfinite(found)


def test_a_task_that_asks_for_what_the_lab_cannot_do_is_refused(model: LabModel) -> None:
    for options, says in (
        ({"until": [], "max_gen_toks": 32}, "leaves no room in a context of 32"),
        (
            {"until": ["x"], "max_gen_toks": 4, "num_beams": 3},
            "does not know these options of generation: num_beams",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            model.generate_until([request("generate_until", "a prompt", options)])
    off = {"max_gen_toks": 9, "do_sample": True, "top_k": 0, "num_beams": 1}
    plain = {"max_gen_toks": 9, "do_sample": True}
    first, second = (model.generate_until([request("generate_until", "x", how)]) for how in (off, plain))
    assert first == second, "what is switched off is not asked for"
    (cut_,) = model.generate_until([request("generate_until", long_context := "y " * 40, {"max_gen_toks": 4})])
    assert long_context and len(cut_) <= 4


def test_a_run_that_can_end_a_text_is_scored_over_its_end_too(tmp_path: Path) -> None:
    """As the exported model would be: what is likely to end here leaves less for what goes on."""
    lines = [json.dumps({"prompt": "?", "response": "yes"})] * 40
    (tmp_path / "talk.jsonl").write_text("\n".join(lines))
    size = ["model.network.width=16", "model.network.n_layers=1", "model.network.n_heads=2", "data.batch_size=4"]
    data = ["data=instructions", f"data.path={tmp_path}/talk.jsonl", "data.context=32", "data.passage=8"]
    run = train_these(tmp_path / "runs", [*data, *size, "trainer.max_steps=10"])
    generator = own(run)
    asked = [generator.network.start, *b"yes"]
    ((found, _),) = LabModel(run).loglikelihood([request("loglikelihood", "yes", "yes")], disable_tqdm=True)
    with torch.no_grad():
        log_p = generator.network(torch.tensor([[*asked, *b"ye"]])).log_softmax(-1)[0, 3:]
    assert found == pytest.approx(float(log_p.gather(1, torch.tensor([*b"yes"])[:, None]).sum()), abs=1e-4)
