"""Is a clip a voice to clone? Answered before any big model is loaded.

    sound = check_sound(samples, 16_000)                trimmed, level mended; refused if it would not give a voice
    clip = check_transcript(sound, "what is said")      the same sound, or sound and words cut at one sentence end
    clip = check_transcript(cut_at_pause(sound), heard) where the words come from a recogniser

Sound and words are cut together or not at all: a transcript with words the clip lacks makes the model skip as many.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from llasa_cli.audio.vad import FRAME_S, VoiceActivity, room_for
from llasa_cli.errors import AudioError, UsageError
from llasa_cli.text.unicode import CJK_START

if TYPE_CHECKING:
    import numpy as np

SHORTEST_S, LONGEST_S = 1.0, 15.0
"""Of speech. The published demos cut at 15 s; the context has room for 40 s of reference and speech together."""
LONGEST_FILE_S = 120.0
"""What is read of a file at all: in a longer one the place of a sentence is a guess."""
LOWEST_RATE_HZ = 8_000
"""A telephone's. Half of it is the highest frequency there is, and consonants are told apart above 2 kHz."""
_EDGE_S = 0.1
_LEAST_SOUND_S = 0.5
"""Within the span of the speech: clicks a second apart are not speech."""
_SILENT = 1e-3
_FAINT, _SANE, _PEAK = 0.01, 0.05, 0.95
"""Levels (root mean square) of the speech: -40 dB is raised to -26 dB, no peak beyond 0.95. Speech at arm's length of a
microphone is recorded at -20 to -30 dB; models are trained on that."""
_CLIPPED_SHARE = 1e-3
_OFFSET, _OFFSET_SHARE = 0.005, 0.05
"""A recorder's constant offset of more than -46 dB, or of a twentieth of the speech, is taken out: it would be cloned, grows
with a clip that is raised, and clicks where speech begins."""
_LONG_PAUSE_S = 1.5
_FASTEST_A_S, _SLOWEST_A_S = 35.0, 3.0
"""Letters a second; people speak 9 to 20. A digit is four, an East Asian character three."""

_BREATH_S = 0.2
"""The shortest stillness at which a clip is cut where its words are heard afterwards."""
_SENTENCE_PAUSE_S = 0.15
_PAUSE_RATIO = 1.5
_MISFIT_S, _MISFIT_SHARE = 0.8, 0.06
"""How far a sentence's end may lie from where its letters put it: see `_certain_cut`."""


@dataclass(frozen=True)
class Clip:
    """A usable clip.

    Attributes:
        samples: float32 [n], mono, without the silence around the speech.
        warnings: What the user should know.
        transcript: What is said in it; empty while nobody knows. Shorter than what was given where both were cut.
        sampling_rate: Hz.
    """

    samples: np.ndarray
    warnings: tuple[str, ...]
    transcript: str = ""
    sampling_rate: int = 16_000

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sampling_rate

    @cached_property
    def _speech(self) -> VoiceActivity:
        return VoiceActivity.of(self.samples, self.sampling_rate)

    @property
    def speech_s(self) -> float:
        """From the first sound to the last."""
        return self._speech.seconds

    def pauses(self, shortest_s: float) -> list[tuple[float, float]]:
        """Begin and end, in seconds, of each stillness within the speech."""
        return [(begin, end) for begin, end in self._speech.pauses if end - begin >= shortest_s]

    def cut(self, end_s: float, transcript: str, warning: str) -> Clip:
        """Everything up to `end_s`, with the words that are said until then."""
        kept = self.samples[: round(end_s * self.sampling_rate)]
        return replace(self, samples=kept, transcript=transcript, warnings=(*self.warnings, warning))


def check_reference(
    samples: np.ndarray, sampling_rate: int, transcript: str, split: Callable[[str], Sequence[str]] | None = None
) -> Clip:
    """`check_sound` and `check_transcript` in one."""
    return check_transcript(check_sound(samples, sampling_rate), transcript, split)


def check_rate(file_rate: int) -> tuple[str, ...]:
    """Whether a file's own rate leaves a voice in it; -> warnings.

    Raises:
        AudioError: Below 8 kHz.
    """
    if file_rate < LOWEST_RATE_HZ:
        raise AudioError(
            f"The reference clip is sampled at {file_rate} Hz: its consonants are gone.",
            f"Record it at 16000 Hz or more; {LOWEST_RATE_HZ} is the least.",
        )
    if file_rate < 16_000:
        return (f"the reference clip is sampled at {file_rate} Hz: the voice will sound as if through a telephone",)
    return ()


def check_sound(samples: np.ndarray, sampling_rate: int) -> Clip:
    """Trim the silence around the speech and mend its level; nothing is cut out of the speech itself.

    Raises:
        AudioError: Silent, or less than a second of speech.
    """
    import numpy as np

    length_s = len(samples) / sampling_rate
    if length_s < SHORTEST_S:
        raise AudioError(f"The reference clip is {length_s:.1f} s long.", "Give 3 to 10 s of speech, at least 1 s.")
    clipped = float((np.abs(samples) >= 0.999).mean()) > _CLIPPED_SHARE and np.abs(samples).max() <= 1.001
    speech = VoiceActivity.of(samples, sampling_rate)
    if speech.loudest < _SILENT:
        raise AudioError("The reference clip is silent.", "Record it again, nearer to the microphone.")
    if speech.seconds < SHORTEST_S or speech.sound_s < _LEAST_SOUND_S:
        found = min(speech.seconds, speech.sound_s) if speech.seconds >= SHORTEST_S else speech.seconds
        raise AudioError(f"The reference clip has {found:.1f} s of speech.", "Give 3 to 10 s, at least 1 s.")
    peak = float(np.abs(samples).max())
    offset = float(samples.mean(dtype=np.float64))
    if abs(offset) > min(_OFFSET, _OFFSET_SHARE * speech.level):
        samples = samples - np.float32(offset)
    step, edge = round(sampling_rate * FRAME_S), round(_EDGE_S * sampling_rate)
    begin, end = speech.span
    trimmed = samples[max(0, begin * step - edge) : min(len(samples), end * step + edge)]
    warnings = []
    if clipped:
        warnings.append("the reference clip is clipped: its distortion will be cloned too")
    longest = max((end - begin for begin, end in speech.pauses), default=0.0)
    if longest > _LONG_PAUSE_S:
        warnings.append(f"the reference clip has a pause of {longest:.1f} s: pauses will be cloned too")
    if peak > 1.0:
        # Floating-point files may go beyond full scale without being clipped.
        gain = _PEAK / peak
        warnings.append(f"the reference clip goes {20 * np.log10(peak):.0f} dB beyond full scale: it was turned down")
    elif speech.level < _FAINT:
        gain = room_for(trimmed, _SANE / speech.level, _PEAK)
        raised = f"it was raised by {20 * np.log10(gain):.0f} dB, and its noise with it"
        warnings.append(f"the reference clip is very quiet: {raised}")
    else:
        return Clip(trimmed, tuple(warnings), sampling_rate=sampling_rate)
    mended: np.ndarray = np.clip(trimmed * np.float32(gain), -_PEAK, _PEAK).astype(np.float32)
    return Clip(mended, tuple(warnings), sampling_rate=sampling_rate)


def check_transcript(clip: Clip, transcript: str, split: Callable[[str], Sequence[str]] | None = None) -> Clip:
    """Give a clip its words; one that is too long is cut together with them where that is certain.

    Args:
        split: A text -> its sentences; by their final marks if left out.

    Raises:
        UsageError: No transcript, or one that can't be of this clip.
        AudioError: More than 15 s of speech, and no certain place to cut.
    """
    transcript = " ".join(transcript.split())
    if not transcript:
        raise UsageError(
            "What is said in the reference clip is not known.", "Give it with --ref-text, or have it heard with --asr."
        )
    _check_plausible(transcript, clip.speech_s)
    if clip.speech_s <= LONGEST_S:
        return replace(clip, transcript=transcript)
    found = _certain_cut(clip, list((split or _by_marks)(transcript)))
    if found is None:
        raise AudioError(
            f"The reference clip has {clip.speech_s:.1f} s of speech; {LONGEST_S:.0f} s is the most.",
            "Cut the clip and its transcript at the same word; or leave --ref-text out: the clip is then cut at a pause "
            "and heard with --asr.",
        )
    end_s, words = found
    _check_plausible(words, end_s)
    return clip.cut(end_s, words, f"clip and transcript were cut together after {end_s:.1f} s: {_tail(words)}")


def cut_at_pause(clip: Clip) -> Clip:
    """A clip of more than 15 s of speech, cut in its longest pause between 5 and 15 s; its words are not known yet.

    Raises:
        AudioError: There is no pause.
    """
    if clip.speech_s <= LONGEST_S:
        return clip
    pauses = [pause for pause in clip.pauses(_BREATH_S) if 5.0 <= pause[0] <= LONGEST_S]
    if not pauses:
        raise AudioError(
            f"The reference clip has {clip.speech_s:.1f} s of speech without a pause; {LONGEST_S:.0f} s is the most.",
            "Cut it at the end of a word.",
        )
    begin, end = max(pauses, key=lambda pause: pause[1] - pause[0])
    end_s = begin + min(_EDGE_S, (end - begin) / 2)
    return clip.cut(end_s, "", f"the reference clip was cut in a pause after {end_s:.1f} s")


def fits_duration(transcript: str, seconds: float, silence_s: float = 0.0) -> bool:
    """Whether a transcript can be what is said in this many seconds: 3 to 35 letters a second.

    Args:
        silence_s: How much of the time may hold no speech; only the lower bound allows for it.
    """
    letters = letters_of(transcript)
    return _SLOWEST_A_S * (seconds - silence_s) <= letters <= _FASTEST_A_S * seconds


def _check_plausible(transcript: str, seconds: float) -> None:
    weight = letters_of(transcript)
    if not fits_duration(transcript, seconds):
        raise UsageError(
            f"The transcript has {weight} letters, the clip {seconds:.1f} s of speech: they are not of each other.",
            "--ref-text must say what is said in the clip, all of it and nothing else.",
        )


def letters_of(text: str) -> int:
    """How long a text is in speech, counted in letters: a digit is a word of four, an East Asian character a syllable."""
    return sum(
        4 if character.isdigit() else 3 if ord(character) >= CJK_START else 1
        for character in text
        if character.isalnum()
    )


def _by_marks(text: str) -> list[str]:
    """Sentences by their final marks, those of East Asian scripts included."""
    return [part for part in re.split(r"(?<=[.!?…][\"'”’)\]])\s+|(?<=[.!?…])\s+|(?<=[。！？])", text) if part.strip()]


def _certain_cut(clip: Clip, sentences: list[str]) -> tuple[float, str] | None:
    """Where sound and words can be cut together: seconds and the words up to there; None if that is a guess.

    It is no guess where the sound has exactly as many long pauses as there are sentence ends, each clearly longer than
    every other stillness, and every one of them lies where the letters before it put it.

    Measured on 141 readings of 4 to 7 sentences by flite's four voices, with pauses of 0.2 to 0.7 s between them: 133 were
    cut at the right sentence, 8 refused. With a sentence missing in the transcript, all 141 were refused. (One replaced
    by another of its length can't be noticed without hearing the words, in a whole clip either.)
    """
    ends = len(sentences) - 1
    pauses = sorted(clip.pauses(_SENTENCE_PAUSE_S), key=lambda pause: pause[0] - pause[1])
    if ends < 1 or len(pauses) < ends:
        return None
    others = pauses[ends:]
    least = pauses[ends - 1][1] - pauses[ends - 1][0]
    if others and least < _PAUSE_RATIO * (others[0][1] - others[0][0]):
        return None
    chosen = sorted(pauses[:ends])
    silence = [sum(end - begin for begin, end in pauses if end <= until) for until, _ in chosen]
    spoken = clip.speech_s - sum(end - begin for begin, end in pauses)
    begin_s = clip._speech.span[0] * FRAME_S
    weights = [letters_of(sentence) for sentence in sentences]
    whole = sum(weights)
    best = None
    for count, ((begin, end), still) in enumerate(zip(chosen, silence, strict=True), 1):
        expected = spoken * sum(weights[:count]) / whole
        if abs(begin - begin_s - still - expected) > min(_MISFIT_S, _MISFIT_SHARE * spoken):
            return None
        if SHORTEST_S <= begin <= LONGEST_S:
            best = begin + min(_EDGE_S, (end - begin) / 2), count
    if best is None:
        return None
    end_s, count = best
    words = ""
    for sentence in sentences[:count]:
        words += sentence if not words or ord(words[-1]) >= CJK_START else " " + sentence
    return end_s, words


def _tail(words: str) -> str:
    return repr(words if len(words) <= 40 else "..." + words[-37:])
