"""Text chat with a model that can both speak and chat, such as Llasa-3B-Preserve-TextChat.

    conversation = Conversation(generator, prompt_format)
    for piece in conversation.answer("Who are you?", ChatOptions(), seed=1): ...      text, piece by piece

The prompt of an answer is the whole conversation in the checkpoint's own chat template. When it no longer fits, the oldest
turns are dropped. The pieces of an answer can be passed to `Synthesizer.stream` as they arrive.
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

INCOMPLETE_CHARACTER = "\ufffd"
"""A tokenizer decodes the first bytes of a character to this; the next token has the other bytes."""


class Conversation:
    """The messages of one conversation.

    Attributes:
        messages: `{"role": ..., "content": ...}`, oldest first.
        forgotten: The number of messages that were dropped because they no longer fit into the context.
    """

    def __init__(self, generator: TextGenerator, prompt_format: PromptFormat, system: str | None = None) -> None:
        self._generator, self._prompt_format = generator, prompt_format
        self._system = [{"role": "system", "content": whole_characters(system)}] if system else []
        self.messages: list[dict[str, str]] = []
        self.forgotten = 0

    def answer(self, text: str, options: ChatOptions, seed: int) -> Iterator[str]:
        """Generate the answer to a message.

        Yields:
            The answer in pieces of whole characters. Each piece that was consumed becomes part of the conversation.

        Raises:
            UsageError: The message alone is too long for the context.
            ModelError: The checkpoint's chat template can't be used.
        """
        self.messages, ids, stop = self._fit(
            [*self.messages, {"role": "user", "content": whole_characters(text)}], options.most_tokens
        )
        generated: list[int] = []
        consumed = ""
        sampling = SamplingOptions(temperature=options.temperature, top_p=options.top_p)
        try:
            for token in self._generator.generate(ids, stop, sampling, seed, options.most_tokens):
                generated.append(token)
                answer = self._prompt_format.decode_text(generated)
                if not answer.endswith(INCOMPLETE_CHARACTER) and len(answer) > len(consumed):
                    yield answer[len(consumed) :]
                    consumed = answer
        finally:
            self.messages.append({"role": "assistant", "content": consumed})

    def _fit(self, messages: list[dict[str, str]], answer_tokens: int) -> tuple[list[dict[str, str]], list[int], int]:
        """Keep the latest messages that leave room for the answer. -> messages, prompt ids, the id that ends a turn"""
        forgotten = 0
        while True:
            ids, stop = self._prompt_format.chat_prompt([*self._system, *messages])
            if len(ids) + answer_tokens <= CONTEXT_TOKENS:
                self.forgotten += forgotten
                return messages, ids, stop
            if len(messages) == 1:
                raise UsageError(
                    f"The question takes {len(ids)} tokens; with {answer_tokens} for the answer that exceeds the model's "
                    f"context of {CONTEXT_TOKENS}.",
                    "Ask in fewer words.",
                )
            # A question is dropped together with its answer: chat templates expect the user to begin.
            messages = messages[2:]
            forgotten += 2
