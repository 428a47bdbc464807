"""How the symbols of a corpus are chosen: the configuration group `data/tokenizer`."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from aigc_lab.data.cache import keeping
from aigc_lab.data.chat import ChatFormat
from aigc_lab.data.corpora import Corpus
from aigc_lab.data.spec import DataSpec
from aigc_lab.data.splits import content_hash
from aigc_lab.data.tokens import Bytes, Characters, Subwords, Tokenizer, nodes
from aigc_lab.errors import UserError
from aigc_lab.files import write_atomically
from aigc_lab.hub import TOKENIZER, folder_of
from aigc_lab.types import VocabularySize


class Tokenizing(Protocol):
    def fit(self, corpus: Corpus, cache_dir: Path | None) -> Tokenizer:
        """The tokenizer for a corpus.

        Raises:
            UserError: it cannot be had.
        """
        ...


@runtime_checkable
class WithChat(Protocol):
    """A tokenizing that may bring a way to write conversations."""

    def chat(self) -> ChatFormat | None: ...


@dataclass(frozen=True)
class ByBytes:
    """The 256 bytes."""

    def fit(self, corpus: Corpus, cache_dir: Path | None) -> Bytes:
        return Bytes()


@dataclass(frozen=True)
class ByCharacters:
    """The characters that occur anywhere in the corpus, in the order of their code points."""

    def fit(self, corpus: Corpus, cache_dir: Path | None) -> Characters:
        found: set[str] = set()
        for split in ("train", "held_out"):
            for piece in corpus.pieces(split):
                found.update(piece.decode())
        return Characters("".join(sorted(found)))


@dataclass(frozen=True, kw_only=True)
class TrainedBPE:
    """Byte-pair encoding of GPT-2's kind, trained on the training split: the bytes, and the pairs most often seen
    side by side within words, merged again and again. Kept in the cache.

    Args:
        vocab_size: symbols, the 256 bytes included; fewer where the text has no more pairs to merge.
    """

    vocab_size: VocabularySize

    def fit(self, corpus: Corpus, cache_dir: Path | None) -> Subwords:
        if cache_dir is None:
            return self._train(corpus)
        key = content_hash(corpus.digest("train"), str(self.vocab_size), tokenizers.__version__)
        path = cache_dir / "tokenizers" / f"bpe{self.vocab_size}-{key[:16]}.json"
        try:
            return Subwords(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or damaged
            trained = self._train(corpus)
            with keeping(path):
                write_atomically(path, trained.model)
            return trained

    def _train(self, corpus: Corpus) -> Subwords:
        library = tokenizers.Tokenizer(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        library.train_from_iterator((piece.decode() for piece in corpus.pieces("train")), trainer)
        return Subwords(library.to_str())


@dataclass(frozen=True, kw_only=True)
class HuggingFace:
    """Any tokenizer of Hugging Face's that loses nothing.

    Texts are read in pieces, so the space that some tokenizers put before a text is left out.

    Args:
        path: a folder, or the id of a model in the local cache.
        download: fetch the id from the hub first.
    """

    path: str
    download: bool

    def fit(self, corpus: Corpus, cache_dir: Path | None) -> Subwords:
        """
        Raises:
            UserError: there is none of that name, or it is no tokenizer of the library `tokenizers`.
        """
        try:
            folder = self._folder
            file = folder / "tokenizer.json"
            return Subwords(_plain(file.read_text(encoding="utf-8") if file.is_file() else _converted(folder)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"data.tokenizer.path={self.path}: no tokenizer can be loaded from there ({reason}); give a "
                "folder that holds a tokenizer.json, or an id with data.tokenizer.download=true"
            ) from None

    def chat(self) -> ChatFormat | None:
        """The tokenizer's own chat template, where it has one.

        Raises:
            UserError: its settings are damaged.
        """
        try:
            folder = self._folder
            settings, beside = folder / "tokenizer_config.json", folder / "chat_template.jinja"
            said = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
            template = beside.read_text(encoding="utf-8") if beside.is_file() else said.get("chat_template")
            names = [said.get(name) or "" for name in ("bos_token", "eos_token")]
            begin, end = (name["content"] if isinstance(name, dict) else name for name in names)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"data.tokenizer.path={self.path}: its settings are damaged ({error})") from None
        return ChatFormat(template, begin=begin, end=end) if isinstance(template, str) else None

    @cached_property
    def _folder(self) -> Path:
        return folder_of(self.path, fetch=TOKENIZER if self.download else ())


def _converted(folder: Path) -> str:
    """The library's JSON of a tokenizer in another format."""
    if not any(folder.iterdir()):
        raise OSError("the folder is empty")
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return found.backend_tokenizer.to_str()


def of_model(path: str) -> Subwords | None:
    """The tokenizer that stands beside a model of Hugging Face's kind; None where none can be read."""
    try:
        file = folder_of(path) / "tokenizer.json"
        return Subwords(_plain(file.read_text(encoding="utf-8"))) if file.is_file() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@dataclass(frozen=True, kw_only=True)
class OfRun:
    """The tokenizer of a finished run, with its chat template.

    Args:
        path: the run's directory.
    """

    path: str

    def fit(self, corpus: Corpus, cache_dir: Path | None) -> Tokenizer:
        """
        Raises:
            UserError: there is no such run, or it has no tokenizer.
        """
        tokenizer = self._spec().tokenizer
        if tokenizer is None:
            raise UserError(f"data.tokenizer.path={self.path}: is no run on texts")
        return tokenizer

    def chat(self) -> ChatFormat | None:
        """
        Raises:
            UserError: there is no such run.
        """
        return self._spec().chat

    def _spec(self) -> DataSpec:
        description = Path(self.path, "checkpoints", "weights.json")
        try:
            return DataSpec.from_json(json.loads(description.read_text(encoding="utf-8"))["spec"])
        except (OSError, ValueError, KeyError, TypeError, UserError) as error:
            raise UserError(
                f"data.tokenizer.path={self.path}: no tokenizer can be read there ({error}); name a finished run"
            ) from None


def _plain(model: str) -> str:
    """The library's JSON without what adds to a text or cuts it."""
    tree = json.loads(model)
    tree |= {"post_processor": None, "truncation": None, "padding": None}
    for node in nodes(tree):
        if "add_prefix_space" in node:
            node["add_prefix_space"] = False
        if "prepend_scheme" in node:
            node["prepend_scheme"] = "never"
        if "normalizers" in node:
            node["normalizers"] = [n for n in node["normalizers"] if n["type"] != "Prepend"]
        if "decoders" in node:  # what takes the added space away again
            node["decoders"] = [n for n in node["decoders"] if n["type"] != "Strip"]
    return json.dumps(tree, ensure_ascii=False)
