"""A text whose passages are spoken at once sounds as it does passage by passage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llasa_cli.batch.messages import Event, Exited, Lost, Ready, Spoken, WorkItem
from llasa_cli.batch.options import SchedulingOptions
from llasa_cli.batch.passages import PassageSynthesizer
from llasa_cli.checkpoint.resolve import resolve_checkpoint
from llasa_cli.errors import UsageError
from llasa_cli.prompt import Reference
from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance
from llasa_cli.synthesis.text_to_speech import StreamSettings
from llasa_cli.synthesis.utterance import ResumePoint

SHORT = SpeechOptions(seed=1, retries=1, sampling=SamplingRequest(max_seconds=0.3))
BOOK = "\n\n".join(f"This is paragraph {name} of a book, and it is long enough to be a chunk." for name in "abcdefgh")
BOOK += "[pause:0.3]"


@pytest.fixture(scope="module")
def alone(random_checkpoint: Path) -> Synthesizer:
    return Synthesizer.load(ModelOptions(model=str(random_checkpoint), device="cpu"))


def at_once(alone: Synthesizer, slots: int) -> PassageSynthesizer:
    return PassageSynthesizer(alone.checkpoint, SchedulingOptions(slots=slots), synthesizer=alone)


def spoken(speech: Any, **more: Any) -> tuple[list[Utterance], np.ndarray]:
    utterances: list[Utterance] = []
    options = more.pop("options", SHORT)
    sound = [
        chunk.samples
        for chunk in speech.stream([BOOK], options, more.pop("reference", None), utterances.append, **more)
    ]
    return [replace(one, wall_s=0.0) for one in utterances], np.concatenate(sound)


@pytest.fixture(scope="module")
def spoken_alone(alone: Synthesizer) -> Callable[[Reference | None], tuple[list[Utterance], np.ndarray]]:
    """The book passage by passage, once for each voice."""
    return lru_cache(lambda reference: spoken(alone, reference=reference))


@pytest.mark.parametrize("slots", [1, 3, 8])
@pytest.mark.parametrize("reference", [None, Reference("what is said", tuple(range(20)))])
def test_the_sound_is_that_of_one_passage_at_a_time(
    alone: Synthesizer, spoken_alone: Callable[..., Any], slots: int, reference: Reference | None
) -> None:
    expected, sound = spoken_alone(reference)
    found, same = spoken(at_once(alone, slots), reference=reference)
    assert found == expected
    assert np.array_equal(sound, same)


def test_the_best_takes_are_those_of_one_passage_at_a_time(alone: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llasa_cli.lm.llama.Llama.fused_rows", 0)  # as for large weights of 16 or 32 bits
    options = replace(SHORT, best_of=3)
    expected, sound = spoken(alone, options=options)
    found, same = spoken(at_once(alone, 5), options=options)
    assert found == expected
    assert np.array_equal(sound, same)


def test_a_resumed_text_continues_where_it_stopped(alone: Synthesizer, spoken_alone: Callable[..., Any]) -> None:
    expected, _ = spoken_alone(None)
    found, _ = spoken(at_once(alone, 4), settings=StreamSettings(resume_from=ResumePoint(3)))
    assert found == expected[3:]


def test_the_first_good_passage_is_the_voice_of_a_text_without_one(
    alone: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llasa_cli.synthesis.synthesizer.find_problems", lambda *_: ())
    monkeypatch.setattr("llasa_cli.prompt.PromptFormat.default_speaker", None, raising=False)
    monkeypatch.setattr(alone.prompt_format, "default_speaker", None)
    speech = at_once(alone, 4)
    monkeypatch.setattr(speech, "_needs_voice", lambda options, reference: True)
    expected, sound = spoken(alone)
    found, same = spoken(speech)
    assert found == expected
    assert found[0].is_voice
    assert np.array_equal(sound, same)


def test_a_text_without_words_is_refused(alone: Synthesizer) -> None:
    with pytest.raises(UsageError, match="nothing to say"):
        list(at_once(alone, 2).stream(["... [pause:1]"], SHORT))


class _DyingBackend:
    """Loses its first passages, and completes the later ones in the reverse order."""

    def __init__(self) -> None:
        self.items: list[WorkItem] = []
        self.has_died = False

    def capacity(self, left: int) -> int:
        return 4 - len(self.items)

    def submit(self, item: WorkItem) -> None:
        self.items.append(item)

    def events(self, timeout_s: float) -> list[Event]:
        items, self.items = self.items, []
        if not self.has_died:
            self.has_died = True
            return [Ready(4), Lost(tuple(item.number for item in items), "signal 9")]
        return [self._spoken(item) for item in reversed(items)] or [Exited()]

    def _spoken(self, item: WorkItem) -> Spoken:
        assert item.passage is not None
        utterance = Utterance(item.passage.text, 0.1, (1,), 1, 1, pause_s=item.passage.pause_s)
        return Spoken(item.number, utterance.to_row(), np.zeros(10, np.float32), 16_000)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        return {}


def test_passages_of_a_dead_worker_are_spoken_by_another(
    random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = PassageSynthesizer(
        resolve_checkpoint(ModelOptions(model=str(random_checkpoint))), SchedulingOptions(workers=2)
    )
    monkeypatch.setattr(speech, "_start", lambda together: _DyingBackend())
    notes: list[str] = []
    found, _ = spoken(speech, settings=StreamSettings(on_note=notes.append))
    assert [one.text[:19] for one in found[:8]] == [f"This is paragraph {name}" for name in "abcdefgh"]
    assert len(notes) == 1
    assert "signal 9" in notes[0]
