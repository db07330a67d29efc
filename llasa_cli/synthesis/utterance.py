"""The speech of one text chunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from llasa_cli.prompt import Reference
from llasa_cli.text.spoken_words import WordTime


@dataclass(frozen=True)
class Utterance:
    """The speech of one text chunk.

    Attributes:
        text: The text that the model was given; empty for a pause alone.
        seconds: Duration of the speech, without the pause before it.
        codes: The speech codes.
        seed: The seed of the take that was used. The same seed and options give the same codes.
        attempts: The number of takes that were generated.
        problems: The checks that the used take fails; empty for a good one.
        retried: The problems of the other takes.
        wall_s: Seconds of computing, over all attempts.
        pause_s: The pause before the chunk, in seconds.
        sentences: The sentences of the chunk as they were written.
        is_voice: Whether the following chunks use this one as their reference.
        chapter: The title of the chapter that begins with it; empty inside of one.
        streamed: Whether the audio was passed on while it was generated. `wall_s` then includes the consumer's time.
        candidates: A description of each take, in the order of their seeds: `seed`, `seconds`, `scores` by the name of the
            verifier (1 is perfect), `problems`, `dropped`, `chosen`. Empty if there was only one take and nothing but the
            checks judged it.
        chosen_because: Why the used take was chosen from several; else empty.
        words: The words of `sentences` with their times, from the beginning of the speech; empty unless they were requested.
        voice: The name of the voice that speaks it; empty for the voice of the text.
    """

    text: str
    seconds: float
    codes: tuple[int, ...]
    seed: int
    attempts: int
    problems: tuple[str, ...] = ()
    retried: tuple[str, ...] = ()
    wall_s: float = 0.0
    pause_s: float = 0.0
    sentences: tuple[str, ...] = ()
    is_voice: bool = False
    streamed: bool = False
    chapter: str = ""
    candidates: tuple[dict[str, Any], ...] = ()
    chosen_because: str = ""
    words: tuple[WordTime, ...] = ()
    voice: str = ""

    def to_row(self) -> dict[str, Any]:
        """The fields under their names in files and in `--json`, where `attempts` is `tries`."""
        row = asdict(self)
        return {"tries" if name == "attempts" else name: value for name, value in row.items()}

    def to_short_row(self) -> dict[str, Any]:
        """The fields that a later part of the text needs: only the utterance that sets the voice keeps its codes."""
        return self.to_row() | ({} if self.is_voice else {"codes": ()})

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Utterance:
        """Rebuild an utterance from `to_row` after a round trip through JSON, which turns tuples into lists."""
        known = {part.name for part in fields(cls)}
        values: dict[str, Any] = {"attempts" if name == "tries" else name: value for name, value in row.items()}
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known}
        values["words"] = tuple(WordTime(*word) for word in values.get("words", ()))
        return cls(**values)


@dataclass(frozen=True)
class ResumePoint:
    """The point at which an earlier run of the same text stopped.

    Attributes:
        chunks: The number of chunks that are done, pauses included.
        voice: The utterance among them that the others use as their reference (`Utterance.is_voice`), if there is one.
    """

    chunks: int = 0
    voice: Reference | None = None
