"""Step search on a random model, whose takes never end by themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llasa_cli.errors import UsageError
from llasa_cli.lm.request import GenerationRequest
from llasa_cli.settings import ModelOptions, SamplingRequest, SearchPlan, SpeechOptions
from llasa_cli.synthesis.candidates import Candidate
from llasa_cli.synthesis.step_search import StepSearch
from llasa_cli.synthesis.synthesizer import SynthesisSession, Synthesizer
from llasa_cli.synthesis.text_to_speech import StreamSettings
from llasa_cli.synthesis.utterance import Utterance
from llasa_cli.synthesis.verifiers import Score, Take
from llasa_cli.text.chunker import TextChunk

CHUNK = TextChunk("hello there.", ("hello there.",), 0.0)
SAMPLING = SamplingRequest(temperature=1.0, top_p=1.0, guidance=1.0, max_seconds=0.6)
OPTIONS = SpeechOptions(SAMPLING, seed=3, speaker="heart", retries=0, search="2x3x0.2")
STEP = 10
"""Codes in 0.2 s."""


class Loudness:
    """A verifier in the place of the speaker model: it prefers loud takes."""

    name = "likeness"

    def score(self, take: Take) -> Score:
        return Score(float(np.square(take.samples).mean()))


@pytest.fixture(scope="module")
def speech(random_checkpoint: Path) -> Synthesizer:
    return Synthesizer.load(ModelOptions(model=str(random_checkpoint)))


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("2x4x1", SearchPlan(2, 4, 1.0)),
        ("1X16X0.5", SearchPlan(1, 16, 0.5)),
        (" 3 × 2 × 2 ", SearchPlan(3, 2, 2.0)),
        ("2x4", None),
        ("0x4x1", None),
        ("4x1x1", None),
        ("2x4x0", None),
        ("999x999x1", None),
        ("axbxc", None),
        ("", None),
    ],
)
def test_a_plan_is_three_numbers_within_limits(text: str, plan: SearchPlan | None) -> None:
    if plan is not None:
        assert SearchPlan.parse(text) == plan
        return
    with pytest.raises(UsageError, match="--search"):
        SearchPlan.parse(text)


def test_search_and_best_of_exclude_each_other() -> None:
    assert SpeechOptions(search="2x3x1").best_of == 6
    assert replace(SpeechOptions(search="2x3x1"), seed=1).best_of == 6
    for options in ({"best_of": 4}, {"candidate": 1}):
        with pytest.raises(UsageError, match="--search"):
            SpeechOptions(search="2x3x1", **options)


@pytest.mark.parametrize("has_likeness", [True, False])
def test_the_best_unfinished_takes_are_branched_and_the_others_replaced(
    speech: Synthesizer, has_likeness: bool
) -> None:
    verifiers = (Loudness(),) if has_likeness else ()
    session = SynthesisSession(speech, OPTIONS, None, StreamSettings(verifiers=verifiers))
    candidates = session.candidates(CHUNK)
    engine = speech.model.batch(6)
    search = StepSearch(candidates, engine, session.sampling)
    running: dict[int, Candidate] = {}
    for one in candidates.start():
        running[one.number] = one
        engine.add(GenerationRequest(candidates.prompt, session.sampling, one.seed, one.number))
    for _ in range(STEP):
        assert engine.step() == []
    before = {number: list(engine.codes(number)) for number in running}
    likely = {number: engine.log_probability(number) for number in running}
    loud = {number: Loudness().score(candidates.take(codes)).value for number, codes in before.items()}
    wanted = sorted(running, key=lambda number: -((loud[number] or 0) if has_likeness else likely[number]))[:2]
    search.branch(running)
    assert engine.free == 0
    for _ in range(3):
        engine.step()
    after = {number: list(engine.codes(number)) for number in running}
    assert {tuple(codes[:STEP]) for codes in after.values()} == {tuple(before[number]) for number in wanted}
    assert all(after[number][:STEP] == before[number] for number in wanted), "the parents keep their slots"
    assert len({tuple(codes) for codes in after.values()}) == 6, "each branch continues differently"
    parent = wanted[0]
    branch = next(number for number in running if number != parent and after[number][:STEP] == before[parent])
    assert search.log_probability(branch, 0.0) == likely[parent]
    assert search.log_probability(parent, likely[parent]) == likely[parent]


def test_a_search_is_repeated_by_its_seed_and_reports_all_takes(speech: Synthesizer) -> None:
    found: list[Utterance] = []
    sounds = [speech.synthesize("hello there.", OPTIONS, on_utterance=found.append) for _ in range(2)]
    assert np.array_equal(*sounds)
    assert found[0].codes == found[1].codes
    assert (found[0].seed, found[0].attempts, len(found[0].candidates)) == (3, 6, 6)
    assert all(0 < take["scores"]["likelihood"] < 1 for take in found[0].candidates)
    plain = speech.synthesize("hello there.", replace(OPTIONS, search=None, best_of=6))
    assert not np.array_equal(plain, sounds[0]), "otherwise nothing was branched"
