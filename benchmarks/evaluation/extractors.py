"""Which features see which faults: held-out items with one fault each, and the controls, under every extractor.

python benchmarks/evaluation/extractors.py [--data digits pydoc mnist shakespeare] [--n 1000]

`mnist` and `shakespeare` are read from the folder in AIGC_DATA (MNIST/raw and tinyshakespeare/input.txt).

A cell is by how many standard deviations of the oracle's Fréchet distance (over 50 bootstrap resamples of the
held-out items) the fault raises that distance to the training split, capped at 1,000; behind the slash, the AUC of
the classifier two-sample test on training against faulty items: 0.5 where it sees nothing. Of texts, a second
table has what the byte Transformer says of them as a judge (± standard error). The last line is JSON.
"""

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from aigc_lab.data import Dataset
from aigc_lab.data.images import Digits, TorchvisionImages
from aigc_lab.data.samples import Samples, Texts
from aigc_lab.data.text import Pydoc, TextFile
from aigc_lab.data.tokenizing import ByBytes
from aigc_lab.evaluation.features import (
    ByteTransformer,
    Extractor,
    HashedNgrams,
    ImageClassifier,
    Judge,
    Pixels,
    RandomConvolutions,
)
from aigc_lab.evaluation.metrics import (
    bits_per_byte,
    classifier_test,
    dependence,
    fluency_distance,
    frechet_distance,
    halves,
)
from aigc_lab.reproduce.extractors import ASIDE, FAULTS, MOST, HeldOut


def held_out(data: Dataset, part: slice) -> HeldOut:
    """Some of the held-out items in their order, and their classes, where there are any."""
    classes = data.labels("held_out")
    return HeldOut(data, data.real("held_out")[part], None if classes is None else classes[part])


def transformer(dim: int) -> ByteTransformer:
    return ByteTransformer(
        context=256,
        width=96,
        n_layers=2,
        n_heads=4,
        steps=500,
        batch_size=8,
        lr=5e-3,
        dim=dim,
        fit_on=2000,
        seed=0,
    )


def ngrams(dim: int) -> HashedNgrams:
    return HashedNgrams(lengths=[2, 4, 6], buckets=16384, dim=dim, fit_on=5000, seed=0)


EXTRACTORS: Mapping[str, Mapping[str, Extractor]] = {
    "image": {
        "pixels": Pixels(size=16),
        "random conv 64": RandomConvolutions(width=16, dim=64, seed=0),
        "classifier 64": ImageClassifier(width=16, dim=64, steps=400, batch_size=128, lr=3e-3, seed=0),
        "classifier 32": ImageClassifier(width=16, dim=32, steps=400, batch_size=128, lr=3e-3, seed=0),
    },
    "text": {
        "n-grams 16": ngrams(16),
        "n-grams 32": ngrams(32),
        "n-grams 64": ngrams(64),
        "byte Transformer 16": transformer(16),
        "byte Transformer 32": transformer(32),
        "byte Transformer 64": transformer(64),
    },
}


def dataset(name: str) -> Dataset:
    root = os.environ.get("AIGC_DATA", "data")
    windows = {"batch_size": 8, "context": 256, "packing": False, "passage": 256}
    text: dict[str, Any] = {"tokenizer": ByBytes(), **windows}
    makers: Mapping[str, Callable[[], Dataset]] = {
        "digits": lambda: Digits(batch_size=8, levels=None, held_out=0.25),
        "mnist": lambda: TorchvisionImages(dataset="MNIST", root=root, download=False, batch_size=8, levels=None),
        "pydoc": lambda: Pydoc(held_out=0.2, **text),
        "shakespeare": lambda: TextFile(
            path=f"{root}/tinyshakespeare/input.txt",
            name=None,
            pattern="*.txt",
            separator=None,
            held_out=0.2,
            **text,
        ),
    }
    return makers[name]()


def measured(data: Dataset, extractor: Extractor, n: int, cache_dir: Path) -> dict[str, object]:
    """What one extractor costs, and what it makes of every fault."""
    began = time.perf_counter()
    features = extractor.fit(data, cache_dir)
    fitted = time.perf_counter() - began
    rng = torch.Generator().manual_seed(0)
    train, real = data.real("train"), held_out(data, slice(n))
    reference = features(train[torch.randperm(len(train), generator=rng)[:n]])
    began = time.perf_counter()
    points = features(real.items)
    seconds = (time.perf_counter() - began) / len(points)
    floor = float(frechet_distance(reference, points))
    resamples = (torch.randint(len(points), (len(points),), generator=rng) for _ in range(50))
    spread = statistics.stdev(float(frechet_distance(reference, points[index])) for index in resamples)
    found: dict[str, list[float]] = {}
    for name, fault in FAULTS[data.spec.modality].items():
        faulty = features(fault(real, torch.Generator().manual_seed(1)))
        rise = (float(frechet_distance(reference, faulty)) - floor) / spread
        found[name] = [round(min(rise, MOST), 1), round(float(classifier_test(reference, faulty).auc), 3)]
    median = statistics.median(cell[0] for name, cell in found.items() if name not in ASIDE)
    oracle = round(float(classifier_test(reference, points).auc), 3)
    costs = {"fit_s": round(fitted, 1), "ms_per_item": round(1e3 * seconds, 2)}
    return {"dim": points.shape[1], **costs, "oracle_auc": oracle, "median": round(median, 1), "faults": found}


def judged(texts: Samples, real_bits: torch.Tensor, judge: Judge) -> dict[str, list[float]]:
    """Fluency, the distance of its law from real text's, and coherence, each with its standard error."""
    assert isinstance(texts, Texts)
    sizes = torch.tensor(texts.bytes_per_item())
    nats = judge(texts.passages)
    cut = halves(texts.passages, bridge=BRIDGE)
    own, foreign = judge(cut.text, cut.own), judge(cut.text, cut.foreign)
    coherence = dependence(own, foreign, torch.tensor([len(text) for text in cut.text]))
    found = {
        "bits/byte": bits_per_byte(nats, sizes),
        "distance": fluency_distance(real_bits, -nats / math.log(2) / sizes),
        "coherence": coherence.gain,
        "own half preferred": coherence.preferred,
    }
    return {name: [round(e.value, 4), round(e.standard_error, 4)] for name, e in found.items()}


def judgements(data: Dataset, n: int, cache_dir: Path) -> dict[str, dict[str, list[float]]]:
    """What the byte Transformer says of training text, of held-out text and of every fault."""
    judge = transformer(16).fit(data, cache_dir).judge
    train = data.real("train")
    half = min(n, len(data.real("held_out")) // 2)
    reference, rest = held_out(data, slice(half)).items, held_out(data, slice(half, 2 * half))
    assert judge is not None and isinstance(train, Texts) and isinstance(reference, Texts)
    bits = -judge(reference.passages) / math.log(2) / torch.tensor(reference.bytes_per_item())
    texts: dict[str, Samples] = {"train": train[:half], "oracle": rest.items}
    rng = torch.Generator()
    texts |= {name: fault(rest, rng.manual_seed(1)) for name, fault in FAULTS["text"].items()}
    return {name: judged(t, bits, judge) for name, t in texts.items()}


BRIDGE = 8
"""Bytes after the cut that are not judged: see `metrics.halves`."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits", "pydoc"])
    parser.add_argument("--judge-only", action="store_true", help="leave out the tables of features")
    parser.add_argument("--n", type=int, default=1000, help="held-out and training items, at most")
    arguments = parser.parse_args()

    results: dict[str, dict[str, dict[str, object]]] = {}
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in arguments.data:
            data = dataset(name)
            faults = FAULTS[data.spec.modality]
            n = min(arguments.n, len(data.real("held_out")))
            extractors = {} if arguments.judge_only else EXTRACTORS[data.spec.modality]
            print(f"\n### {name}: {n} held-out items\n\n| features | dim | fit s | ms/item | median |", end="")
            print(f" oracle | {' | '.join(faults)} |\n|{' --- |' * (6 + len(faults))}", flush=True)
            results[name] = {}
            for title, extractor in extractors.items():
                row = results[name][title] = measured(data, extractor, n, Path(cache))
                cells = [f"{z:g} / {auc:.2f}" for z, auc in row["faults"].values()]  # type: ignore[attr-defined]
                costs = [str(row[key]) for key in ("dim", "fit_s", "ms_per_item", "median")]
                print("|", " | ".join([title, *costs, f"0 / {row['oracle_auc']:.2f}", *cells]), "|", flush=True)
            if data.spec.modality == "text":
                found[name] = judgements(data, n, Path(cache))
                columns = next(iter(found[name].values()))
                print(f"\n| {name}, judged | {' | '.join(columns)} |\n|{' --- |' * (1 + len(columns))}")
                for title, values in found[name].items():
                    cells = [f"{value:.3g} ± {error:.2g}" for value, error in values.values()]
                    print("|", " | ".join([title, *cells]), "|", flush=True)
    print(
        json.dumps(
            {"benchmark": "extractors", "results": results, "judged": found, "threads": torch.get_num_threads()}
        )
    )
