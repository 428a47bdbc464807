"""How much memory a corpus takes that is read from the disk: a generated file, its symbols, 200 batches.

python benchmarks/text/corpus_memory.py [--mb 300] [--tokenizers byte char bpe]

Each tokenizer has a process of its own. `anonymous` is the peak of its private memory, over what it had before
the data was opened: what the machine has to have. Pages of mapped files, which the kernel drops when it has to,
are in `mapped`. The last line is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

BATCHES = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=300)
    parser.add_argument("--tokenizers", nargs="+", default=["byte", "char", "bpe"])
    parser.add_argument("--measure", nargs=2, metavar=("TOKENIZER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "corpus.txt")
        write_corpus(path, options.mb << 20)
        print("symbols  file MiB anonymous MiB mapped MiB  write s batch ms")
        for tokenizer in options.tokenizers:
            child = [sys.executable, __file__, "--measure", tokenizer, str(path)]
            row = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
            rows.append(row)
            print(
                f"{tokenizer:8s} {row['file_mib']:8.0f} {row['anonymous_mib']:13.0f} {row['mapped_mib']:10.0f} "
                f"{row['write_seconds']:8.1f} {row['batch_ms']:8.2f}"
            )
    print(json.dumps(rows))


def write_corpus(path: Path, size: int) -> None:
    """Lines of made-up words, English and Chinese, drawn by their ranks as words are."""
    import numpy as np

    rng = np.random.default_rng(0)
    letters = list("etaoinshrdlucmfw") + [chr(0x4E00 + i) for i in range(600)]
    words = ["".join(rng.choice(letters[:16] if i % 3 else letters[16:], 1 + i % 6)) for i in range(20_000)]
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            chosen = np.minimum(rng.zipf(1.3, (2000, 12)), len(words)) - 1
            file.write("".join(" ".join(words[i] for i in line) + "\n" for line in chosen))


def measure(tokenizer: str, path: str) -> dict[str, float | str]:
    import torch

    from aigc_lab.config.compose import Composer
    from aigc_lab.config.targets import build
    from aigc_lab.data.stream import TrainingStream

    config = Composer().train(["data=text_file", f"data.path={path}", f"data/tokenizer={tokenizer}"])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as cache:
        peak = Peak()
        data = build(config.data, path="data", supplied={"cache_dir": Path(cache)})
        began = time.perf_counter()
        n_items = data.n_items
        wrote = time.perf_counter() - began
        stream = TrainingStream(data.gather, n_items=n_items, batch_size=64, n_batches=BATCHES, seed=0)
        began = time.perf_counter()
        for batch in stream:
            assert batch.shape == (64, config.data["context"])
        seconds = time.perf_counter() - began
        anonymous, mapped = peak.stop()
    return {
        "tokenizer": tokenizer,
        "file_mib": Path(path).stat().st_size / 2**20,
        "anonymous_mib": anonymous,
        "mapped_mib": mapped,
        "write_seconds": wrote,
        "batch_ms": 1000 * seconds / BATCHES,
    }


class Peak:
    """The most that RssAnon and RssFile of this process grow, in MiB, looked at every 20 ms."""

    def __init__(self) -> None:
        self.before = self.highest = resident()
        self.running = True
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while self.running:
            self.highest = tuple(map(max, self.highest, resident()))
            time.sleep(0.02)

    def stop(self) -> tuple[float, ...]:
        self.running = False
        self.thread.join()
        return tuple(high - before for high, before in zip(self.highest, self.before, strict=True))


def resident() -> tuple[float, ...]:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(lines[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile"))


if __name__ == "__main__":
    main()
