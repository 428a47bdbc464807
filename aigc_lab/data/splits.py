"""Fixed splits and content hashes, independent of any library's random numbers."""

import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor


def content_hash(*parts: Tensor | bytes | str) -> str:
    """SHA-256 over the parts, each preceded by its length; hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            data = np.ascontiguousarray(part.cpu().numpy()).tobytes()
        else:
            data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def by_hash(contents: Sequence[bytes]) -> list[int]:
    """Indices in the order of their contents' hashes: random-looking, fixed for ever, and the same for equal
    contents, so that a split at any point parts exact duplicates at most once."""
    return sorted(range(len(contents)), key=lambda i: (hashlib.sha256(contents[i]).digest(), i))


def held_out_documents(digests: np.ndarray, sizes: np.ndarray, share: float) -> np.ndarray:
    """Which of n documents are held out, bool [n]: the first by SHA-256 that have at least a share of all bytes.

    At least one stays in train.

    Args:
        digests: SHA-256 of each, uint8 [n, 32].
        sizes: bytes of each, int64 [n].
    """
    order = np.argsort(digests[:, :8].copy().view(">u8").ravel(), kind="stable")  # 64 bits tell contents apart
    before = sizes[order].cumsum() - sizes[order]
    chosen = order[:-1][before[:-1] < share * sizes.sum()]
    return np.isin(np.arange(len(order)), chosen)


def blocks(documents: Iterable[str], at_least: int) -> list[str]:
    """Cut documents between paragraphs into blocks of at least so many characters (the last may be shorter)."""
    cut = []
    for document in documents:
        block = ""
        for paragraph in document.split("\n\n"):
            block += paragraph + "\n\n"
            if len(block) >= at_least:
                cut.append(block)
                block = ""
        if block:
            cut.append(block)
    return cut


def without_repeats(documents: Iterable[str], at_least: int = 40) -> list[str]:
    """Drop every paragraph that already stood in an earlier document, and documents left empty.

    Corpora quote themselves; a paragraph on both sides of a split would be scored as memory, not skill.
    Paragraphs shorter than `at_least` characters (headings, "See also") may repeat.
    """
    seen: set[str] = set()
    kept = []
    for document in documents:
        paragraphs = [p for p in re.split(r"\n[ \t]*\n", document) if " ".join(p.split()) not in seen]
        seen.update(words for p in paragraphs if len(words := " ".join(p.split())) >= at_least)
        if any(p.strip() for p in paragraphs):
            kept.append("\n\n".join(paragraphs))
    return kept
