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
from torch.nn import functional as F

from aigc_lab.data import Dataset
from aigc_lab.data.images import Digits, TorchvisionImages
from aigc_lab.data.samples import Images, Samples, Texts, join
from aigc_lab.data.text import Pydoc, TextFile
from aigc_lab.data.tokenizing import ByBytes
from aigc_lab.evaluation.controls import baseline, noise, noisy_copycat
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

Fault = Callable[[Dataset, Samples, torch.Generator], Samples]


def mixed(dataset: Dataset, real: Samples, rng: torch.Generator) -> Samples:
    """One item in ten is the baseline's."""
    bad = len(real) // 10
    return join([baseline(dataset).sample(bad, rng=rng), real[bad:]])


def blurred(dataset: Dataset, real: Samples, rng: torch.Generator) -> Images:
    """Each pixel is the mean of the 3 x 3 around it."""
    assert isinstance(real, Images)
    means = F.avg_pool2d(real.pixels.float(), 3, stride=1, padding=1, count_include_pad=False)
    return Images(means.round().to(torch.uint8), real.levels)


def grained(dataset: Dataset, real: Samples, rng: torch.Generator) -> Images:
    """One pixel in fifty is any level."""
    assert isinstance(real, Images)
    other = torch.randint(real.levels, real.pixels.shape, generator=rng, dtype=torch.uint8)
    return Images(
        torch.where(torch.rand(real.pixels.shape, generator=rng) < 0.02, other, real.pixels), real.levels
    )


def swapped(dataset: Dataset, real: Samples, rng: torch.Generator) -> Images:
    """The lower half is another image's."""
    assert isinstance(real, Images)
    half = real.pixels.shape[-2] // 2
    other = real.pixels[torch.randperm(len(real), generator=rng)]
    return Images(torch.cat([real.pixels[..., :half, :], other[..., half:, :]], -2), real.levels)


def classless(dataset: Dataset, real: Samples, rng: torch.Generator) -> Images:
    """Without the fives (each class is a tenth)."""
    labels = dataset.labels("held_out")
    assert isinstance(real, Images) and labels is not None
    return real[labels[: len(real)] != 5]


def misspelt(dataset: Dataset, real: Samples, rng: torch.Generator) -> Texts:
    """One byte in fifty is another of the text's."""
    assert isinstance(real, Texts)
    pool = torch.tensor(list(b"".join(real.passages)))
    changed = []
    for passage in real.passages:
        old = torch.tensor(list(passage))
        new = pool[torch.randint(len(pool), old.shape, generator=rng)]
        changed.append(bytes(torch.where(torch.rand(old.shape, generator=rng) < 0.02, new, old).tolist()))
    return Texts(changed)


def shuffled(dataset: Dataset, real: Samples, rng: torch.Generator) -> Texts:
    """The words of each passage in random order."""
    assert isinstance(real, Texts)
    cut = [passage.split(b" ") for passage in real.passages]
    return Texts([b" ".join(w[i] for i in torch.randperm(len(w), generator=rng).tolist()) for w in cut])


def incoherent(dataset: Dataset, real: Samples, rng: torch.Generator) -> Texts:
    """Eight pieces of eight passages."""
    assert isinstance(real, Texts)
    size = len(real.passages[0]) // 8
    pieces = [[p[i * size : (i + 1) * size] for p in real.passages] for i in range(8)]
    orders = [torch.randperm(len(real), generator=rng).tolist() for _ in pieces]
    columns = [[piece[i] for i in order] for piece, order in zip(pieces, orders, strict=True)]
    return Texts([b"".join(row) for row in zip(*columns, strict=True)])


def looping(dataset: Dataset, real: Samples, rng: torch.Generator) -> Texts:
    """The second half repeats the first."""
    assert isinstance(real, Texts)
    return Texts([(p[: len(p) // 2] * 3)[: len(p)] for p in real.passages])


CONTROLS: Mapping[str, Fault] = {
    "noise": lambda dataset, real, rng: noise(dataset).sample(len(real), rng=rng),
    "baseline": lambda dataset, real, rng: baseline(dataset).sample(len(real), rng=rng),
    "noisy copycat": lambda dataset, real, rng: noisy_copycat(dataset).sample(len(real), rng=rng),
    "10% baseline": mixed,
}
FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "image": CONTROLS | {"blurred": blurred, "grain": grained, "swapped halves": swapped, "no fives": classless},
    "text": CONTROLS
    | {"misspelt": misspelt, "shuffled words": shuffled, "incoherent": incoherent, "looping": looping},
}
JUDGED = {
    "image": ("baseline", "10% baseline", "blurred", "grain", "swapped halves", "no fives"),
    "text": ("baseline", "10% baseline", "misspelt", "shuffled words", "incoherent", "looping"),
}
"""The faults that the median is over: noise is seen by all, and a noisy copycat is no fault of the distance."""


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
    train, real = data.real("train"), data.real("held_out")[:n]
    reference = features(train[torch.randperm(len(train), generator=rng)[:n]])
    began = time.perf_counter()
    points = features(real)
    seconds = (time.perf_counter() - began) / len(real)
    floor = float(frechet_distance(reference, points))
    resamples = (torch.randint(len(points), (len(points),), generator=rng) for _ in range(50))
    spread = statistics.stdev(float(frechet_distance(reference, points[index])) for index in resamples)
    found: dict[str, object] = {}
    modality = data.spec.modality
    for name, fault in FAULTS[modality].items():
        faulty = features(fault(data, real, torch.Generator().manual_seed(1)))
        rise = (float(frechet_distance(reference, faulty)) - floor) / spread
        found[name] = [round(min(rise, 1000), 1), round(float(classifier_test(reference, faulty).auc), 3)]
    median = statistics.median(found[name][0] for name in JUDGED[modality])  # type: ignore[index]
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
    train, real = data.real("train"), data.real("held_out")
    assert judge is not None and isinstance(train, Texts) and isinstance(real, Texts)
    half = min(n, len(real) // 2)
    reference, rest = real[:half], real[half : 2 * half]
    bits = -judge(reference.passages) / math.log(2) / torch.tensor(reference.bytes_per_item())
    texts: dict[str, Samples] = {"train": train[:half], "oracle": rest}
    rng = torch.Generator()
    texts |= {name: fault(data, rest, rng.manual_seed(1)) for name, fault in FAULTS["text"].items()}
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
