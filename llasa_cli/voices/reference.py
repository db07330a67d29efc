"""Reference clips: checks whether a recording and its transcript can be used for cloning, before any large model is loaded.

    clip = load_reference(path, "What is said in it.")        trimmed and checked; too long: cut together with its words
    clip = load_reference(path, None)                         trimmed and checked; too long: cut in a pause
    clip = transcriber.complete(clip)                         the words of such a clip, by a recognizer

Sound and words are cut together or not at all: if the transcript has words that the clip lacks, the model skips as many
words of the text, or speaks the missing words first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from llasa_cli.audio.vad import FRAME_S, VoiceActivity, flat_top_share, limit_gain, loudness_bulge
from llasa_cli.errors import AudioError, ModelError, UsageError
from llasa_cli.text.sentences import split_sentences
from llasa_cli.text.unicode import CJK_START
from llasa_cli.text.width import count_letters

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.asr import Recognizer
    from llasa_cli.audio.reader import Recording

MIN_SPEECH_S, MAX_SPEECH_S = 1.0, 15.0
"""The published demos cut clips at 15 s; the context has room for 40 s of reference and generated speech together."""
MAX_FILE_S = 120.0
"""Longer files are refused: where a sentence ends in them can only be guessed."""
MIN_RATE_HZ, FULL_RATE_HZ = 8_000, 16_000
"""A telephone's sampling rate, and that of the codec. At 8 kHz everything above 4 kHz is missing; consonants differ
above 2 kHz."""
_EDGE_S = 0.1
"""Silence that is kept before and after the speech."""
_MIN_ACTIVE_S = 0.5
"""Within the span of the speech: two clicks a second apart are not speech."""
_SILENT_RMS = 1e-3
_FAINT_RMS, _TARGET_RMS, _MAX_PEAK = 0.01, 0.05, 0.95
"""Speech below -40 dB is raised to -26 dB, with peaks of at most 0.95. Speech recorded at arm's length from a microphone
has -20 to -30 dB, and models are trained on such recordings."""
_MAX_CLIPPED_SHARE, _MAX_BULGE = 1e-3, 1.1
_MIN_SNR_DB = 10.0
"""The noisiest of 85 telephone prompts and 119 synthesized sentences has 11 dB."""
_MAX_OFFSET, _MAX_OFFSET_SHARE = 0.005, 0.05
"""A constant offset above -46 dB, or above a twentieth of the speech level, is removed: it would be cloned, it grows when
a clip is raised, and it clicks where speech begins."""
_LONG_PAUSE_S = 1.5

_SPEAKING_RATE = (9.0, 20.0)
"""Letters a second that people speak, pauses left out."""
_WARN_RATE = (7.0, 20.5)
_REFUSE_RATE = (4.0, 22.5)
_ROW_RATE = (3.0, 35.0)
"""119 sentences by a fast synthetic voice have 12 to 20.3 letters a second."""
_BREATH_S = 0.2
"""The shortest pause: it does not count for the speaking rate, and a clip without a transcript may be cut there."""

_SENTENCE_PAUSE_S = 0.15
_PAUSE_RATIO = 1.5
_MISFIT_S, _MISFIT_SHARE = 0.8, 0.06
"""The distance that is allowed between a sentence's end and the place that its letters suggest; see `_certain_cut`."""

_MIN_LEAK_LETTERS = 8
"""The fewest letters of a leak, in two words or more: shorter runs are common to many texts ("of the")."""
_FILE_NAME = re.compile(
    r"(?:[^\s.?!]+\s){0,2}\S+\.(?:txt|text|srt|vtt|md|json|jsonl|lab|csv|tsv|docx?)|[a-z][a-z0-9+.-]+://\S+", re.I
)


@dataclass(frozen=True)
class ReferenceClip:
    """A clip that can be used as a reference.

    Attributes:
        samples: float32 [n], mono, without the silence around the speech.
        warnings: Messages for the user about it.
        transcript: The words that are said in it; empty as long as they are unknown. It is shorter than the given transcript if both
            were cut.
        sampling_rate: Hz, of `samples`.
        file_rate, channels: The rate and the channels of the file that the clip comes from.
        transcribed_by: The recognizer that wrote the transcript; None if it was given.
    """

    samples: np.ndarray
    warnings: tuple[str, ...] = ()
    transcript: str = ""
    sampling_rate: int = FULL_RATE_HZ
    file_rate: int = FULL_RATE_HZ
    channels: int = 1
    transcribed_by: str | None = None

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sampling_rate

    @cached_property
    def activity(self) -> VoiceActivity:
        return VoiceActivity.of(self.samples, self.sampling_rate)

    @property
    def speech_s(self) -> float:
        """Seconds from the first sound to the last."""
        return self.activity.span_s

    def pauses(self, min_s: float) -> list[tuple[float, float]]:
        """Begin and end, in seconds, of every pause in the speech that lasts at least `min_s`."""
        return [(begin, end) for begin, end in self.activity.pauses if end - begin >= min_s]

    def cut(self, end_s: float, transcript: str, warning: str) -> ReferenceClip:
        """The clip up to `end_s`, and the words that are said until then."""
        kept = self.samples[: round(end_s * self.sampling_rate)]
        return replace(self, samples=kept, transcript=transcript, warnings=(*self.warnings, warning))


class ReferenceTranscriber:
    """Writes the transcripts of clips that come without one. The recognizer is loaded for the first of them.

    Args:
        name: See `asr.load_recognizer`. If the default one is not on this machine, another one on this machine replaces it.
        language: Such as "en"; None lets the recognizer detect it.
        device: A value of `--device`.
        on_stage: Receives the name of each stage, for a progress display.
        on_line: Receives lines for the user.
    """

    def __init__(
        self,
        name: str,
        language: str | None,
        device: str,
        on_stage: Callable[[str], None] = lambda text: None,
        on_line: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name, self._language, self._device = name, language, device
        self._on_stage, self._on_line = on_stage, on_line
        self._recognizer: Recognizer | None = None

    def check(self) -> None:
        """Choose the recognizer, without loading it.

        Raises:
            ModelError: It is not on this machine.
        """
        from llasa_cli.asr import find_recognizer

        try:
            self.name = find_recognizer(self.name, self._language)
        except ModelError as error:
            raise ModelError(
                error.message, f"{error.hint}\n       Or give the words of the clip: --ref-text."
            ) from error

    def transcribe(self, clip: ReferenceClip) -> str:
        """Transcribe a clip.

        Raises:
            AudioError: The recognizer understood no word.
            ModelError: The recognizer is not on this machine.
        """
        from llasa_cli.asr import POCKETSPHINX, load_recognizer

        self.check()
        if self._recognizer is None:
            self._on_stage(f"loading {self.name}")
            self._recognizer = load_recognizer(self.name, self._device)
        self._on_stage("transcribing the reference clip")
        text = self._recognizer.transcribe(clip.samples, clip.sampling_rate, self._language)
        if not any(character.isalnum() for character in text):
            raise AudioError(
                f"{self.name} understood no word in the reference clip.", "Give its words with --ref-text."
            )
        self._on_line(f"transcribed by {self.name}: {text}")
        if self.name == POCKETSPHINX:
            self._on_line(
                "warning: pocketsphinx makes many mistakes: if words are wrong, give the right ones with --ref-text"
            )
        return text

    def complete(self, clip: ReferenceClip) -> ReferenceClip:
        """The clip with its transcript.

        Raises:
            AudioError, ModelError: See `transcribe` and `with_recognized_text`.
        """
        return with_recognized_text(clip, self.transcribe(clip), self.name)


def load_reference(path: Path, transcript: str | None) -> ReferenceClip:
    """Read and check a clip.

    Args:
        transcript: The words that are said in it. None leaves `ReferenceClip.transcript` empty, for a recognizer to write; a clip
            that is too long is then cut in a pause.

    Raises:
        AudioError: The clip can't be used.
        UsageError: The transcript can't be that of this clip.
    """
    from llasa_cli.audio.reader import read_recording

    if transcript is not None:
        _check_words(transcript)
    recording = read_recording(path, FULL_RATE_HZ, MAX_FILE_S)
    rate_warnings = check_rate(recording.file_rate)
    try:
        clip = check_sound(recording.samples, FULL_RATE_HZ, recording.flat_tops)
    except AudioError as error:
        raise AudioError(error.message, _causes(recording) + error.hint) from error
    clip = replace(
        clip,
        warnings=(*recording.warnings, *rate_warnings, *clip.warnings),
        file_rate=recording.file_rate,
        channels=recording.channels,
    )
    if transcript is None:
        return cut_at_pause(clip)
    try:
        return check_transcript(clip, transcript)
    except UsageError as error:
        raise UsageError(error.message, _causes(recording) + error.hint) from error


def _causes(recording: Recording) -> str:
    """The faults of the file, which may explain why there is too little speech, or why the words don't fit."""
    # A warning begins with "the header ..." or with the name of the file, which keeps its case.
    return "".join(f"{re.sub('^the ', 'The ', warning)}. " for warning in recording.warnings)


def with_recognized_text(clip: ReferenceClip, text: str, recognizer: str) -> ReferenceClip:
    """A clip with the transcript that a recognizer wrote.

    Raises:
        AudioError: The text can't be all that is said in the clip.
    """
    try:
        return replace(check_transcript(clip, text), transcribed_by=recognizer)
    except UsageError as error:
        raise AudioError(
            f"{recognizer} did not understand the reference clip. {error.message}",
            "Give its words with --ref-text (ref_text in a list).",
        ) from error


def clip_digest(path: Path) -> str:
    """16 hexadecimal digits of the file's SHA-256: another recording under the same name is another voice."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


# --- the sound ---


def check_rate(file_rate: int) -> tuple[str, ...]:
    """Warnings about a file's sampling rate.

    Raises:
        AudioError: The rate is below 8 kHz.
    """
    if file_rate < MIN_RATE_HZ:
        raise AudioError(
            f"The reference clip is sampled at {file_rate} Hz, which cuts off its consonants.",
            f"Record it at {FULL_RATE_HZ} Hz or more; {MIN_RATE_HZ} Hz is the least.",
        )
    if file_rate < FULL_RATE_HZ:
        return (f"the reference clip is sampled at {file_rate} Hz: the voice will sound as on a telephone",)
    return ()


def check_sound(samples: np.ndarray, sampling_rate: int, flat_tops: float | None = None) -> ReferenceClip:
    """Trim the silence around the speech and correct offset and level. Nothing is removed from the speech itself.

    Args:
        samples: float32 [n], mono.
        flat_tops: See `audio.reader.Recording`; None measures them in `samples`.

    Raises:
        AudioError: The clip is silent, or has less than a second of speech.
    """
    import numpy as np

    length_s = len(samples) / sampling_rate
    if length_s < MIN_SPEECH_S:
        raise AudioError(f"The reference clip is {length_s:.1f} s long.", "Give 3 to 10 s of speech, at least 1 s.")
    speech = VoiceActivity.of(samples, sampling_rate)
    if speech.peak_rms < _SILENT_RMS:
        raise AudioError("The reference clip is silent.", "Record it again, closer to the microphone.")
    if speech.span_s < MIN_SPEECH_S or speech.active_s < _MIN_ACTIVE_S:
        found = min(speech.span_s, speech.active_s) if speech.span_s >= MIN_SPEECH_S else speech.span_s
        found = int(10 * found) / 10  # 0.96 s are not 1.0 s, which would be enough
        raise AudioError(f"The reference clip has {found:.1f} s of speech.", "Give 3 to 10 s, at least 1 s.")
    warnings = [*_clipping(samples, flat_tops), *_noise(speech.snr_db)]
    peak = float(np.abs(samples).max())
    offset = float(samples.mean(dtype=np.float64))
    if abs(offset) > min(_MAX_OFFSET, _MAX_OFFSET_SHARE * speech.speech_rms):
        samples = samples - np.float32(offset)
    step, edge = round(sampling_rate * FRAME_S), round(_EDGE_S * sampling_rate)
    begin, end = speech.span
    trimmed = samples[max(0, begin * step - edge) : min(len(samples), end * step + edge)]
    longest = max((end - begin for begin, end in speech.pauses), default=0.0)
    if longest > _LONG_PAUSE_S:
        warnings.append(f"the reference clip has a pause of {longest:.1f} s: pauses will be cloned too")
    if peak > 1.0:
        # Samples of a floating-point file may exceed full scale without being clipped.
        gain = _MAX_PEAK / peak
        warnings.append(f"the reference clip exceeds full scale by {20 * np.log10(peak):.0f} dB: it was turned down")
    elif speech.speech_rms < _FAINT_RMS:
        gain = limit_gain(trimmed, _TARGET_RMS / speech.speech_rms, _MAX_PEAK)
        raised = f"it was raised by {20 * np.log10(gain):.0f} dB, and its noise with it"
        warnings.append(f"the reference clip is very quiet: {raised}")
    else:
        return ReferenceClip(trimmed, tuple(warnings), sampling_rate=sampling_rate)
    corrected: np.ndarray = np.clip(trimmed * np.float32(gain), -_MAX_PEAK, _MAX_PEAK).astype(np.float32)
    return ReferenceClip(corrected, tuple(warnings), sampling_rate=sampling_rate)


def _clipping(samples: np.ndarray, flat_tops: float | None) -> list[str]:
    """A warning if the clip is clipped, at any level."""
    import numpy as np

    size = np.abs(samples)
    at_full_scale = float((size >= 0.999).mean()) if size.max() <= 1.001 else 0.0
    share = max(at_full_scale, flat_top_share(samples) if flat_tops is None else flat_tops)
    if share > _MAX_CLIPPED_SHARE:
        found = f"is clipped in {100 * share:.1f} % of its samples"
    elif loudness_bulge(samples) > _MAX_BULGE:
        found = "was probably clipped before it was converted"
    else:
        return []
    return [f"the reference clip {found}: its distortion will be cloned too; record it at a lower level"]


def _noise(snr_db: float) -> list[str]:
    """A warning if noise or hum is about as loud as the speech."""
    if snr_db >= _MIN_SNR_DB:
        return []
    if snr_db >= 1:
        level = f"only {snr_db:.0f} dB below the speech"
    else:
        level = (
            f"as loud as the speech ({round(snr_db)} dB)" if snr_db > -3 else f"{-snr_db:.0f} dB louder than the speech"
        )
    advice = f"record it in a quiet place, or remove the noise, until it is {_MIN_SNR_DB:.0f} dB below"
    return [f"noise or hum in the reference clip is {level}, which garbles words: {advice}"]


# --- the words ---


def check_transcript(clip: ReferenceClip, transcript: str) -> ReferenceClip:
    """The clip with its words. A clip that is too long is cut together with them, if the place is certain.

    Raises:
        UsageError: The transcript is empty, or can't be that of this clip.
        AudioError: The clip has more than 15 s of speech, and no certain place to cut.
    """
    transcript = " ".join(transcript.split())
    _check_words(transcript)
    warnings = _check_speaking_rate(transcript, clip)
    if clip.speech_s <= MAX_SPEECH_S:
        return replace(clip, transcript=transcript, warnings=(*clip.warnings, *warnings))
    found = _certain_cut(clip, split_sentences(transcript))
    if found is None:
        raise AudioError(
            f"The reference clip has {clip.speech_s:.1f} s of speech; {MAX_SPEECH_S:.0f} s is the most.",
            "Cut the clip and its transcript at the same word. Or leave out --ref-text: the clip is then cut in a pause "
            "and transcribed by --asr.",
        )
    end_s, words = found
    cut = clip.cut(end_s, words, f"clip and transcript were cut together after {end_s:.1f} s: {_tail(words)}")
    return replace(cut, warnings=(*cut.warnings, *_check_speaking_rate(words, cut)))


def cut_at_pause(clip: ReferenceClip) -> ReferenceClip:
    """A clip of more than 15 s, cut in its longest pause between 5 and 15 s; its words must be unknown.

    Raises:
        AudioError: It has no pause there.
    """
    if clip.speech_s <= MAX_SPEECH_S:
        return clip
    pauses = [pause for pause in clip.pauses(_BREATH_S) if 5.0 <= pause[0] <= MAX_SPEECH_S]
    if not pauses:
        raise AudioError(
            f"The reference clip has {clip.speech_s:.1f} s of speech without a pause; {MAX_SPEECH_S:.0f} s is the most.",
            "Cut it at the end of a word.",
        )
    begin, end = max(pauses, key=lambda pause: pause[1] - pause[0])
    end_s = begin + min(_EDGE_S, (end - begin) / 2)
    return clip.cut(end_s, "", f"the reference clip was cut in a pause after {end_s:.1f} s")


def _check_words(transcript: str) -> None:
    """Raises:
    UsageError: The transcript is empty, or the name of a file.
    """
    name = transcript.strip()
    if not name:
        raise UsageError(
            "The transcript of the reference clip is empty.", "Give its words, or leave it out: --asr then writes it."
        )
    if _FILE_NAME.fullmatch(name) or _is_file(name):
        raise UsageError(
            f"The transcript of the reference clip is the name of a file: {_tail(name)}.",
            'Give the words themselves, such as --ref-text "$(cat FILE)".',
        )


def _is_file(name: str) -> bool:
    if "." not in name.rstrip(".") and "/" not in name:
        return False
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long, NUL, or a home folder of no user
        return False


def _check_speaking_rate(transcript: str, clip: ReferenceClip) -> tuple[str, ...]:
    """A warning if the transcript is rather long or rather short for the clip.

    Raises:
        UsageError: It can't be the transcript of this clip.
    """
    spoken_s = clip.speech_s - sum(end - begin for begin, end in clip.pauses(_BREATH_S))
    problem, is_possible = speaking_rate_problem(transcript, spoken_s)
    if not is_possible:
        raise UsageError(
            problem[0].upper() + problem[1:] + ".",
            "Give exactly what is said in the clip. If the clip was cut, cut its transcript at the same word.",
        )
    return (f"{problem}; check that it is exactly what is said",) if problem else ()


def speaking_rate_problem(transcript: str, spoken_s: float) -> tuple[str, bool]:
    """Whether a transcript fits the length of its recording.

    Args:
        spoken_s: Seconds of speech, without pauses.

    Returns:
        The problem, empty if there is none; and whether the two can belong together at all.
    """
    letters = count_letters(transcript)
    rate = letters / max(spoken_s, FRAME_S)
    slow, fast = rate < _WARN_RATE[0], rate > _WARN_RATE[1]
    if not (slow or fast):
        return "", True
    size = "long" if fast else "short"
    problem = (
        f"the transcript is too {size} for the clip: {letters} letters in {spoken_s:.1f} s of speech are {rate:.1f} a "
        f"second, and people speak {_SPEAKING_RATE[0]:.0f} to {_SPEAKING_RATE[1]:.0f}"
    )
    return problem, _REFUSE_RATE[0] <= rate <= _REFUSE_RATE[1]


def fits_duration(transcript: str, seconds: float, silence_s: float = 0.0) -> bool:
    """Whether a transcript can belong to a row of training data of this length.

    The limits are wider than those for clips: in short rows, and with numbers, the count of letters is less reliable.

    Args:
        silence_s: The part of the time that may be without speech; only the lower limit allows for it.
    """
    letters = count_letters(transcript)
    return _ROW_RATE[0] * (seconds - silence_s) <= letters <= _ROW_RATE[1] * seconds


def leaked_words(said: str, heard: str, reference: str) -> tuple[str, ...]:
    """A problem if the generated speech contains words of the reference clip that its text does not have.

    Args:
        said: The text that should have been spoken.
        heard: The words that a recognizer understood.
        reference: The transcript of the reference clip.
    """
    from llasa_cli.text.word_check import units_of

    text, found, clip = units_of(said), units_of(heard), units_of(reference)
    best: list[str] = []
    for begin in range(len(found)):
        end = begin
        while end < len(found) and _contains(clip, found[begin : end + 1]):
            end += 1
        if end - begin > len(best) and not _contains(text, found[begin:end]):
            best = found[begin:end]
    if len(best) < 2 or count_letters("".join(best)) < _MIN_LEAK_LETTERS:
        return ()
    return (f"says words of the reference clip: {' '.join(best)!r}",)


def _contains(words: list[str], part: list[str]) -> bool:
    return any(words[at : at + len(part)] == part for at in range(len(words) - len(part) + 1))


def _certain_cut(clip: ReferenceClip, sentences: list[str]) -> tuple[float, str] | None:
    """The place at which sound and words can be cut together: the time in seconds, and the words before it; None if it would be a guess.

    The place is certain if the sound has exactly as many long pauses as the text has sentence ends, each of them clearly
    longer than every other pause, and each where the letters before it put it. (`benchmarks/cloning.py` has clips to
    measure this on: of 141 readings of 4 to 7 sentences, 133 were cut at the right sentence and 8 refused; with a
    sentence missing in the transcript, all were refused.)
    """
    ends = len(sentences) - 1
    pauses = sorted(clip.pauses(_SENTENCE_PAUSE_S), key=lambda pause: pause[0] - pause[1])
    if ends < 1 or len(pauses) < ends:
        return None
    others = pauses[ends:]
    shortest = pauses[ends - 1][1] - pauses[ends - 1][0]
    if others and shortest < _PAUSE_RATIO * (others[0][1] - others[0][0]):
        return None
    chosen = sorted(pauses[:ends])
    silence_before = [sum(end - begin for begin, end in pauses if end <= until) for until, _ in chosen]
    spoken_s = clip.speech_s - sum(end - begin for begin, end in pauses)
    begin_s = clip.activity.span[0] * FRAME_S
    letters = [count_letters(sentence) for sentence in sentences]
    best = None
    for count, ((begin, end), silence) in enumerate(zip(chosen, silence_before, strict=True), 1):
        expected = spoken_s * sum(letters[:count]) / sum(letters)
        if abs(begin - begin_s - silence - expected) > min(_MISFIT_S, _MISFIT_SHARE * spoken_s):
            return None
        if MIN_SPEECH_S <= begin <= MAX_SPEECH_S:
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
