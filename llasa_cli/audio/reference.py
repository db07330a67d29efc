"""Is a clip a voice to clone? Answered before any big model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llasa_cli.errors import AudioError, UsageError

if TYPE_CHECKING:
    import numpy as np

SHORTEST_S, LONGEST_S = 1.0, 15.0
"""Of speech. The published demos cut at 15 s; the context has room for 40 s of reference and speech together."""
_EDGE_S = 0.1
_QUIET_DB = -45.0
"""Below the loudest 20 ms: silence around the speech."""
_FASTEST_A_S, _SLOWEST_A_S = 35.0, 3.0
"""Letters and digits a second; people speak 9 to 20."""


@dataclass(frozen=True)
class Clip:
    """A usable clip: float32 [n] samples without the silence around them, and what the user should know."""

    samples: np.ndarray
    warnings: tuple[str, ...]


def check_reference(samples: np.ndarray, sampling_rate: int, transcript: str) -> Clip:
    """Trim the silence around the speech; refuse what would not give the voice.

    Nothing is cut out of the speech itself: its transcript would no longer fit.

    Raises:
        AudioError: Silent, shorter than 1 s or longer than 15 s.
        UsageError: No transcript, or one that can't be of this clip.
    """
    import numpy as np

    if not transcript.strip():
        raise UsageError("What is said in the reference clip is not known.", "Give it with --ref-text.")
    step = sampling_rate // 50
    frames = samples[: len(samples) // step * step].reshape(-1, step)
    loudness = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1)) if len(frames) else np.zeros(1)
    loudest = float(loudness.max())
    if loudest < 1e-3:
        raise AudioError("The reference clip is silent.", "Record it again, nearer to the microphone.")
    spoken = np.flatnonzero(loudness > loudest * 10 ** (_QUIET_DB / 20))
    edge = round(_EDGE_S * sampling_rate)
    begin = max(0, int(spoken[0]) * step - edge)
    end = min(len(samples), (int(spoken[-1]) + 1) * step + edge)
    trimmed = samples[begin:end]
    seconds = (int(spoken[-1]) + 1 - int(spoken[0])) * step / sampling_rate
    if seconds < SHORTEST_S:
        raise AudioError(f"The reference clip has {seconds:.1f} s of speech.", "Give 3 to 10 s, at least 1 s.")
    if seconds > LONGEST_S:
        raise AudioError(
            f"The reference clip has {seconds:.1f} s of speech; {LONGEST_S:.0f} s is the most.",
            "Cut the clip and its transcript at the same word.",
        )
    letters = sum(3 if ord(character) >= 0x2E80 else 1 for character in transcript if character.isalnum())
    if not _SLOWEST_A_S <= letters / seconds <= _FASTEST_A_S:
        raise UsageError(
            f"The transcript has {letters} letters, the clip {seconds:.1f} s of speech: they are not of each other.",
            "--ref-text must say what is said in the clip, all of it and nothing else.",
        )
    warnings = []
    if float((np.abs(samples) >= 0.999).mean()) > 1e-3:
        warnings.append("the reference clip is clipped: its distortion will be cloned too")
    if loudest < 0.01:
        warnings.append("the reference clip is very quiet: its noise will be cloned too")
    return Clip(trimmed, tuple(warnings))
