"""Checks of a row before anything is encoded: its audio opens, its text fits the audio, and both fit into the context."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from llasa_cli.audio.vad import VoiceActivity
from llasa_cli.codec.fbank import SAMPLING_RATE_HZ
from llasa_cli.errors import UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CODES_PER_SECOND, CONTEXT_TOKENS
from llasa_cli.training.code_cache import clip_key
from llasa_cli.training.options import PrepareOptions
from llasa_cli.training.recordings import read_codes, read_header, read_samples
from llasa_cli.training.row_database import CheckedRow
from llasa_cli.training.rows import NO_AUDIO, Columns, Entry, Problem, Row, Unusable
from llasa_cli.training.texts import encode_text
from llasa_cli.voices.reference import fits_duration

MARKERS = 4
"""Tokens of a row beside text and codes: TEXT_UNDERSTANDING_START and END, SPEECH_GENERATION_START and END."""
TEXT_TOO_LONG = "text too long for its audio"
TEXT_TOO_SHORT = "text too short for its audio"
_SHORT_WORD_S = 1.0
"""The rule of letters a second holds for sentences; a word like "I" may take this much longer."""
_UNSEEN_SILENCE_S = 5.0
"""Silence that codes may hold: it can't be told from speech without decoding them."""


def check_text_length(text: str, tokens: int, codes: int, read_clip: Callable[[], np.ndarray] | None = None) -> None:
    """Compare a transcript with the length of its speech, as `clone` does for clips, within the limits for rows.

    Args:
        tokens: The number of tokens of the text.
        codes: Length of the audio, 50 a second, silence included.
        read_clip: Reads the samples at 16 kHz, to measure the speech where the text seems too short; None where there is
            no audio.

    Raises:
        Unusable: The text is far too long or too short.
    """
    seconds = codes / CODES_PER_SECOND
    if tokens > codes or not fits_duration(text, seconds, silence_s=seconds):
        raise Unusable(TEXT_TOO_LONG)
    if read_clip is None:
        if not fits_duration(text, seconds, _UNSEEN_SILENCE_S):
            raise Unusable(TEXT_TOO_SHORT)
    elif not fits_duration(text, seconds, _SHORT_WORD_S):
        speech_s = VoiceActivity.of(read_clip(), SAMPLING_RATE_HZ).span_s
        if not fits_duration(text, max(speech_s, seconds / 1000), min(speech_s, _SHORT_WORD_S)):
            raise Unusable(TEXT_TOO_SHORT)


def columns_of(options: PrepareOptions) -> Columns:
    return Columns(options.text_column, options.audio_column, options.speaker_column)


class RowChecker:
    """Turns entries into rows that can be used, or into problems.

    Several threads call it, because most of the work is waiting for a disk.
    """

    def __init__(self, options: PrepareOptions, prompt_format: PromptFormat) -> None:
        self._options, self._prompt_format = options, prompt_format
        self._columns = columns_of(options)

    def check(self, numbered: tuple[int, Entry]) -> tuple[int, Entry, CheckedRow | Problem]:
        """Number and entry -> both again, with the result."""
        number, entry = numbered
        row = entry.read()
        if isinstance(row, Problem):
            return number, entry, row
        try:
            return number, entry, self._checked(number, row)
        except Unusable as why:
            return number, entry, Problem(row.where, str(why))

    def _checked(self, number: int, row: Row) -> CheckedRow:
        speaker = self._options.speaker if row.speaker is None else row.speaker
        stored_codes, key, count = self._codes(row)
        ids = encode_text(self._prompt_format, row.text)
        self.check_context(speaker, len(ids), count)
        audio = row.audio if row.codes is None else None
        read_clip = None if audio is None else lambda: read_samples(audio, self._columns)
        check_text_length(row.text, len(ids), count, read_clip)
        return CheckedRow(
            number=number,
            where=row.where,
            audio=row.audio,
            codes_file=row.codes if isinstance(row.codes, Path) else None,
            stored_codes=stored_codes,
            text=row.text,
            text_ids=np.array(ids, np.int32).tobytes(),
            speaker=speaker,
            split=row.split,
            key=key,
            count=count,
        )

    def _codes(self, row: Row) -> tuple[bytes | None, str, int]:
        """Codes that the table itself holds, a key, and the number of codes that there are or will be."""
        if row.codes is not None:
            codes = read_codes(row.codes, self._prompt_format.code_count)
            if isinstance(row.codes, Path):
                return None, clip_key(row.codes), len(codes)
            return codes.tobytes(), hashlib.sha256(codes.tobytes()).hexdigest()[:16], len(codes)
        if row.audio is None:
            raise Unusable(NO_AUDIO)
        header = read_header(row.audio, self._columns)
        return None, header.key, header.codes

    def check_context(self, speaker: str | None, text_tokens: int, codes: int) -> None:
        """
        Raises:
            Unusable: With the chat template the row exceeds the context, or without it the width of the file.
        """
        try:
            template = self._prompt_format.template_length(speaker)
        except UsageError as error:
            raise Unusable(error.message) from error
        width = self._options.max_tokens
        if template + text_tokens + codes > CONTEXT_TOKENS or MARKERS + text_tokens + codes > width:
            raise Unusable(f"too long: over {width} tokens")
