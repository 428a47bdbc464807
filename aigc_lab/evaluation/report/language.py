"""What the page says, in every language at once: the reader switches without a reload."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml
from markupsafe import Markup

LANGUAGES = ("en", "zh")


@cache
def phrases() -> Mapping[str, Mapping[str, str]]:
    """strings.yaml: key -> language -> sentence, with {names} to fill in."""
    text = files(__package__).joinpath("strings.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = yaml.safe_load(text)
    # YAML joins the lines of a long sentence with spaces, which Chinese does not have
    return {key: {**said, "zh": _BETWEEN_CHINESE.sub("", said["zh"])} for key, said in found.items()}


_BETWEEN_CHINESE = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef]) (?=[\u3000-\u9fff\uff00-\uffef])")


def say(key: str, /, **values: object) -> Markup:
    """A phrase in every language, side by side; the style sheet shows the one of <html lang>."""
    return _side_by_side({language: phrases()[key][language].format(**values) for language in LANGUAGES})


def say_instead(text: str, key: str, /, **values: object) -> Markup:
    """An English text from elsewhere, and beside it the phrase that stands for it in the other languages."""
    others = {language: said.format(**values) for language, said in phrases().get(key, {}).items()}
    return _side_by_side({language: others.get(language, text) for language in LANGUAGES})


def _side_by_side(said: Mapping[str, str]) -> Markup:
    if len(set(said.values())) == 1:
        return Markup.escape(said[LANGUAGES[0]])
    spans = (Markup('<span class="t" lang="{}">{}</span>').format(*pair) for pair in said.items())
    return Markup("").join(spans)


def attribute(name: str, key: str, /, **values: object) -> Markup:
    """An attribute in English, and beside it the data- attributes from which the script takes the others."""
    said = {language: phrases()[key][language].format(**values) for language in LANGUAGES}
    parts = [Markup('{}="{}"').format(name, said[LANGUAGES[0]])]
    parts += [Markup('data-{}-{}="{}"').format(name, language, text) for language, text in said.items()]
    return Markup(" ").join(parts)


def say_if_known(prefix: str, name: str) -> Markup:
    """The phrase `prefix.name`, or the name itself where it has none."""
    key = f"{prefix}.{name}"
    return say(key) if key in phrases() else Markup.escape(name)
