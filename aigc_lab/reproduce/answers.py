"""Measures of models that answer: right or wrong, for there is one answer."""

from dataclasses import dataclass

from aigc_lab.data.samples import Pairs
from aigc_lab.decoding import Sampling
from aigc_lab.errors import UserError
from aigc_lab.reproduce.trial import Trial
from aigc_lab.translator import Translator
from aigc_lab.types import PositiveInt


@dataclass(frozen=True, kw_only=True)
class ExactMatch:
    """How many of the first n test sources are answered exactly right.

    Gives `exact_match`, the share with greedy decoding; `exact_match_beam`, of the first tenth of them with a beam
    search; and `bits_per_byte` of the right answers, given their sources.

    Args:
        n: test pairs; all, where there are fewer.
        n_beams: of the search.
    """

    n: PositiveInt
    n_beams: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the run is no model of pairs.
        """
        generator, test = trial.generator, trial.dataset.real("held_out")
        if not isinstance(generator, Translator) or not isinstance(test, Pairs):
            raise UserError("claims: exact answers are counted for a model of pairs only")
        test, few = test[: self.n], test[: max(1, self.n // 10)]
        greedy = generator.respond(test.sources, rng=trial.rng(), sampling=Sampling(temperature=0))
        found = generator.search(few.sources, n_beams=self.n_beams)
        return {
            "exact_match": share_equal(greedy.passages, test.targets.passages),
            "exact_match_beam": share_equal(found.passages, few.targets.passages),
            "bits_per_byte": generator.log_likelihood(test, rng=trial.rng()).bits_per_byte(),
        }


def share_equal(answers: list[bytes], expected: list[bytes]) -> float:
    """The share of answers that are the expected ones, byte by byte."""
    return sum(a == b for a, b in zip(answers, expected, strict=True)) / len(expected)
