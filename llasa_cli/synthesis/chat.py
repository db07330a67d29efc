"""Text chat with a model that speaks and still chats (Llasa-3B-Preserve-TextChat and its kind).

    conversation = Conversation(writer, prompt_format)
    for words in conversation.answer("Who are you?", ChatOptions()): ...      text, piece by piece, as it is drawn

The whole conversation is the prompt of each answer, in the checkpoint's own chat template; what no longer fits is forgotten from
the front, turn by turn. Whoever speaks the answers takes the pieces as they come: `Synthesizer.say(pieces)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llasa_cli.errors import UsageError
from llasa_cli.settings import CONTEXT_TOKENS, ChatOptions, SamplingOptions
from llasa_cli.text.unicode import whole_characters

if TYPE_CHECKING:
    from llasa_cli.lm.text_generation import TextGenerator
    from llasa_cli.prompt import PromptFormat

UNFINISHED = "\ufffd"
"""What a tokenizer makes of half a character: its other half is in the next token."""


class Conversation:
    """One conversation: what was said, by whom.

    Attributes:
        messages: `{"role": ..., "content": ...}`, oldest first.
        forgotten: How many messages no longer fit in.
    """

    def __init__(self, writer: TextGenerator, prompt_format: PromptFormat, system: str | None = None) -> None:
        self._writer, self._prompt_format = writer, prompt_format
        self._system = [{"role": "system", "content": whole_characters(system)}] if system else []
        self.messages: list[dict[str, str]] = []
        self.forgotten = 0

    def answer(self, text: str, options: ChatOptions, seed: int) -> Iterator[str]:
        """The model's answer in pieces of whole characters; what has been taken of it becomes part of the conversation.

        Raises:
            UsageError: The text alone is too long.
            ModelError: The checkpoint's chat template can't be used.
        """
        self.messages, ids, stop = self._fitting(
            [*self.messages, {"role": "user", "content": whole_characters(text)}], options.most_tokens
        )
        said: list[int] = []
        given = ""
        sampling = SamplingOptions(temperature=options.temperature, top_p=options.top_p)
        try:
            for token in self._writer.write(ids, stop, sampling, seed, options.most_tokens):
                said.append(token)
                whole = self._prompt_format.text_of(said)
                if not whole.endswith(UNFINISHED) and len(whole) > len(given):
                    yield whole[len(given) :]
                    given = whole
        finally:
            self.messages.append({"role": "assistant", "content": given})

    def _fitting(self, messages: list[dict[str, str]], room: int) -> tuple[list[dict[str, str]], list[int], int]:
        """As many of the latest messages as leave room for the answer, their prompt, and the token that ends a turn."""
        forgotten = 0
        while True:
            ids, stop = self._prompt_format.chat_prompt([*self._system, *messages])
            if len(ids) + room <= CONTEXT_TOKENS:
                self.forgotten += forgotten
                return messages, ids, stop
            if len(messages) == 1:
                raise UsageError(
                    f"The question takes {len(ids)} tokens; with {room} for the answer the model has {CONTEXT_TOKENS}.",
                    "Ask in fewer words.",
                )
            # A question goes with its answer: templates want the user to begin.
            messages = messages[2:]
            forgotten += 2
