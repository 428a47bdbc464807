"""Models of Hugging Face's: where the files of one lie. Nothing is fetched that was not asked for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

WEIGHTS = ("*.json", "model*.safetensors")
"""The files of a model without its tokenizer, as patterns."""

TOKENIZER = ("*.json", "*.jinja", "*.txt", "*.model")
"""Those of a tokenizer."""


def folder_of(path: str, *, fetch: Sequence[str] = ()) -> Path:
    """The folder of a model: `path` itself, or for an id its snapshot in the local cache.

    Args:
        fetch: patterns of the files of an id that are fetched from the hub before, where the cache has not got
            their newest state; none: nothing is asked of the hub.

    Raises:
        FileNotFoundError: there is none, or it cannot be fetched.
    """
    if Path(path).is_dir():
        return Path(path)
    import huggingface_hub

    if fetch:
        try:
            return Path(huggingface_hub.snapshot_download(path, allow_patterns=list(fetch)))
        except Exception as error:  # the hub's own, the network's, the disk's
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise FileNotFoundError(f"cannot be fetched from the hub: {reason}") from None
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        if isinstance(file := huggingface_hub.try_to_load_from_cache(path, name), str):
            return Path(file).parent
    raise FileNotFoundError("no such folder, and no such id in the local cache")


@contextmanager
def without_bars() -> Iterator[None]:
    """Inside the block `transformers` shows no progress of reading and writing weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
