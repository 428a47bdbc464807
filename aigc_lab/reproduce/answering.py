"""A measure of models that answer questions."""

from dataclasses import dataclass

from aigc_lab.chatting import Speaker
from aigc_lab.config.targets import build
from aigc_lab.data.instructions import Conversations
from aigc_lab.decoding import Sampling
from aigc_lab.errors import UserError
from aigc_lab.reproduce.trial import Trial
from aigc_lab.types import PositiveInt


@dataclass(frozen=True, kw_only=True)
class ExactMatch:
    """`exact_match`: the share of held-out conversations whose last response is what the model writes, symbol by
    symbol the likeliest, white space at both ends aside; `n_questions` is their number.

    Args:
        length: symbols after which an answer is cut, and wrong.
        batch: questions that are answered at once.
    """

    length: PositiveInt
    batch: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the data holds no conversations.
        """
        config = trial.run.config()
        data = build(config.data, path="data", supplied={"cache_dir": config.paths.cache})
        if not isinstance(data, Conversations):
            raise UserError(f"claims: {config.name} is not trained on conversations")
        speaker = Speaker.of(trial.generator, config.name)
        asked = [messages for messages, _ in data.split("held_out")]
        right = 0
        for i in range(0, len(asked), self.batch):
            some = asked[i : i + self.batch]
            written = speaker.respond(
                [messages[:-1] for messages in some],
                seeds=[0] * len(some),
                sampling=Sampling(temperature=0),
                length=self.length,
            )
            expected = [messages[-1]["content"] for messages in some]
            right += sum(a.strip() == b.strip() for a, b in zip(written, expected, strict=True))
        return {"exact_match": right / len(asked), "n_questions": len(asked)}
