"""Recordings as training rows that are encoded while the model trains: nothing is prepared, nothing is written.

    rows = OnlineDataset.read(sources, prompt_format, codec, context)
    train, held_out = rows.split(0.005, seed=0)

This suits data that is read once or that changes: each epoch encodes each clip again, while `llasa prepare` does it once.
The codec is frozen; no gradient flows through it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llasa_cli.codec.codec import Codec
from llasa_cli.errors import AudioError, UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.training.dataset import example, rows_to_hold_out
from llasa_cli.training.recordings import read_header, read_samples
from llasa_cli.training.row_check import check_text_length
from llasa_cli.training.rows import NO_AUDIO, Columns, Problem, Row, Unusable
from llasa_cli.training.sources import read_rows
from llasa_cli.training.texts import encode_text


@dataclass(frozen=True)
class Clip:
    """One recording.

    Attributes:
        codes: Their number by the file's header; after resampling it may be one more or less.
    """

    audio: Any
    text_ids: tuple[int, ...]
    speaker: str | None
    codes: int


class OnlineDataset:
    """See `dataset.TrainingRows`.

    Attributes:
        skipped: Reason -> how many recordings are left out for it.
        on_note: Called with a sentence if a clip can't be read when its turn comes; the next one is read in its place.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        prompt_format: PromptFormat,
        codec: Codec,
        context: int,
        skipped: Counter[str] | None = None,
    ) -> None:
        self._clips, self._prompt_format, self._codec, self._context = list(clips), prompt_format, codec, context
        self.on_note: Callable[[str], None] = lambda line: None
        self.skipped: Counter[str] = skipped if skipped is not None else Counter()
        self.codes = np.array([clip.codes for clip in clips], np.int64)
        self.speakers = [clip.speaker for clip in clips]
        text = [len(clip.text_ids) + prompt_format.template_length(clip.speaker) for clip in clips]
        self.lengths = np.array(text, np.int64) + self.codes

    @classmethod
    def read(
        cls,
        sources: Sequence[Path],
        prompt_format: PromptFormat,
        codec: Codec,
        context: int,
        speakers: Sequence[str] = (),
    ) -> OnlineDataset:
        """Every usable recording of some folders or tables, judged by its header, as `llasa prepare` reads them.

        Args:
            speakers: Only recordings of these; all if empty.

        Raises:
            UsageError: A source is missing, or no recording can be used, with the reasons.
        """
        skipped: Counter[str] = Counter()
        clips = []
        for source in sources:
            for row in read_rows(source):
                try:
                    if isinstance(row, Problem):
                        raise Unusable(row.reason)
                    clip = _check(row, prompt_format)
                except Unusable as why:
                    skipped[str(why)] += 1
                    continue
                if not speakers or clip.speaker in speakers:
                    clips.append(clip)
        rows = cls(clips, prompt_format, codec, context)
        fits = rows.lengths < context  # resampling may add one code
        skipped["too long"] += int((~fits).sum())
        kept = [clip for clip, fit in zip(clips, fits, strict=True) if fit]
        if not kept:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in skipped.most_common(3) if count)
            raise UsageError(
                f"No recording could be used: {reasons or 'there are none'}.", "`llasa prepare --dry-run` lists them."
            )
        return cls(kept, prompt_format, codec, context, +skipped)

    def split(self, validation: float, seed: int) -> tuple[OnlineDataset, OnlineDataset | None]:
        """Rows to train on and to evaluate on: a share (below 1) or a number is held out, never all."""
        count = len(self._clips)
        wanted = rows_to_hold_out(validation, count) if 0 < validation < 1 else int(validation)
        wanted = min(wanted, count - 1)
        if wanted == 0:
            return self, None
        held_out = set(np.random.default_rng(seed).permutation(count)[:wanted].tolist())

        def part(is_in: Callable[[int], bool]) -> OnlineDataset:
            clips = [clip for number, clip in enumerate(self._clips) if is_in(number)]
            return OnlineDataset(clips, self._prompt_format, self._codec, self._context, self.skipped)

        return part(lambda number: number not in held_out), part(lambda number: number in held_out)

    def __len__(self) -> int:
        return len(self._clips)

    def decode(self, index: int) -> tuple[list[int], list[int]]:
        """Text ids and codes of a row, which is encoded here.

        Raises:
            AudioError: No clip can be read any more.
        """
        count = len(self._clips)
        for other in range(index, index + count):
            clip = self._clips[other % count]
            try:
                samples = read_samples(clip.audio, Columns())
            except Unusable as why:
                self.on_note(f"{clip.audio} is left out: {why}.")
                continue
            self._clips[index], self.speakers[index] = clip, clip.speaker  # so that it is reported once
            return list(clip.text_ids), self._codec.encode(samples)
        raise AudioError("None of the recordings can be read any more.", "Check the folder, then resume the run.")

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        text, codes = self.decode(index)
        return example(self._prompt_format, text, codes, self.speakers[index])


def _check(row: Row, prompt_format: PromptFormat) -> Clip:
    """
    Raises:
        Unusable: The row has no audio that can be used.
    """
    audio = row.audio
    if audio is None:
        raise Unusable(NO_AUDIO)
    codes, ids = read_header(audio, Columns()).codes, encode_text(prompt_format, row.text)
    check_text_length(row.text, len(ids), codes, lambda: read_samples(audio, Columns()))
    return Clip(audio, tuple(ids), row.speaker, codes)
