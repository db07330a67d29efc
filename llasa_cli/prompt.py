"""Text in, token ids out: everything Llasa's two flows must agree on.

A checkpoint's own tokenizer and chat template say how; nothing here knows an id. What a user types is encoded by a
second tokenizer that knows no added token, so no text can become a control token.

    text "hello"  ->  <template> Convert the text to speech:<|TEXT_UNDERSTANDING_START|> h e l l o <|TEXT_UNDERSTANDING_END|>
                      <template> [Speaker x] <|SPEECH_GENERATION_START|> [reference codes]     -> the model goes on from here

Source of the forms: zhenye234/LLaSA_training (rows, labels, zero-shot and cloning prompts) and the model cards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.metadata import read_metadata
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.files import read_json_object_if_exists
from llasa_cli.settings import CONTEXT_TOKENS, TEMPLATE_DATE

INSTRUCTION = "Convert the text to speech:"
TEXT_START, TEXT_END = "<|TEXT_UNDERSTANDING_START|>", "<|TEXT_UNDERSTANDING_END|>"
SPEECH_START, SPEECH_END = "<|SPEECH_GENERATION_START|>", "<|SPEECH_GENERATION_END|>"
_MARKER = re.compile(r"<\|(?:TEXT|SPEECH)_(?:GENERATION|UNDERSTANDING)_(?:START|END)\|>")
NO_LABEL = -100
"""What transformers and torch leave out of the loss."""

_SLOT = "\ue000llasa-slot-{}\ue001"
"""Private-use characters: stands in the rendered template where ids are put, and can't come from a template."""

MOST_TURNS = 10_000
"""Of all loops over `range` in one rendering of a chat template; none of Llama's has one."""

_NO_BLANK_AFTER = re.compile(
    r"[\u3000-\u312f\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff9f\U00020000-\U0003ffff][\"'”’)\]]*$"
)
"""Japanese writing, its punctuation included."""
_KANA = re.compile(r"[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
"""What Japanese has and Chinese has not. Published Chinese is joined with a blank, as English is."""


@dataclass(frozen=True)
class Reference:
    """A voice to speak with.

    Attributes:
        text: What is said in the clip; without it the model can't tell where the transcript ends.
        codes: Its speech codes, 50 a second.
    """

    text: str
    codes: tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """Attributes:
    ids: Everything before the first code to be generated.
    reference_codes: How many of the last ids are the reference's codes; the sound made of them is cut off again.
    unconditional: The same without a word of text: what guidance goes away from.
    """

    ids: tuple[int, ...]
    reference_codes: int
    unconditional: tuple[int, ...] = ()


class PromptFormat:
    """How one checkpoint is spoken to. Build it with `PromptFormat.load`.

    Attributes:
        start_id, end_id: `<|SPEECH_GENERATION_START|>`, `<|SPEECH_GENERATION_END|>`.
        marker_ids: Of the eight tokens that stand around text and speech, as many as there are.
        first_code_id, code_count: Code n (0 to code_count - 1) is token `first_code_id + n`.
        vocabulary_size: The highest id plus 1.
        pad_id: A token that stands nowhere in a row.
        speakers, default_speaker: The tags a multi-speaker finetune knows, and the one used when none is asked for.
        speaker_space: The published inference example has a space between tag and START, the training data none.
        spell_out: It wants numbers and signs in words (`text.normalize`).
        unknown_id: What a letter becomes that the tokenizer does not know; None: it knows all.
        join: What the checkpoint wants between a reference's transcript and the text; None: what the writing wants.
    """

    def __init__(self, tokenizer: Any, template: str, settings: dict[str, Any], about: Mapping[str, Any]) -> None:
        # Training scripts leave these on in the file they save; a cut text would be spoken to its middle.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._template = template
        self._settings = settings
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self.vocabulary_size = max(vocabulary.values()) + 1
        missing = [t for t in (TEXT_START, TEXT_END, SPEECH_START, SPEECH_END, "<|s_0|>") if t not in vocabulary]
        if missing:
            raise ModelError(
                f"This checkpoint's tokenizer has no {missing[0]}: it is not a Llasa model.",
                "Pass a Llasa checkpoint, or train one from a text model with `llasa finetune`.",
            )
        self.text_start_id, self.text_end_id = vocabulary[TEXT_START], vocabulary[TEXT_END]
        self.start_id, self.end_id = vocabulary[SPEECH_START], vocabulary[SPEECH_END]
        self.marker_ids = tuple(index for token, index in vocabulary.items() if _MARKER.fullmatch(token))
        self.first_code_id = vocabulary["<|s_0|>"]
        self.code_count = _contiguous_codes(vocabulary)
        self.pad_id = _pad_id(vocabulary, settings)
        self.speakers: tuple[str, ...] = tuple(about.get("speakers") or ())
        self.default_speaker: str | None = about.get("default_speaker")
        self.speaker_space = bool(about.get("speaker_space", False))
        self.join: str | None = about.get("join")
        self.spell_out = bool(about.get("spell_out"))
        self.unknown_id: int | None = vocabulary.get(getattr(tokenizer.model, "unk_token", None))

    @classmethod
    def load(cls, folder: Path, metadata: Mapping[str, Any] | None = None) -> PromptFormat:
        """Read a checkpoint folder's tokenizer and chat template.

        Args:
            metadata: See `checkpoint.metadata`; None reads the folder's own.

        Raises:
            ModelError: Files are missing or broken, or the tokenizer isn't a Llasa's.
        """
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"There is no tokenizer.json in {folder}.", "Is this the folder of a Llasa checkpoint?")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{path} can't be read: {error}.", "Fetch the checkpoint again.") from error
        settings = read_json_object_if_exists(folder / "tokenizer_config.json")
        if "auto_map" in settings:
            raise ModelError(
                f"The tokenizer in {folder} asks for code of its own (auto_map), which is never run here.",
                "A plain tokenizer without it can be used.",
            )
        template_file = folder / "chat_template.jinja"
        template = (
            template_file.read_text(encoding="utf-8")
            if template_file.is_file()
            else _default_template(settings.get("chat_template"))
        )
        if not isinstance(template, str):
            raise ModelError(
                f"There is no chat template in {folder}.", "It stands in chat_template.jinja or tokenizer_config.json."
            )
        return cls(tokenizer, template, settings, read_metadata(folder) if metadata is None else metadata)

    # --- text ---

    @cached_property
    def _plain(self) -> Any:
        """The same tokenizer without its added tokens: what it makes of a text is text."""
        from tokenizers import Tokenizer

        # The model is shared, not copied: reading a published vocabulary a second time took a second.
        plain = Tokenizer(self._tokenizer.model)
        if self._tokenizer.normalizer is not None:
            plain.normalizer = self._tokenizer.normalizer
        if self._tokenizer.pre_tokenizer is not None:
            plain.pre_tokenizer = self._tokenizer.pre_tokenizer
        return plain

    def text_ids(self, text: str) -> list[int]:
        """Encode text as plain text: no control token, whatever it spells."""
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def text_of(self, ids: Sequence[int]) -> str:
        """What `text_ids` encoded, as far as the tokenizer keeps it."""
        if self._tokenizer.decoder is None:  # the library would put a space between any two tokens
            return "".join(self._tokenizer.id_to_token(token) for token in ids).strip()
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False)).strip()

    # --- prompts ---

    def prompt(self, text: str, reference: Reference | None = None, speaker: str | None = None) -> Prompt:
        """Everything before the first generated code.

        Args:
            text: What to say.
            reference: Whose voice, by a clip. It stands for itself: no speaker tag is added beside it.
            speaker: Whose voice, by a tag; None takes the checkpoint's default.

        Raises:
            UsageError: An unknown speaker, or too long for the 2,048 tokens.
        """
        whole = text.strip()
        codes: tuple[int, ...] = ()
        if reference is not None:
            heard = reference.text.strip()
            whole = heard + self._blank(heard, whole) + whole
            codes = reference.codes
            if codes and not 0 <= min(codes) <= max(codes) < self.code_count:
                raise UsageError(
                    "The reference's codes are not of this model's codec.", "Make the voice again with this model."
                )
        elif speaker is None:
            speaker = self.default_speaker
        heard_codes = [self.first_code_id + code for code in codes]
        ids = [*self._before_speech(self.text_ids(whole), speaker), *heard_codes]
        if len(ids) >= CONTEXT_TOKENS:
            raise UsageError(
                f"Text and reference take {len(ids)} tokens; model and speech together have {CONTEXT_TOKENS}.",
                "Give shorter text or a shorter reference clip.",
            )
        return Prompt(tuple(ids), len(codes), (*self._before_speech([], speaker), *heard_codes))

    def _blank(self, heard: str, text: str) -> str:
        """What stands between a reference's transcript and the text: a blank, in Japanese nothing."""
        if not heard or self.join is not None:
            return self.join or ""
        return "" if _NO_BLANK_AFTER.search(heard) and _KANA.search(heard + text) else " "

    def _before_speech(self, text_ids: Sequence[int], speaker: str | None) -> list[int]:
        """The rendered template with the text's ids in place, up to and with SPEECH_GENERATION_START."""
        before, between = self._frame(self._tag(speaker))
        return [*before, self.text_start_id, *text_ids, self.text_end_id, *between, self.start_id]

    def _tag(self, speaker: str | None) -> str:
        if speaker is None:
            return ""
        if self.speakers and speaker not in self.speakers:
            raise UsageError(f"This model knows no speaker {speaker!r}.", "It knows: " + ", ".join(self.speakers) + ".")
        tag = f"Speaker {speaker}" + (" " if self.speaker_space else "")
        if tag not in self._frames and not (speaker in self.speakers or self._is_name(speaker)):
            raise UsageError(f"{speaker!r} is no speaker's name.", "A name is a word, such as kore.")
        return tag

    def _is_name(self, name: str) -> bool:
        """Plain text, or a tag that the tokenizer has a token for; anything else would smuggle in control tokens."""
        if not name.strip():
            return False
        plain = self._tokenizer.encode(name, add_special_tokens=False).ids == self.text_ids(name)
        return plain or len(self._tokenizer.encode(f"Speaker {name}", add_special_tokens=False).ids) == 1

    def _frame(self, tag: str) -> tuple[list[int], list[int]]:
        """Ids before TEXT_UNDERSTANDING_START, and between TEXT_UNDERSTANDING_END and SPEECH_GENERATION_START."""
        if tag not in self._frames:
            slot = _SLOT.format("text")
            user = f"{INSTRUCTION}{TEXT_START}{slot}{TEXT_END}"
            final = f"{tag}{SPEECH_START}"
            rendered = self._render([{"role": "user", "content": user}, {"role": "assistant", "content": final}])
            # What `continue_final_message=True` does in transformers: nothing after the last message's own text.
            end = rendered.rfind(final.strip()) + len(final.strip())
            before, _, after = rendered[:end].partition(slot)
            first = self._tokenizer.encode(before, add_special_tokens=False).ids
            second = self._tokenizer.encode(after, add_special_tokens=False).ids
            # A template may drop a message, turn them round, or say one twice.
            if slot in after or (first[-1:], second[:1], second[-1:]) != (
                [self.text_start_id],
                [self.text_end_id],
                [self.start_id],
            ):
                raise ModelError("The checkpoint's chat template changes the message: Llasa's prompt can't be built.")
            self._frames[tag] = (first[:-1], second[1:-1])
        return self._frames[tag]

    @cached_property
    def _frames(self) -> dict[str, tuple[list[int], list[int]]]:
        return {}

    def _render(self, messages: list[dict[str, str]]) -> str:
        from jinja2.exceptions import TemplateError

        names = {
            name: _token_text(self._settings.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        }
        tokens = {name: token for name, token in names.items() if token is not None}
        # Defined and null, as transformers passes them: templates ask `tools is not none`.
        nothing = {"tools": None, "documents": None}
        try:
            template = _environment().from_string(self._template)
            return template.render(
                messages=messages, date_string=TEMPLATE_DATE, add_generation_prompt=False, **nothing, **tokens
            )
        except TemplateError as error:
            raise ModelError(f"The checkpoint's chat template fails: {error}.") from error
        except (TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            # A template is a program of the checkpoint's, with mistakes of its own.
            raise ModelError(f"The checkpoint's chat template fails: {type(error).__name__}: {error}.") from error

    def chat_pieces(self, messages: Sequence[dict[str, str]]) -> list[tuple[bool, list[int]]]:
        """A text conversation in the checkpoint's template, in pieces: whether the assistant says it, and its ids.

        Contents are plain text: what spells a control token stays text. What follows an answer begins with the token
        that ends its turn, where the template has one.

        Raises:
            ModelError: The template drops a message or turns them round.
        """
        slots = [_SLOT.format(number) for number in range(len(messages))]
        rest = self._render(
            [{"role": message["role"], "content": slot} for message, slot in zip(messages, slots, strict=True)]
        )
        pieces: list[tuple[bool, list[int]]] = []
        for message, slot in zip(messages, slots, strict=True):
            before, found, rest = rest.partition(slot)
            if not found or slot in rest or any(other in before for other in slots):
                raise ModelError("The checkpoint's chat template changes the messages: chat can't be trained with it.")
            pieces.append((False, list(self._tokenizer.encode(before, add_special_tokens=False).ids)))
            pieces.append((message["role"] == "assistant", self.text_ids(message["content"].strip())))
        pieces.append((False, list(self._tokenizer.encode(rest, add_special_tokens=False).ids)))
        return pieces

    def chat_prompt(self, messages: Sequence[dict[str, str]]) -> tuple[list[int], int]:
        """A text conversation up to where the assistant's next answer begins, and the token that ends an answer.

        Raises:
            ModelError: The template changes the messages, or ends no turn with a token.
        """
        pieces = self.chat_pieces([*messages, {"role": "assistant", "content": ""}])
        *before, _answer, (_, after) = pieces
        ids = [token for _, piece in before for token in piece]
        if not after or not self._is_marker(after[0]):
            raise ModelError(
                "The checkpoint's chat template does not end a turn with a token: it can't be chatted with."
            )
        return ids, after[0]

    def _is_marker(self, token: int) -> bool:
        return token in self._tokenizer.get_added_tokens_decoder()

    # --- training rows ---

    def encode_row(self, text: str, codes: Sequence[int]) -> list[int]:
        """A row as the published data files hold it: text, codes and END, without template and padding."""
        spoken = [self.first_code_id + code for code in codes]
        return [self.text_start_id, *self.text_ids(text), self.text_end_id, self.start_id, *spoken, self.end_id]

    def decode_row(self, row: Sequence[int]) -> tuple[list[int], list[int]]:
        """A published row (padded or not) -> text ids and codes.

        Raises:
            ValueError: One of the four markers is missing: the row was cut.
        """
        ids = list(row)
        text_end = ids.index(self.text_end_id)
        start, stop = ids.index(self.start_id), ids.index(self.end_id)
        return ids[1:text_end], [token - self.first_code_id for token in ids[start + 1 : stop]]

    def training_example(
        self, text_ids: Sequence[int], codes: Sequence[int], speaker: str | None = None
    ) -> tuple[list[int], list[int]]:
        """What the model is trained on: the prompt, the codes and END, and labels that begin with START.

        Args:
            text_ids: From `text_ids` or `decode_row`.
            codes: 0 to code_count - 1.
            speaker: Its tag; None adds none (unlike `prompt`, which takes the default).

        Returns:
            ids and labels of one length; labels are NO_LABEL before START, as in the published scripts.
        """
        prompt = self._before_speech(text_ids, speaker)
        spoken = [self.start_id, *(self.first_code_id + code for code in codes), self.end_id]
        return [*prompt[:-1], *spoken], [NO_LABEL] * (len(prompt) - 1) + spoken


def _environment() -> Any:
    """The sandbox a chat template runs in, with what transformers gives it.

    Source: transformers, `utils/chat_template_utils._cached_compile_jinja_template`.
    """
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """`{% generation %}` marks the assistant's words for training; here it is only passed through."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    class PublicNamespace(Namespace):
        """Underscored attributes are Python's own: a template from a hub may not set them."""

        def __init__(*arguments: Any, **named: Any) -> None:
            self, values = arguments[0], dict(*arguments[1:], **named)
            Namespace.__init__(self)
            for name, value in values.items():
                PublicNamespace.__setitem__(self, name, value)

        def __setitem__(self, name: str, value: Any) -> None:
            if str(name).startswith("_"):
                raise SecurityError(f"a namespace can't have {name!r}")
            super().__setitem__(name, value)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    left = MOST_TURNS

    def counted_range(*bounds: int) -> range:
        nonlocal left
        turns = range(*bounds)
        left -= len(turns)
        if left < 0:
            raise SecurityError("it takes too many turns")
        return turns

    class Environment(ImmutableSandboxedEnvironment):
        """Products of text and powers are small: a template from a hub may not fill the memory."""

        intercepted_binops = frozenset(["*", "**"])

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            small = all(isinstance(side, int | float) and abs(side) < MOST_TURNS for side in (left, right))
            if not small or (operator == "**" and right > 64):
                raise SecurityError(f"{operator} is for small numbers")
            return super().call_binop(context, operator, left, right)

    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
    # A fixed date: the Llama-3 template writes today's into the prompt, and a seed gave other audio tomorrow.
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda _: TEMPLATE_DATE,
        "namespace": PublicNamespace,
        "range": counted_range,
    }
    # Jinja's own escapes HTML.
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return environment


def _default_template(stored: Any) -> Any:
    """tokenizer_config.json holds one template, or several of which one is called `default`."""
    if isinstance(stored, list):
        named = {entry.get("name"): entry.get("template") for entry in stored if isinstance(entry, dict)}
        return named.get("default")
    return stored


def _contiguous_codes(vocabulary: dict[str, int]) -> int:
    """How many `<|s_n|>` follow each other; decoding is arithmetic on ids, so a gap would be wrong sound."""
    numbered = ((token[4:-2], index) for token, index in vocabulary.items() if token.startswith("<|s_"))
    codes = {int(number): index for number, index in numbered if number.isdecimal()}
    first = codes[0]
    if any(codes.get(n) != first + n for n in range(len(codes))):
        raise ModelError("This checkpoint's speech tokens are not numbered in one piece.", "It can't be spoken with.")
    return len(codes)


def _pad_id(vocabulary: dict[str, int], settings: dict[str, Any]) -> int:
    """A token of its own where there is one: the published scripts pad with end-of-turn and so mask the real ones."""
    for token in ("<|pad|>", "<|finetune_right_pad_id|>", _token_text(settings.get("pad_token")), "<|end_of_text|>"):
        if token is not None and token in vocabulary:
            return vocabulary[token]
    return 0


def _token_text(token: Any) -> str | None:
    """tokenizer_config.json holds a token as a string or as {"content": ...}."""
    return token.get("content") if isinstance(token, dict) else token
