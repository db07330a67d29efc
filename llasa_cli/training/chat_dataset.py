"""Text conversations as training rows, mixed with speech so that a model keeps its text chat.

The input is JSONL with a conversation a line: {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}]}.
A bare list of messages, and `conversations` with from/value as in ShareGPT, are read too. The checkpoint's own chat template
formats them; labels are the assistant's words and the token that ends its turn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llasa_cli.errors import UsageError
from llasa_cli.prompt import NO_LABEL, PromptFormat
from llasa_cli.training.dataset import TrainingRows

Message = dict[str, str]
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
_MAX_NAMED = 5


class ChatDataset:
    """The conversations of some files, encoded once.

    Attributes:
        skipped: The number of rows that are left out because they exceed the context.
        lengths: int64 [N] tokens.

    Raises:
        UsageError: A file is missing or has lines that are not conversations. One message names all of them.
    """

    def __init__(self, files: Sequence[Path], prompt_format: PromptFormat, context: int) -> None:
        rows = [chat_example(prompt_format, messages) for messages in _read(files)]
        self._rows = [row for row in rows if len(row["input_ids"]) <= context]
        self.skipped = len(rows) - len(self._rows)
        self.lengths = np.array([len(row["input_ids"]) for row in self._rows], np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self._rows[index]


class ConcatDataset:
    """Rows of speech, followed by conversations, as one set to train on; see `dataset.TrainingRows`."""

    def __init__(self, speech: TrainingRows, chat: ChatDataset) -> None:
        self._speech, self._chat = speech, chat
        self.lengths = np.concatenate([speech.lengths, chat.lengths])
        self.codes = np.concatenate([speech.codes, np.zeros(len(chat), speech.codes.dtype)])
        self.speakers = [*speech.speakers, *[None] * len(chat)]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        count = len(self._speech)
        return self._speech[index] if index < count else self._chat[index - count]

    def decode(self, index: int) -> tuple[list[int], list[int]]:
        """Text ids and codes of a row of speech."""
        return self._speech.decode(index)


def chat_example(prompt_format: PromptFormat, messages: Sequence[Message]) -> dict[str, np.ndarray]:
    """Ids and labels of a conversation: NO_LABEL except for the assistant's words and the token after them."""
    ids: list[int] = []
    labels: list[int] = []
    ends_turn = False
    for from_assistant, piece in prompt_format.chat_pieces(messages):
        ids += piece
        labels += piece if from_assistant else [NO_LABEL] * len(piece)
        if ends_turn and piece:
            labels[-len(piece)] = piece[0]
        ends_turn = from_assistant
    return {"input_ids": np.array(ids, np.int64), "labels": np.array(labels, np.int64)}


def _read(files: Sequence[Path]) -> list[list[Message]]:
    found: list[list[Message]] = []
    wrong: list[str] = []
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} can't be read: {error}", "--chat takes JSON lines in UTF-8.") from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                messages = _messages(line)
                if messages is None:
                    wrong.append(f"{path.name}:{number}")
                else:
                    found.append(messages)
    if wrong:
        more = f" and {len(wrong) - _MAX_NAMED} more" if len(wrong) > _MAX_NAMED else ""
        raise UsageError(
            f"These lines are not conversations: {', '.join(wrong[:_MAX_NAMED])}{more}.",
            'Write each line as {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}.',
        )
    return found


def _messages(line: str) -> list[Message] | None:
    """None if the line is not a conversation or has no answer."""
    try:
        content: Any = json.loads(line)
    except ValueError:
        return None
    if isinstance(content, dict):
        content = content.get("messages", content.get("conversations"))
    if not isinstance(content, list) or not content:
        return None
    messages = []
    for message in content:
        if not isinstance(message, dict):
            return None
        role = _ROLES.get(str(message.get("role", message.get("from"))))
        words = message.get("content", message.get("value"))
        if role is None or not isinstance(words, str) or not words.strip():
            return None
        messages.append({"role": role, "content": words.strip()})
    return messages if any(message["role"] == "assistant" for message in messages) else None
