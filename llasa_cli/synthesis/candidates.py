"""Several takes of one text chunk, and the choice of the best one.

    candidates = Candidates(chunk, prompt, voice, options, ...)
    while not candidates.finished:
        for candidate in candidates.start(): <generate from candidates.prompt with candidate.seed>
        <stop those that are not candidates.is_wanted(candidate); those with a candidates.early_problem(codes) go to drop>
        candidates.judge(candidate, codes, decoded, ended)
    utterance, samples = candidates.best()

`best_of` takes are generated together. If none of them passes, up to `retries` more follow, one after the other; with a
`best_of` of 1 that is a plain retry. Take k has the seed of the request plus k.

The result is the one of generating and judging the takes one after the other in the order of their seeds, whichever is
complete first, so it does not depend on timing. `early_problem` and `is_wanted` may be called by another thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llasa_cli.prompt import Prompt, Reference
from llasa_cli.settings import LARGEST_SEED, SpeechOptions
from llasa_cli.synthesis.quality import LONGEST_LOOP_S, longest_loop
from llasa_cli.synthesis.utterance import Utterance
from llasa_cli.synthesis.verifiers import LikelihoodVerifier, ReferenceSound, Take, Verifier, mean_probability

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.codec.codec import Codec
    from llasa_cli.text.chunker import TextChunk

CHECK_EVERY = 25
"""Codes between two checks of an unfinished take."""
_EQUAL = 1e-6
"""Scores that differ by less are equal."""


@dataclass(frozen=True)
class Candidate:
    """A take to generate. `number` counts from 0."""

    number: int
    seed: int


@dataclass(frozen=True)
class JudgedTake:
    """A take with its scores by the name of the verifier.

    Attributes:
        samples: None for a take that was dropped unfinished or is not decoded yet.
        decode: Returns the audio with the reference before it; set for a take that is not decoded yet.
        ended: Whether the model generated its end token.
    """

    candidate: Candidate
    codes: tuple[int, ...]
    samples: np.ndarray | None
    problems: tuple[str, ...]
    scores: dict[str, float]
    likelihood: float | None = None
    decode: Callable[[], np.ndarray] | None = None
    ended: bool = True

    @property
    def is_dropped(self) -> bool:
        """Whether the take was stopped unfinished."""
        return self.samples is None and self.decode is None

    @property
    def score(self) -> float:
        """The mean of the verifiers' scores; 1 is perfect."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else 1.0

    @property
    def rank(self) -> tuple[bool, int, float, float, int]:
        """Takes in order, best first: complete, with few problems, with a high score, likely to the model, early."""
        score = round(self.score / _EQUAL)
        return self.is_dropped, len(self.problems), -score, -(self.likelihood or 0.0), self.candidate.number


class Candidates:
    """The takes of one chunk.

    Args:
        prompt: The prompt of all takes.
        voice: The reference in the prompt.
        options: `best_of`, `good_enough`, `retries`, `candidate` and the seed.
        is_greedy: Every take would be the same.
        find_problems: (codes, samples, ended) -> the checks that a take fails.
        longest_s: The longest plausible duration.
        verifiers: Judge the takes that pass the checks. The problems that they find count like those of the checks.

    Attributes:
        finished: Whether the best take is known.
    """

    def __init__(
        self,
        chunk: TextChunk,
        prompt: Prompt,
        voice: Reference | None,
        options: SpeechOptions,
        is_greedy: bool,
        find_problems: Callable[[tuple[int, ...], np.ndarray, bool], tuple[str, ...]],
        longest_s: float,
        verifiers: Sequence[Verifier],
        codec: Codec,
    ) -> None:
        self.prompt = prompt
        self.finished = False
        self.chunk = chunk
        self._voice, self.options = voice, options
        self._find_problems, self.verifiers, self._codec = find_problems, verifiers, codec
        self._codes_per_second = prompt.codes_per_second
        self._most_codes = longest_s * self._codes_per_second
        self._began = time.monotonic()
        self._first = 0
        self._together, self._most = options.best_of, options.best_of + options.retries
        if is_greedy:
            self._together = self._most = 1
        elif options.candidate is not None:
            self._first = options.candidate - 1
            self._together = self._most = 1
        self._started = 0
        self._judged: dict[int, JudgedTake] = {}

    @property
    def pause_s(self) -> float:
        """The silence before the chunk, in seconds."""
        return self.chunk.pause_s

    def start(self) -> list[Candidate]:
        """The takes that can be generated now. Each is returned once."""
        if self.finished or len(self._judged) < self._started:
            return []
        count = 1 if self._started else self._together
        numbers = range(self._first + self._started, self._first + self._started + count)
        self._started += count
        seed = self.options.seed or 0
        return [Candidate(number, (seed + number) % LARGEST_SEED) for number in numbers]

    def is_wanted(self, candidate: Candidate) -> bool:
        """Whether the take may still be chosen. If not, its generation can be stopped."""
        return not self.finished and not any(
            self._is_good_enough(take) for number, take in list(self._judged.items()) if number < candidate.number
        )

    def early_problem(self, codes: Sequence[int]) -> str:
        """The check that an unfinished take fails already, whatever follows; empty if there is none.

        The only take of a chunk is always completed. The check runs at each multiple of `CHECK_EVERY` codes.
        """
        if self.options.best_of == 1 or not codes or len(codes) % CHECK_EVERY:
            return ""
        loop_s = longest_loop(codes) / self._codes_per_second
        if loop_s > LONGEST_LOOP_S:
            return f"repeats itself for {loop_s:.1f} s"
        if len(codes) > self._most_codes:
            return f"too long for the text (more than {len(codes) / self._codes_per_second:.1f} s)"
        return ""

    def drop(self, candidate: Candidate, codes: Sequence[int]) -> None:
        """Record a take that was stopped because of its `early_problem`."""
        self._add(JudgedTake(candidate, tuple(codes), None, (self.early_problem(codes),), {}))

    def take(self, codes: Sequence[int]) -> Take:
        """An unfinished take as verifiers get it."""
        reference, samples = self._split(self._codec.decode(self.with_reference(codes)))
        return self._take(reference, samples, None)

    def _take(self, reference: np.ndarray, samples: np.ndarray, likelihood: float | None) -> Take:
        sound = None if self._voice is None else ReferenceSound(self._voice.text, reference)
        return Take(self.chunk.text, samples, self._codec.sampling_rate, sound, likelihood)

    def with_reference(self, codes: Sequence[int]) -> list[int]:
        """The codes to decode: the reference's, then the speech's, so that the codec sees them as one recording."""
        return [*(self._voice.codes if self._voice is not None else ()), *codes]

    def judge(
        self,
        candidate: Candidate,
        codes: tuple[int, ...],
        decoded: np.ndarray | Callable[[], np.ndarray],
        ended: bool,
        log_probability: float | None = None,
    ) -> None:
        """Check a complete take.

        Args:
            codes: The codes of the speech alone.
            decoded: float32 [n], the audio of `with_reference(codes)`, or a function that decodes it. The reference's samples are
                cut off here. Where only likelihood ranks the takes, the function is called for those that may be chosen only.
            ended: Whether the model generated its end token.
            log_probability: See `lm.engine.Finished`.
        """
        if not self.is_wanted(candidate):
            return
        likelihood = mean_probability(log_probability, len(codes) + ended)
        if callable(decoded) and not self._ranks_without_audio:
            decoded = decoded()
        self._add(self._checked(candidate, codes, decoded, ended, likelihood))

    @property
    def _ranks_without_audio(self) -> bool:
        """Whether the takes can be ranked before they are decoded."""
        return (
            self._together > 1
            and self.options.good_enough is None
            and all(verifier.name == LikelihoodVerifier.name for verifier in self.verifiers)
        )

    def _checked(
        self,
        candidate: Candidate,
        codes: tuple[int, ...],
        decoded: np.ndarray | Callable[[], np.ndarray],
        ended: bool,
        likelihood: float | None,
    ) -> JudgedTake:
        """A complete take with its problems and scores. It is not decoded if they do not need its audio."""
        import numpy as np

        decode = decoded if callable(decoded) else None
        reference, samples = self._split(np.zeros(0, np.float32) if callable(decoded) else decoded)
        problems = self._find_problems(codes, samples, ended)
        scores: dict[str, float] = {}
        if not problems:  # the expensive verifiers are not needed for a take that has failed already
            take = self._take(reference, samples, likelihood)
            for verifier in self.verifiers:
                score = verifier.score(take)
                problems += score.problems
                if score.value is not None:
                    scores[verifier.name] = score.value
        kept = None if decode is not None else samples
        return JudgedTake(candidate, codes, kept, problems, scores, likelihood, decode, ended)

    def _split(self, decoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The samples of the reference and those of the speech."""
        length = len(self.with_reference(())) * self._codec.samples_per_code
        return decoded[:length], decoded[length:]

    def _is_good_enough(self, take: JudgedTake) -> bool:
        wanted = self.options.good_enough
        return wanted is not None and not take.problems and take.score >= wanted - _EQUAL

    def _add(self, take: JudgedTake) -> None:
        self._judged[take.candidate.number] = take
        good = [number for number, other in self._judged.items() if self._is_good_enough(other)]
        if good:
            first = min(good)
            self.finished = all(number in self._judged for number in range(self._first, first))
            return
        if len(self._judged) == self._started:
            self._decode_best()
        passed = any(not other.problems for other in self._judged.values())
        self.finished = len(self._judged) == self._started and (passed or self._started >= self._most)

    def _decode_best(self) -> None:
        """Decode the best take; if the checks of its sound find problems, decode the next best, and so on."""
        while True:
            best = min(self._judged.values(), key=lambda take: take.rank)
            if best.decode is None:
                return
            self._judged[best.candidate.number] = self._checked(
                best.candidate, best.codes, best.decode(), best.ended, best.likelihood
            )

    def best(self) -> tuple[Utterance, np.ndarray]:
        """The take that is used, and its samples, float32 [n]."""
        chosen, reason = self._choose()
        others = [take for take in self._in_order() if take is not chosen]
        samples = chosen.samples
        if samples is None:
            samples = self._split(self._codec.decode(self.with_reference(chosen.codes)))[1]
        has_candidates = bool(others) or bool(self.verifiers)
        return Utterance(
            text=self.chunk.text,
            seconds=len(samples) / self._codec.sampling_rate,
            codes=chosen.codes,
            # A search is repeated as a whole, from the seed of the request.
            seed=(self.options.seed or 0) if self.options.search else chosen.candidate.seed,
            attempts=len(self._judged),
            problems=chosen.problems,
            retried=tuple(problem for take in others for problem in take.problems),
            wall_s=time.monotonic() - self._began,
            pause_s=self.chunk.pause_s,
            sentences=self.chunk.sentences,
            chapter=self.chunk.chapter,
            voice=self.chunk.voice,
            candidates=tuple(self._row(take, take is chosen) for take in self._in_order()) if has_candidates else (),
            chosen_because=reason if others else "",
        ), samples

    def _in_order(self) -> list[JudgedTake]:
        return [self._judged[number] for number in sorted(self._judged)]

    def _row(self, take: JudgedTake, is_chosen: bool) -> dict[str, Any]:
        """The description of a take in reports."""
        scores = dict(take.scores)
        if take.likelihood is not None:
            scores.setdefault("likelihood", take.likelihood)
        return {
            "seed": take.candidate.seed,
            "seconds": round(len(take.codes) / self._codes_per_second, 3),
            "scores": {name: round(value, 4) for name, value in scores.items()},
            "problems": list(take.problems),
            "dropped": take.is_dropped,
            "chosen": is_chosen,
        }

    def _choose(self) -> tuple[JudgedTake, str]:
        """The best take, and the reason in words."""
        takes = self._in_order()
        good = next((take for take in takes if self._is_good_enough(take)), None)
        if good is not None:
            return good, f"the first that is good enough ({_in_words(good)})"
        best = min(takes, key=lambda take: take.rank)
        rivals = [take for take in takes if take is not best and take.rank[:2] == best.rank[:2]]
        if not rivals:
            return best, "the only one that passes its checks" if not best.problems else "it fails the fewest checks"
        if all(take.rank[2] > best.rank[2] for take in rivals):
            return best, f"the best score ({_in_words(best)})"
        scored = f"none scores higher ({_in_words(best)}), and " if best.scores else ""
        if best.likelihood is not None:
            return best, f"{scored}it is the likeliest to the model ({best.likelihood:.3f})"
        return best, f"{scored}it is the first"


def _in_words(take: JudgedTake) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in take.scores.items()) or "it passes its checks"
