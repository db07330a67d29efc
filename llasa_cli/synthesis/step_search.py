"""Step search: unfinished takes are judged every few seconds of speech, and the best of them are branched.

    search = StepSearch(candidates, engine, sampling)      of the options "2x4x1": 2 beams, 4 branches each, every second
    after each step of the engine:  search.branch(running)

Beam x width takes run together, as many as with `--best-of` of that number, so both cost the same. Whenever all of them have
one more step of speech, the best `beam` are kept and the others are replaced with branches of these: sequences with another seed
that begin with the codes of their parent, whose KV cache is copied, not computed again. Takes that have ended are kept; at the end
`synthesis.candidates` chooses among all complete takes.

Unfinished takes are judged by their likeness to the reference where `--choose-by likeness` is on, else by their likelihood.

Source: the process verifiers of "Llasa: Scaling Train-Time and Inference-Time Compute" (arXiv 2502.04128).
"""

from __future__ import annotations

from collections.abc import Sequence

from llasa_cli.lm.engine import SlotEngine
from llasa_cli.lm.request import GenerationRequest
from llasa_cli.settings import LARGEST_SEED, SamplingOptions, SearchPlan
from llasa_cli.synthesis.candidates import Candidate, Candidates
from llasa_cli.synthesis.verifiers import mean_probability


class StepSearch:
    """The search of one chunk.

    Args:
        candidates: Their options have the search and the seed, from which the branches count up. Their verifier named
            "likeness" judges unfinished takes, if there is one.
        engine: Has `beam` x `width` slots; sequences have the number of their candidate as a tag.
    """

    def __init__(self, candidates: Candidates, engine: SlotEngine, sampling: SamplingOptions) -> None:
        self._plan = SearchPlan.parse(candidates.options.search or "")
        self._candidates, self._engine, self._sampling = candidates, engine, sampling
        self._likeness = next((one for one in candidates.verifiers if one.name == "likeness"), None)
        self._step = max(1, round(self._plan.step_s * candidates.prompt.codes_per_second))
        self._due = self._step
        self._branches = 0
        self._inherited: dict[int, float] = {}

    def log_probability(self, number: int, own: float | None) -> float | None:
        """The likelihood of a whole take, from that of its own codes, which follow the last branching."""
        return None if own is None else own + self._inherited.get(number, 0.0)

    def branch(self, running: dict[int, Candidate]) -> None:
        """Replace the worse takes with branches of the better ones, if all have reached the end of a step."""
        codes = {number: list(self._engine.codes(number)) for number in running}
        if len(running) <= self._plan.beam or min(map(len, codes.values())) < self._due:
            return
        self._due += self._step
        likelihoods = {
            number: self.log_probability(number, self._engine.log_probability(number)) or 0.0 for number in running
        }
        scores = {number: self._score(codes[number], likelihoods[number]) for number in running}
        order = sorted(running, key=lambda number: (-scores[number], number))
        parents = order[: self._plan.beam]
        for at, number in enumerate(order[self._plan.beam :]):
            parent = parents[at % len(parents)]
            self._branches += 1
            seed = ((self._candidates.options.seed or 0) + self._plan.takes + self._branches) % LARGEST_SEED
            self._engine.drop(number)
            self._inherited[number] = likelihoods[parent]
            self._engine.add(
                GenerationRequest(self._candidates.prompt, self._sampling, seed, number, tuple(codes[parent]))
            )

    def _score(self, codes: Sequence[int], log_probability: float) -> float:
        """The score of an unfinished take, 0 to 1."""
        if self._likeness is not None:
            value = self._likeness.score(self._candidates.take(codes)).value
            if value is not None:
                return value
        return mean_probability(log_probability, len(codes)) or 0.0
