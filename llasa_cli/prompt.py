"""Text in, token ids out: the prompts of Llasa's two tasks, speaking and cloning, and the rows that it is trained on.

The checkpoint's own tokenizer and chat template define the ids; none is written here. Text from a user is encoded by a second
tokenizer that has no added tokens, so that no text can become a control token.

    text "hello"  ->  <template> Convert the text to speech:<|TEXT_UNDERSTANDING_START|> h e l l o <|TEXT_UNDERSTANDING_END|>
                      <template> [Speaker x] <|SPEECH_GENERATION_START|> [codes of the reference]
                      and the model continues with speech codes, 50 per second, up to <|SPEECH_GENERATION_END|>

Source of the formats: zhenye234/LLaSA_training (rows, labels, prompts for speaking and cloning) and the model cards.

NeuTTS, another family with codes of the same kind, has a prompt of its own: see `NeuTTSPromptFormat`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llasa_cli.chat_template import ChatTemplate, read_chat_template, token_text
from llasa_cli.checkpoint.gguf_file import GgufFile, is_gguf, read_gguf
from llasa_cli.checkpoint.gguf_tokenizer import LLAMA_SPLITS, PRONUNCIATIONS_KEY, tokenizer_json, tokenizer_settings
from llasa_cli.checkpoint.indexed_tokenizer import IndexedTokenizer, load_tokenizer, without_added_tokens
from llasa_cli.checkpoint.metadata import only_language, read_metadata
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.files import read_json_object_if_exists
from llasa_cli.prompt_tokens import LLASA, MARKERS, NEUTTS, SPEECH_END, SPEECH_START, TokenNames, token_names
from llasa_cli.settings import CODES_PER_SECOND, CONTEXT_TOKENS
from llasa_cli.text.phones import to_phones
from llasa_cli.text.pronunciations import PRONUNCIATIONS, Pronunciations

INSTRUCTION = "Convert the text to speech:"
NO_LABEL = -100
"""The label that transformers and torch leave out of the loss."""

_PLACEHOLDER = "\ue000llasa-slot-{}\ue001"
"""Stands in the rendered template where ids are put. Its private-use characters can't come from a template."""

_JAPANESE_END = re.compile(
    r"[\u3000-\u312f\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff9f\U00020000-\U0003ffff][\"'”’)\]]*$"
)
"""A text that ends in Japanese writing or punctuation."""
_KANA = re.compile(r"[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
"""Letters that Japanese has and Chinese lacks. The published prompts join Chinese with a space, as English."""


@dataclass(frozen=True)
class Reference:
    """A voice, given by a clip.

    Attributes:
        text: The transcript of the clip, which shows the model where the clip's text ends.
        codes: The clip's speech codes, 50 per second.
    """

    text: str
    codes: tuple[int, ...]

    def require_words(self, whose: str = "the clip") -> Reference:
        """This reference itself.

        Raises:
            UsageError: The model can't read a word of the transcript.
        """
        if not any(character.isalnum() for character in self.text):
            raise UsageError(f"The model can't read the transcript of {whose}.", "Choose another model with -m.")
        return self


@dataclass(frozen=True)
class Prompt:
    """Attributes:
    ids: All tokens before the first generated code.
    reference_codes: The number of last ids that are codes of the reference; their audio is cut off again.
    unconditional: The same prompt without any text, which guidance moves away from.
    codes_per_second: The codec's code rate, by which `max_seconds` is measured.
    """

    ids: tuple[int, ...]
    reference_codes: int
    unconditional: tuple[int, ...] = ()
    codes_per_second: float = CODES_PER_SECOND


def parse_style(style: Iterable[str], fields: Sequence[str]) -> dict[str, str]:
    """The values of the fields of a model's prompts, in their order.

    Args:
        style: "KEY=VALUE"; the last one of a key counts. A value is made one line.
        fields: The fields that the model was trained with.

    Raises:
        UsageError: A part has no "=", or the model has no such field.
    """
    found: dict[str, str] = {}
    for part in style:
        key, sign, value = part.partition("=")
        key = key.strip().lower()
        if not sign or not key:
            raise UsageError(f"The style {part[:60]!r} is not KEY=VALUE.", "For example --style mood=calm.")
        if not fields:
            raise UsageError(
                "The prompts of this model have no style fields.",
                'A model that was trained with some names them in its llasa.json: "style": ["mood", "speed"].',
            )
        if key not in fields:
            raise UsageError(f"This model has no style field {key[:40]!r}.", f"Its fields: {', '.join(fields)}.")
        found[key] = " ".join(value.split())
    return {name: found[name] for name in fields if found.get(name)}


class PromptFormat:
    """The prompt format of one checkpoint. Build it with `PromptFormat.load`.

    Attributes:
        tokens: The names of the tokens below.
        is_watermarked: The family's own program puts a watermark into all speech.
        text_start_id, text_end_id: `<|TEXT_UNDERSTANDING_START|>`, `<|TEXT_UNDERSTANDING_END|>`.
        start_id, end_id: `<|SPEECH_GENERATION_START|>`, `<|SPEECH_GENERATION_END|>`.
        marker_ids: The ids of these and the other markers of text and speech that the tokenizer has, eight at most.
        first_code_id, code_count: Code n (0 to code_count - 1) is token `first_code_id + n`.
        codes_per_second: 50, until the loader of the codec sets the codec's rate.
        vocabulary_size: The highest id plus 1.
        pad_id: A token that never occurs inside a row.
        language: The only language that the model reads, as "en", if it is known.
        unknown_id: The token of a letter that the tokenizer lacks; None if it has them all.
        pronunciations: The checkpoint's lexicon, if it reads phones.
        speakers, default_speaker: The tags that the checkpoint was finetuned with, and the one that is used by default.

    From the checkpoint's llasa.json, under the same names:
        speaker_space: A space follows the speaker's tag, as in the published inference example (not in the training data).
        style_fields: The fields of a system turn in front of the text (`style` in llasa.json); see `parse_style`.
        spell_out: Numbers and signs must be written out as words (`text.normalize`).
        join: The separator between a reference's transcript and the text; None: a space, in Japanese nothing.
    """

    tokens: TokenNames = LLASA
    is_watermarked = False

    def __init__(self, tokenizer: Any, template: str, settings: dict[str, Any], metadata: Mapping[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._template = ChatTemplate(template, settings)
        vocabulary = _Vocabulary(tokenizer)
        missing = self.tokens.missing_from(vocabulary)
        if missing:
            raise ModelError(
                f"This checkpoint's tokenizer has no {missing[0]}: it is not a Llasa model.",
                "Pass a Llasa checkpoint, or train one from a text model with `llasa finetune`.",
            )
        self.text_start_id, self.text_end_id = vocabulary[self.tokens.text_start], vocabulary[self.tokens.text_end]
        self.start_id, self.end_id = vocabulary[SPEECH_START], vocabulary[SPEECH_END]
        self.marker_ids = tuple(vocabulary[token] for token in MARKERS if token in vocabulary)
        self.first_code_id = vocabulary[self.tokens.first_code]
        self.vocabulary_size, self.code_count = vocabulary.count(self.tokens)
        self.codes_per_second: float = CODES_PER_SECOND
        self.pad_id = _pad_id(vocabulary, settings)
        self.language = only_language(metadata)
        self.speakers: tuple[str, ...] = tuple(metadata.get("speakers") or ())
        self.default_speaker: str | None = metadata.get("default_speaker")
        self.speaker_space = bool(metadata.get("speaker_space", False))
        self.join: str | None = metadata.get("join")
        self.style_fields: tuple[str, ...] = tuple(metadata.get("style") or ())
        self.spell_out = bool(metadata.get("spell_out"))
        self.pronunciations: Pronunciations | None = None
        self.unknown_id = vocabulary.get(getattr(tokenizer.model, "unk_token", None))
        self._frames: dict[tuple[str, bool], tuple[list[int], list[int], list[int]]] = {}
        self._template_lengths: dict[str | None, int] = {}

    @classmethod
    def load(cls, folder: Path, metadata: Mapping[str, Any] | None = None) -> PromptFormat:
        """Read the tokenizer and the chat template of a checkpoint folder or a GGUF file.

        Args:
            metadata: The checkpoint's llasa.json; None reads the folder's own, if it has one.

        Raises:
            ModelError: Files are missing or damaged, or the tokenizer is not a Llasa's.
        """
        path = folder if is_gguf(folder) else folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"There is no tokenizer.json in {folder}.", "Is this the folder of a Llasa checkpoint?")
        try:
            tokenizer = load_tokenizer(path, _read_tokenizer_json)
        except ModelError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{path} can't be read: {error}.", "Download the checkpoint again.") from error
        if is_gguf(path):
            settings = tokenizer_settings(read_gguf(path))
        else:
            settings = read_json_object_if_exists(folder / "tokenizer_config.json")
        if "auto_map" in settings:
            raise ModelError(
                f"The tokenizer in {folder} needs code from its own repository (auto_map), which is never run.",
                "Use a plain tokenizer without auto_map.",
            )
        metadata = read_metadata(folder) if metadata is None else metadata
        if token_names(_Vocabulary(tokenizer)) is NEUTTS:
            return NeuTTSPromptFormat(tokenizer, settings, metadata, _neutts_settings(folder))
        found = cls(tokenizer, read_chat_template(folder, settings), settings, metadata)
        found.pronunciations = (
            gguf_pronunciations(path) if is_gguf(path) else Pronunciations.read(folder / PRONUNCIATIONS)
        )
        return found

    # --- text ---

    @cached_property
    def _text_tokenizer(self) -> Any:
        """The same tokenizer without its added tokens: it encodes every text as text."""
        return without_added_tokens(self._tokenizer)

    @property
    def _full_tokenizer(self) -> Any:
        """The library's tokenizer."""
        return self._tokenizer.full if isinstance(self._tokenizer, IndexedTokenizer) else self._tokenizer

    def text_ids(self, text: str) -> list[int]:
        """Encode text as plain text: without control tokens, whatever it spells."""
        if self.pronunciations is not None:
            return self.lexicon_ids(text)
        return list(self._text_tokenizer.encode(text, add_special_tokens=False).ids)

    def lexicon_ids(self, text: str, spell: Callable[[str], bool] = lambda word: False) -> list[int]:
        """Encode the words that the checkpoint's lexicon has by their phones, and the rest by its letters.

        Args:
            spell: Whether a word of the lexicon is encoded by its letters all the same, as some are in training.
        """
        assert self.pronunciations is not None
        tokenizer, ids = self._text_tokenizer, []
        plain = text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text)
        for piece, phones in self.pronunciations.split(plain):
            if phones is None or spell(piece):
                ids += tokenizer.encode(piece, add_special_tokens=False).ids
            else:
                ids += [tokenizer.token_to_id(f"/{phone}/") for phone in phones]
        return ids

    def decode_text(self, ids: Sequence[int]) -> str:
        """The text that `text_ids` encoded, as far as the tokenizer preserves it."""
        tokenizer = self._full_tokenizer
        if tokenizer.decoder is None:  # the library would put a space between any two tokens
            text = "".join(tokenizer.id_to_token(token) for token in ids).strip()
            return text if self.pronunciations is None else self.pronunciations.spelled(text)
        return str(tokenizer.decode(list(ids), skip_special_tokens=False)).strip()

    def _template_ids(self, text: str) -> list[int]:
        """Encode a part of the rendered template, control tokens included."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    # --- prompts ---

    def prompt(
        self,
        text: str,
        reference: Reference | None = None,
        speaker: str | None = None,
        style: Sequence[str] = (),
    ) -> Prompt:
        """Build the prompt of one utterance.

        Args:
            text: The text to speak.
            reference: A clip of the voice. With it no speaker's tag is used.
            speaker: The tag of the voice; None takes the checkpoint's default.
            style: "KEY=VALUE"; see `parse_style`. If there is any, the system turn has all fields of the model in their order.

        Raises:
            UsageError: The speaker or a field of the style is unknown, or the prompt leaves no room in the 2,048 tokens.
        """
        transcript = ""
        codes: tuple[int, ...] = ()
        if reference is not None:
            transcript, codes = reference.text.strip(), reference.codes
            if codes and not 0 <= min(codes) <= max(codes) < self.code_count:
                raise UsageError(
                    "The reference's codes are not of this model's codec.", "Make the voice again with this model."
                )
        elif speaker is None:
            speaker = self.default_speaker
        code_ids = self._code_ids(codes)
        system_ids = self._system_ids(style)
        spoken_ids = self._spoken_ids(transcript, text.strip(), style)
        ids = [*self._before_speech(spoken_ids, speaker, system_ids), *code_ids]
        if len(ids) >= CONTEXT_TOKENS:
            raise UsageError(
                f"Text and reference take {len(ids)} tokens; the model has {CONTEXT_TOKENS} for them and the speech.",
                "Give shorter text or a shorter reference clip.",
            )
        unconditional = (*self._before_speech([], speaker, system_ids), *code_ids)
        return Prompt(tuple(ids), len(codes), unconditional, self.codes_per_second)

    def _spoken_ids(self, transcript: str, text: str, style: Sequence[str]) -> list[int]:
        """The ids of a reference's transcript, which may be empty, and of the text."""
        return self.text_ids(transcript + self._separator(transcript, text) + text)

    def _separator(self, transcript: str, text: str) -> str:
        """The separator between a reference's transcript and the text: a space, or nothing in Japanese."""
        if not transcript or self.join is not None:
            return self.join or ""
        return "" if _JAPANESE_END.search(transcript) and _KANA.search(transcript + text) else " "

    def _code_ids(self, codes: Sequence[int]) -> list[int]:
        return [self.first_code_id + code for code in codes]

    def _system_ids(self, style: Sequence[str]) -> list[int]:
        """The ids of the system turn's content: "KEY: VALUE" lines of all fields; empty without a style."""
        values = parse_style(style, self.style_fields)
        if not values:
            return []
        return self.text_ids("\n".join(f"{name}: {values.get(name, '')}" for name in self.style_fields).strip())

    def _before_speech(self, text_ids: Sequence[int], speaker: str | None, system_ids: Sequence[int] = ()) -> list[int]:
        """The rendered template with the text's ids in place, up to and including SPEECH_GENERATION_START."""
        first, before, between = self._frame(self._tag(speaker), bool(system_ids))
        return [*first, *system_ids, *before, self.text_start_id, *text_ids, self.text_end_id, *between, self.start_id]

    def _tag(self, speaker: str | None) -> str:
        if speaker is None:
            return ""
        if self.speakers and speaker not in self.speakers:
            raise UsageError(
                f"This model has no speaker {speaker!r}.", "Its speakers are " + ", ".join(self.speakers) + "."
            )
        tag = f"Speaker {speaker}" + (" " if self.speaker_space else "")
        if (tag, False) not in self._frames and not (speaker in self.speakers or self._is_name(speaker)):
            raise UsageError(f"{speaker!r} can't be a speaker's name.", "Use a plain word, such as kore.")
        return tag

    def _is_name(self, name: str) -> bool:
        """Plain text, or a tag with a token of its own; anything else would smuggle in control tokens."""
        if not name.strip():
            return False
        letters = list(self._text_tokenizer.encode(name, add_special_tokens=False).ids)  # not the phones of a lexicon
        return self._template_ids(name) == letters or len(self._template_ids(f"Speaker {name}")) == 1

    def _frame(self, tag: str, has_system: bool) -> tuple[list[int], list[int], list[int]]:
        """Ids before the system turn's content, from there to TEXT_UNDERSTANDING_START, and between TEXT_UNDERSTANDING_END and
        SPEECH_GENERATION_START. Without a system turn the first part is empty.
        """
        if (tag, has_system) not in self._frames:
            system = _PLACEHOLDER.format("system")
            placeholder = _PLACEHOLDER.format("text")
            user = f"{INSTRUCTION}{self.tokens.text_start}{placeholder}{self.tokens.text_end}"
            final = f"{tag}{SPEECH_START}"
            turns = [{"role": "user", "content": user}, {"role": "assistant", "content": final}]
            rendered = self._template.render([{"role": "system", "content": system}, *turns] if has_system else turns)
            # As with `continue_final_message=True` in transformers, nothing follows the last message's own text.
            end = rendered.rfind(final.strip()) + len(final.strip())
            opening, found, before = rendered[:end].partition(system) if has_system else ("", "-", rendered[:end])
            before, _, after = before.partition(placeholder)
            first, second = self._template_ids(before), self._template_ids(after)
            if not found or system in before + after:
                raise ModelError("The checkpoint's chat template changes the system turn: it can't have a style.")
            # A template may drop a message, reverse the two, or repeat one.
            if placeholder in after or (first[-1:], second[:1], second[-1:]) != (
                [self.text_start_id],
                [self.text_end_id],
                [self.start_id],
            ):
                raise ModelError("The checkpoint's chat template changes the message: Llasa's prompt can't be built.")
            self._frames[tag, has_system] = (self._template_ids(opening) if opening else [], first[:-1], second[1:-1])
        return self._frames[tag, has_system]

    # --- text conversations ---

    def chat_pieces(self, messages: Sequence[dict[str, str]]) -> list[tuple[bool, list[int]]]:
        """A text conversation in the checkpoint's template, in pieces: whether the assistant wrote it, and its ids.

        Contents are plain text; a control token that they spell stays text. The piece after an answer begins with the token
        that ends its turn, if the template has one.

        Raises:
            ModelError: The template drops or reorders messages.
        """
        placeholders = [_PLACEHOLDER.format(number) for number in range(len(messages))]
        rest = self._template.render(
            [
                {"role": message["role"], "content": placeholder}
                for message, placeholder in zip(messages, placeholders, strict=True)
            ]
        )
        pieces: list[tuple[bool, list[int]]] = []
        for message, placeholder in zip(messages, placeholders, strict=True):
            before, found, rest = rest.partition(placeholder)
            if not found or placeholder in rest or any(other in before for other in placeholders):
                raise ModelError("The checkpoint's chat template changes the messages: chat can't be trained with it.")
            pieces.append((False, self._template_ids(before)))
            pieces.append((message["role"] == "assistant", self.text_ids(message["content"].strip())))
        pieces.append((False, self._template_ids(rest)))
        return pieces

    def chat_prompt(self, messages: Sequence[dict[str, str]]) -> tuple[list[int], int]:
        """The ids of a text conversation up to the assistant's next answer, and the token that ends an answer.

        Raises:
            ModelError: The template changes the messages, or has no token that ends a turn.
        """
        pieces = self.chat_pieces([*messages, {"role": "assistant", "content": ""}])
        *before, _answer, (_, after) = pieces
        ids = [token for _, piece in before for token in piece]
        if not after or after[0] not in self._full_tokenizer.get_added_tokens_decoder():
            raise ModelError("The checkpoint's chat template has no token that ends a turn: it can't be used for chat.")
        return ids, after[0]

    # --- training rows ---

    def encode_row(self, text: str, codes: Sequence[int]) -> list[int]:
        """A row as the published data files hold it: text, codes and END, without template and padding."""
        speech = [self.start_id, *self._code_ids(codes), self.end_id]
        return [self.text_start_id, *self.text_ids(text), self.text_end_id, *speech]

    def decode_row(self, row: Sequence[int]) -> tuple[list[int], list[int]]:
        """A published row, padded or not -> text ids and codes.

        Raises:
            ValueError: A marker is missing: the row was cut.
        """
        ids = list(row)
        text_end = ids.index(self.text_end_id)
        start, end = ids.index(self.start_id), ids.index(self.end_id)
        return ids[1:text_end], [token - self.first_code_id for token in ids[start + 1 : end]]

    def template_length(self, speaker: str | None) -> int:
        """Tokens of a training example without text and codes."""
        if speaker not in self._template_lengths:
            self._template_lengths[speaker] = len(self.training_example([], [], speaker)[0])
        return self._template_lengths[speaker]

    def training_example(
        self, text_ids: Sequence[int], codes: Sequence[int], speaker: str | None = None
    ) -> tuple[list[int], list[int]]:
        """The prompt, the codes and END, with labels from START on.

        Args:
            text_ids: The result of `text_ids` or `decode_row`.
            codes: 0 to code_count - 1.
            speaker: The speaker's tag; None adds none (unlike `prompt`, which then takes the default).

        Returns:
            ids and labels of one length; labels before START are NO_LABEL, as in the published scripts.
        """
        prompt = self._before_speech(text_ids, speaker)
        speech = [self.start_id, *self._code_ids(codes), self.end_id]
        return [*prompt[:-1], *speech], [NO_LABEL] * (len(prompt) - 1) + speech


class NeuTTSPromptFormat(PromptFormat):
    """The prompt of NeuTTS (Neuphonic), which has no chat template, no speakers' tags and always a space after a transcript.

        <|TEXT_PROMPT_START|> and <|TEXT_PROMPT_END|> stand around phones in "user: Convert the text to speech:...\\nassistant:"
        (Air, Nano), or around plain text without anything before it (2E), in which a token of an emotion may stand.

    Without a reference, which its package requires, the prompt begins with the text's first phone or word.

    Source: neutts 1.4.1, `NeuTTS._apply_chat_template` and `_ggml_prompt`.

    Attributes:
        reads_phones: Whether text is given as phones of espeak-ng.
        emotions: The emotions that the model was trained with; empty if it reads phones.
    """

    tokens = NEUTTS
    is_watermarked = True

    def __init__(
        self, tokenizer: Any, settings: dict[str, Any], metadata: Mapping[str, Any], neutts: Mapping[str, Any]
    ) -> None:
        super().__init__(tokenizer, "", settings, metadata)
        self.language = self.language or only_language(neutts)
        self.reads_phones = neutts.get("input_format", "phonemes") == "phonemes"
        emotions = [] if self.reads_phones else neutts.get("supported_emotions") or NEUTTS_EMOTIONS
        vocabulary = _Vocabulary(tokenizer)
        named = {str(name).lower(): f"<|{str(name).upper()}|>" for name in emotions}
        self.emotions = {name: vocabulary[token] for name, token in named.items() if token in vocabulary}
        self._begin_id = vocabulary.get(str(neutts.get("begin")))

    def text_ids(self, text: str) -> list[int]:
        """Encode the phones of a text, or the text with plain quotation marks and in Unicode's form NFKC.

        Raises:
            ModelError: The package that makes phones is not installed, or the language is not known.
        """
        return super().text_ids(self._phones(text) if self.reads_phones else _plain(text))

    def _phones(self, text: str) -> str:
        if self.language is None:
            raise ModelError(
                "This model reads phones, and nothing says of which language.",
                'Put a llasa.json into its folder: {"language": "en"}.',
            )
        return to_phones(text, self.language)

    def _spoken_ids(self, transcript: str, text: str, style: Sequence[str]) -> list[int]:
        emotion = parse_style(style, self.style_fields).get("emotion", "neutral").lower()
        if emotion != "neutral" and emotion not in self.emotions:
            known = ", ".join(["neutral", *self.emotions])
            raise UsageError(f"This model has no emotion {emotion[:40]!r}.", f"Its emotions: {known}.")
        if emotion != "neutral":
            before = self.text_ids(transcript) if transcript else []
            return [*before, self.emotions[emotion], *self.text_ids(text)]
        if self.reads_phones:  # each by itself: phones depend on the words beside them
            return super().text_ids(" ".join(filter(None, map(self._phones, (transcript, text)))))
        return self.text_ids(f"{transcript} {text}".strip())

    def _system_ids(self, style: Sequence[str]) -> list[int]:
        return []

    def _tag(self, speaker: str | None) -> str:
        if speaker is not None:
            raise UsageError(
                f"NeuTTS has no speakers' tags, so it can't speak as {speaker!r}.",
                "Use a saved voice that was made with its codec.",
            )
        return ""

    def _frame(self, tag: str, has_system: bool) -> tuple[list[int], list[int], list[int]]:
        if (tag, False) not in self._frames:
            names = self.tokens
            before, after = (f"user: {INSTRUCTION}", "\nassistant:") if self.reads_phones else ("", "")
            prompt = f"{before}{names.text_start}{names.text_end}{after}{SPEECH_START}"
            # With the tokens that the tokenizer itself puts in front of a text.
            ids = list(self._tokenizer.encode(prompt, add_special_tokens=True).ids)
            begin = [] if self._begin_id is None else [self._begin_id]
            text_end, speech = ids.index(self.text_end_id), ids.index(self.start_id)
            self._frames[tag, False] = ([], [*begin, *ids[: text_end - 1]], ids[text_end + 1 : speech])
        return self._frames[tag, False]


NEUTTS_EMOTIONS = ("angry", "disgusted", "fearful", "happy", "sad", "surprised")
"""The emotions of NeuTTS-2E besides neutral, which has no token."""
_QUOTES = str.maketrans("‘’“”", "''\"\"")


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text.translate(_QUOTES))


def _neutts_settings(path: Path) -> dict[str, Any]:
    """The settings of a NeuTTS's prompt in a folder or a GGUF file: `input_format` and `supported_emotions`."""
    if is_gguf(path):
        return gguf_neutts_settings(read_gguf(path))
    found = read_json_object_if_exists(path / "config.json").get("neuphonic")
    return found if isinstance(found, dict) else {}


def gguf_neutts_settings(file: GgufFile) -> dict[str, Any]:
    """The same from a GGUF file's metadata, with `language` and the token that begins a prompt (`begin`), as llama.cpp has it."""
    metadata, special = file.metadata, tokenizer_settings(file)
    template = str(special.get("chat_template"))
    is_text = NEUTTS.text_start in template and INSTRUCTION.rstrip(":") not in template
    begins = metadata.get("tokenizer.ggml.add_bos_token", metadata.get("tokenizer.ggml.pre") in LLAMA_SPLITS)
    return {
        "input_format": metadata.get("neuphonic.input_format") or ("BPE" if is_text else "phonemes"),
        "supported_emotions": metadata.get("neuphonic.supported_emotions"),
        "language": metadata.get("general.languages"),
        "begin": special.get("bos_token") if begins else None,
    }


def gguf_pronunciations(path: Path) -> Pronunciations | None:
    """The lexicon in a GGUF file."""
    content = read_gguf(path).metadata.get(PRONUNCIATIONS_KEY)
    return Pronunciations(content.encode()) if isinstance(content, str) else None


def _read_tokenizer_json(path: Path) -> str:
    """The content of a tokenizer.json, or of one made of a GGUF file's metadata."""
    return tokenizer_json(read_gguf(path)) if is_gguf(path) else path.read_text(encoding="utf-8")


class _Vocabulary:
    """The ids of a tokenizer's tokens, without a copy of its vocabulary, which takes a fifth of a second."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def get(self, token: object) -> int | None:
        found: int | None = self._tokenizer.token_to_id(token) if isinstance(token, str) else None
        return found

    def __contains__(self, token: object) -> bool:
        return self.get(token) is not None

    def __getitem__(self, token: str) -> int:
        found = self.get(token)
        if found is None:
            raise KeyError(token)
        return found

    def count(self, names: TokenNames) -> tuple[int, int]:
        """The highest id plus 1, and how many codes there are. They must be contiguous, because decoding is arithmetic on ids."""
        if isinstance(self._tokenizer, IndexedTokenizer):
            return self._tokenizer.vocabulary_size, self._tokenizer.code_count
        prefix = names.code_prefix
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        tokens = list(map(self._tokenizer.id_to_token, range(size)))
        if None in tokens:  # ids are left out, so others are higher than the number of tokens
            vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
            tokens, size = list(vocabulary), max(vocabulary.values()) + 1
        codes = sum(token.startswith(prefix) and token[len(prefix) : -2].isdecimal() for token in tokens)
        first = self[names.first_code]
        if any(self.get(f"{prefix}{code}|>") != first + code for code in range(codes)):
            raise ModelError(
                "This checkpoint's speech tokens are not numbered contiguously, so it can't be used.",
                "Download its tokenizer again, or choose another checkpoint.",
            )
        return size, codes


def _pad_id(vocabulary: _Vocabulary, settings: dict[str, Any]) -> int:
    """A token of its own if there is one: the published scripts pad with end-of-turn, and so mask the real ones too."""
    for token in ("<|pad|>", "<|finetune_right_pad_id|>", token_text(settings.get("pad_token")), "<|end_of_text|>"):
        if token is not None and token in vocabulary:
            return vocabulary[token]
    return 0
