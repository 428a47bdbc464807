"""What a reader looks at beside the numbers: samples, the training items nearest to them, the same prompts
continued by every generator of text, and the divergence frontier."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from aigc_lab.data.samples import Images, Samples, Texts
from aigc_lab.evaluation.completions import Completion
from aigc_lab.evaluation.metrics import nearest_neighbours
from aigc_lab.evaluation.reading import longest_runs
from aigc_lab.evaluation.safety import Safety
from aigc_lab.files import write_atomically
from aigc_lab.pictures import sheet, to_png

N_IMAGES, N_PAIRS, N_TEXTS, N_CONTINUED, COLUMNS = 64, 16, 6, 4, 16

Frontier = Sequence[tuple[float, float]]
"""How well real data covers generated and the reverse, from (0, 1) to (1, 0): `metrics.divergence_frontier`."""


@dataclass(frozen=True)
class TextPair:
    """A sampled passage, the training passage nearest to it in feature space, and the length in bytes of the
    longest run that it shares with any of the training text."""

    sample: str
    nearest: str
    longest_shared: int


@dataclass(frozen=True)
class Continuation:
    """A prompt, how it really goes on, and how a generator continues it for as many symbols."""

    prompt: str
    real: str
    generated: str

    @classmethod
    def of(cls, completion: Completion) -> "Continuation":
        return cls(*Texts([completion.given, completion.real, completion.generated]).to_strings())


@dataclass(frozen=True)
class Exhibit:
    """What there is to see of a generator; a part that it has not is empty.

    Attributes:
        sheet, neighbours: PNG: a sheet of samples; samples above their nearest training images.
        texts: samples, each with its nearest training passage.
        continuations: of the harness's prompts, in their order.
        frontier: against the real items that the metrics compare with.
        safety: what the safety columns count.
    """

    sheet: bytes | None = None
    neighbours: bytes | None = None
    texts: Sequence[TextPair] = ()
    continuations: Sequence[Continuation] = ()
    frontier: Frontier = ()
    safety: Safety | None = None

    def save(self, folder: Path, *, key: str) -> None:
        """Write the pictures that there are, then exhibit.json: what there is and, with `key`, of what."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures = {"sheet": self.sheet, "neighbours": self.neighbours}
        for name, picture in pictures.items():
            if picture:
                write_atomically(folder / f"{name}.png", picture)
        values = {
            "key": key,
            "pictures": {name: sha256(picture).hexdigest() for name, picture in pictures.items() if picture},
            "texts": [asdict(pair) for pair in self.texts],
            "continuations": [asdict(continuation) for continuation in self.continuations],
            "frontier": list(self.frontier),
            "safety": asdict(self.safety) if self.safety else None,
        }
        write_atomically(folder / "exhibit.json", json.dumps(values, indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path, *, key: str) -> "Exhibit":
        """
        Raises:
            OSError, ValueError: a part is missing or damaged, or is of something else.
        """
        file = _File.model_validate_json((folder / "exhibit.json").read_bytes())
        pictures = {name: (folder / f"{name}.png").read_bytes() for name in file.pictures}
        hashes = {name: sha256(picture).hexdigest() for name, picture in pictures.items()}
        if (file.key, file.pictures) != (key, hashes):
            raise ValueError(f"{folder}: not the samples of {key}")
        return cls(
            sheet=pictures.get("sheet"),
            neighbours=pictures.get("neighbours"),
            texts=file.texts,
            continuations=file.continuations,
            frontier=file.frontier,
            safety=file.safety,
        )


class _File(BaseModel):
    """exhibit.json."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    key: str
    pictures: dict[Literal["sheet", "neighbours"], str]
    texts: list[TextPair]
    continuations: list[Continuation]
    frontier: list[tuple[float, float]]
    safety: Safety | None


def make_exhibit(
    samples: Samples,
    points: Tensor,
    train: Samples,
    train_points: Tensor,
    *,
    completions: Sequence[Completion] = (),
    frontier: Frontier = (),
    safety: Safety | None = None,
) -> Exhibit:
    """The first samples and, for some of them, the nearest training item by distance of features."""
    if isinstance(samples, Images):
        assert isinstance(train, Images)
        index, _ = nearest_neighbours(train_points, points[:N_PAIRS])
        pairs = Images(torch.cat([samples.pixels[:N_PAIRS], train.pixels[index]]), samples.levels)
        return Exhibit(
            sheet=to_png(sheet(samples[:N_IMAGES], columns=COLUMNS)),
            neighbours=to_png(sheet(pairs, columns=len(index))),
            frontier=frontier,
            safety=safety,
        )
    assert isinstance(train, Texts) and isinstance(samples, Texts)
    index, _ = nearest_neighbours(train_points, points[:N_TEXTS])
    shared = map(int, longest_runs(samples.passages[:N_TEXTS], train))
    chosen = zip(samples[:N_TEXTS].to_strings(), train[index].to_strings(), shared, strict=True)
    return Exhibit(
        texts=[TextPair(*pair) for pair in chosen],
        continuations=[Continuation.of(completion) for completion in completions[:N_CONTINUED]],
        frontier=frontier,
        safety=safety,
    )
