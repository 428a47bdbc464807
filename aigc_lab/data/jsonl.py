"""Conversations in JSONL files: one JSON object a line."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aigc_lab.data.chat import ROLES, Message
from aigc_lab.data.corpora import file_size
from aigc_lab.errors import UserError


class Record(NamedTuple):
    """A line of a file: its fields, and what it is called in messages to the user."""

    fields: Mapping[str, Any]
    where: str

    def text(self, field: str) -> str:
        """
        Raises:
            UserError: the field is missing or no text.
        """
        if field not in self.fields:
            raise UserError(f"{self.where} has no field '{field}'; it has: {', '.join(self.fields) or 'none'}")
        value = self.fields[field]
        if not isinstance(value, str):
            raise UserError(f"{self.where}: '{field}' should be a text, not {json.dumps(value)[:40]}")
        return value


def records(path: str) -> Iterator[Record]:
    """The lines of a file; blank ones are left out.

    Raises:
        UserError: there is no such file, it is empty or no text, or a line is no JSON object of texts.
    """
    if not Path(path).is_file():
        raise UserError(f"data.path={path}: no such file")
    file_size(Path(path))
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")  # only this ends a line of JSON
    except UnicodeDecodeError as error:
        raise UserError(f"data: {path} is not UTF-8 text (byte {error.start}: {error.reason})") from None
    for number, line in enumerate(lines, 1):
        where = f"data: {path}, line {number}"
        if not line.strip():
            continue
        try:
            fields = parsed(line)
        except ValueError as error:
            raise UserError(f"{where} {error}") from None
        if not isinstance(fields, dict):
            raise UserError(f"{where} should be a JSON object, with prompt and response or with messages")
        yield Record(fields, where)


def parsed(line: str) -> Any:
    """A line of JSON, whose texts UTF-8 can write.

    Raises:
        ValueError: it is none, or holds one half of a character that UTF-16 writes in two.
    """
    try:
        found = json.loads(line)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = json.dumps(error.object[error.start])
        raise ValueError(f"is no text: {half} is one half of a character, and the other is missing") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from None
    return found


def conversation(record: Record) -> list[Message]:
    """The messages of a line: its `messages`, or those of `system` (if there is one), `prompt` and `response`.

    Raises:
        UserError: a field is missing or no text, or the last message is no response.
    """
    if "messages" in record.fields:
        messages = _messages(record, "messages")
        if not messages or messages[-1]["role"] != "assistant":
            raise UserError(f"{record.where}: the last of its messages should be the assistant's")
        return messages
    return [*asked(record), {"role": "assistant", "content": record.text("response")}]


def asked(record: Record) -> list[Message]:
    """The messages before a response: `prompt`, which is a text or a list of messages, behind `system`, if there
    is one.

    Raises:
        UserError: a field is missing, or neither.
    """
    system = [{"role": "system", "content": record.text("system")}] if "system" in record.fields else []
    if isinstance(record.fields.get("prompt"), list):
        return [*system, *_messages(record, "prompt")]
    return [*system, {"role": "user", "content": record.text("prompt")}]


def _messages(record: Record, field: str) -> list[Message]:
    given: Sequence[Any] = record.fields[field]
    if not isinstance(given, list):
        raise UserError(f"{record.where}: '{field}' should be a list of messages")
    for i, message in enumerate(given, 1):
        whole = isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        if not whole or message["role"] not in ROLES:
            raise UserError(
                f"{record.where}: message {i} should have a role ({', '.join(ROLES)}) and a text as its content"
            )
    return [{"role": message["role"], "content": message["content"]} for message in given]
