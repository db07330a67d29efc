"""Text conversations as training rows, mixed with speech so that a model keeps its chat.

In: JSONL, a conversation a line: {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}, ...]} (a bare
list of messages, or `conversations` with from/value, as ShareGPT has it, are taken as well). The checkpoint's own chat
template says how they are written; labels are what the assistant says, and the token that ends its turn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llasa_cli.errors import UsageError
from llasa_cli.prompt import NO_LABEL, PromptFormat

if TYPE_CHECKING:
    from llasa_cli.training.trainer import Data

Message = dict[str, str]
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
_MOST_NAMED = 5


class ChatRows:
    """Conversations of some files, encoded once.

    Attributes:
        cut: How many are left out because they are longer than the context.
        lengths: int64 [N] tokens.

    Raises:
        UsageError: A file that is not there; all lines that are no conversation, in one message.
    """

    def __init__(self, files: Sequence[Path], prompt_format: PromptFormat, context: int) -> None:
        rows = [wrap_chat(prompt_format, messages) for messages in _read(files)]
        self._rows = [row for row in rows if len(row["input_ids"]) <= context]
        self.cut = len(rows) - len(self._rows)
        self.lengths = np.array([len(row["input_ids"]) for row in self._rows], np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self._rows[index]


class ConcatDataset:
    """Rows of speech and then conversations, as one set to train on."""

    def __init__(self, speech: Data, chat: ChatRows) -> None:
        self._speech, self._chat = speech, chat
        self.lengths = np.concatenate([speech.lengths, chat.lengths])
        self.codes = np.concatenate([speech.codes, np.zeros(len(chat), speech.codes.dtype)])
        self.speakers = [*speech.speakers, *[None] * len(chat)]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        count = len(self._speech)
        return self._speech[index] if index < count else self._chat[index - count]

    def parts(self, index: int) -> tuple[list[int], list[int]]:
        """Of a row of speech."""
        return self._speech.parts(index)

    def wrap(self, text: Sequence[int], codes: Sequence[int], speaker: str | None) -> dict[str, np.ndarray]:
        return self._speech.wrap(text, codes, speaker)


def wrap_chat(prompt_format: PromptFormat, messages: Sequence[Message]) -> dict[str, np.ndarray]:
    """A conversation's ids and labels: NO_LABEL but for what the assistant says and the token after it."""
    ids: list[int] = []
    labels: list[int] = []
    ends_turn = False
    for is_said, piece in prompt_format.chat_pieces(messages):
        ids += piece
        labels += piece if is_said else [NO_LABEL] * len(piece)
        if ends_turn and piece:
            labels[-len(piece)] = piece[0]
        ends_turn = is_said
    return {"input_ids": np.array(ids, np.int64), "labels": np.array(labels, np.int64)}


def _read(files: Sequence[Path]) -> list[list[Message]]:
    found: list[list[Message]] = []
    wrong: list[str] = []
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} can't be read: {error}", "A conversation a line, as JSON.") from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                messages = _messages(line)
                if messages is None:
                    wrong.append(f"{path.name}:{number}")
                else:
                    found.append(messages)
    if wrong:
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise UsageError(
            f"These lines are no conversations: {', '.join(wrong[:_MOST_NAMED])}{more}.",
            'A line is {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}.',
        )
    return found


def _messages(line: str) -> list[Message] | None:
    """None if it is not one, or nobody answers in it."""
    try:
        said: Any = json.loads(line)
    except ValueError:
        return None
    if isinstance(said, dict):
        said = said.get("messages", said.get("conversations"))
    if not isinstance(said, list) or not said:
        return None
    messages = []
    for message in said:
        if not isinstance(message, dict):
            return None
        role = _ROLES.get(str(message.get("role", message.get("from"))))
        content = message.get("content", message.get("value"))
        if role is None or not isinstance(content, str) or not content.strip():
            return None
        messages.append({"role": role, "content": content.strip()})
    return messages if any(message["role"] == "assistant" for message in messages) else None
