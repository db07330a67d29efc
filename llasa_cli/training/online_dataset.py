"""Recordings as rows to learn from, encoded while the model trains: nothing is prepared, nothing is written.

    rows = AudioRows.read(sources, prompt_format, codec)
    train, held_out = rows.split(0.005, seed=0)

For sets that are read once, or that change: each pass encodes each clip again, where `llasa prepare` does it once. The codec
is frozen; it takes part in no gradient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llasa_cli.codec.codec import SHORTEST_CLIP, Codec
from llasa_cli.codec.fbank import HOP, SAMPLING_RATE_HZ
from llasa_cli.errors import AudioError, UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.training.dataset import rows_to_hold_out
from llasa_cli.training.row_check import CROWDED, SHORT, Unusable
from llasa_cli.training.row_check import read as read_sound
from llasa_cli.training.sources import Columns
from llasa_cli.training.texts import text_ids


@dataclass(frozen=True)
class Clip:
    """One recording. `codes` is reckoned from its header: after resampling it may be one more or less."""

    audio: Any
    text_ids: tuple[int, ...]
    speaker: str | None
    codes: int


class AudioRows:
    """Attributes:
    cut: Reason -> how many recordings are left out for it.
    codes, lengths: int64 [N], as `data.SpeechDataset` has them, from the files' headers.
    tell: Is told of a clip that can't be used when its turn comes; the next one that can is read in its place.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        prompt_format: PromptFormat,
        codec: Codec,
        context: int,
        cut: Counter[str] | None = None,
    ) -> None:
        self._clips, self._prompt_format, self._codec, self._context = list(clips), prompt_format, codec, context
        self.tell: Callable[[str], None] = lambda line: None
        self.cut: Counter[str] = cut if cut is not None else Counter()
        self.codes = np.array([clip.codes for clip in clips], np.int64)
        self.speakers = [clip.speaker for clip in clips]
        frames = {name: len(prompt_format.training_example([], [], name)[0]) for name in set(self.speakers)}
        text = [len(clip.text_ids) + frames[clip.speaker] for clip in clips]
        self.lengths = np.array(text, np.int64) + self.codes

    @classmethod
    def read(
        cls, sources: Sequence[Path], prompt_format: PromptFormat, codec: Codec, context: int, only: Sequence[str] = ()
    ) -> AudioRows:
        """Every usable recording of some folders or tables, as `llasa prepare` reads them; judged by its header.

        Raises:
            UsageError: A source that is not there, or nothing usable, with the reasons.
        """
        from llasa_cli.training.sources import Problem, read_rows

        cut: Counter[str] = Counter()
        clips = []
        for source in sources:
            for row in read_rows(source):
                if isinstance(row, Problem):
                    cut[row.reason] += 1
                    continue
                clip = _clip(row, prompt_format, cut)
                if clip is not None and (not only or clip.speaker in only):
                    clips.append(clip)
        rows = cls(clips, prompt_format, codec, context)
        fits = rows.lengths < context  # one code of room for what resampling adds
        cut["too long"] += int((~fits).sum())
        kept = [clip for clip, fit in zip(clips, fits, strict=True) if fit]
        if not kept:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in cut.most_common(3) if count)
            raise UsageError(f"No recording could be used: {reasons or 'there are none'}.")
        return cls(kept, prompt_format, codec, context, +cut)

    def split(self, validation: float, seed: int) -> tuple[AudioRows, AudioRows | None]:
        """To train and to judge on: a share (below 1) or a number kept back, never all."""
        count = len(self._clips)
        wanted = int(validation)
        if 0 < validation < 1:
            wanted = rows_to_hold_out(validation, count)
        wanted = min(wanted, count - 1)
        if wanted == 0:
            return self, None
        kept = set(np.random.default_rng(seed).permutation(count)[:wanted].tolist())

        def part(wants: Callable[[int], bool]) -> AudioRows:
            clips = [clip for number, clip in enumerate(self._clips) if wants(number)]
            return AudioRows(clips, self._prompt_format, self._codec, self._context, self.cut)

        return part(lambda number: number not in kept), part(lambda number: number in kept)

    def __len__(self) -> int:
        return len(self._clips)

    def parts(self, index: int) -> tuple[list[int], list[int]]:
        """Text ids and codes of a row: here it is encoded.

        Raises:
            AudioError: No clip can be read any more.
        """
        count = len(self._clips)
        for other in range(index, index + count):
            clip = self._clips[other % count]
            try:
                samples = read_sound(clip.audio, Columns())
            except Unusable as why:
                self.tell(f"{clip.audio} is left out: {why}.")
                continue
            self._clips[index], self.speakers[index] = clip, clip.speaker  # so that it is told once
            return list(clip.text_ids), self._codec.encode(samples)
        raise AudioError("None of the recordings can be read any more.")

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        text, codes = self.parts(index)
        return self.wrap(text, codes, self.speakers[index])

    def wrap(self, text: Sequence[int], codes: Sequence[int], speaker: str | None) -> dict[str, np.ndarray]:
        """The model's input and labels for any text and codes."""
        ids, labels = self._prompt_format.training_example(text, codes, speaker)
        return {"input_ids": np.array(ids, np.int64), "labels": np.array(labels, np.int64)}


def _clip(row: Any, prompt_format: PromptFormat, cut: Counter[str]) -> Clip | None:
    import soundfile

    try:
        about = soundfile.info(str(row.audio))
    except (OSError, RuntimeError):  # soundfile's errors are RuntimeErrors
        cut["audio can't be read"] += 1
        return None
    samples = about.frames * SAMPLING_RATE_HZ // about.samplerate
    try:
        if samples < SHORTEST_CLIP:
            raise Unusable(SHORT)
        ids = text_ids(prompt_format, row.text)
        if len(ids) > samples // HOP:
            raise Unusable(CROWDED)
    except Unusable as why:
        cut[str(why)] += 1
        return None
    return Clip(row.audio, tuple(ids), row.speaker, samples // HOP)
