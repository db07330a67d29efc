"""Does a clone sound like its own speaker, and is it still understood?

    python benchmarks/cloning.py CLIPS [--model tiny] [--clips 10] [--sentences 1] [--keep FOLDER] [--list]
    python benchmarks/cloning.py CLIPS --make package/voices [--clips 10] [--blends 8]       makes the clips

CLIPS has a folder for each speaker with NAME.wav (or .flac) and NAME.txt, none of which the model was trained on. `--make` has
the teachers of `recipes/heart` speak the first sentences of held_out.txt: the built-in voice's speakers, and blends of Kokoro's
styles that the built-in voice has never heard. It needs the packages and the style vectors in `recipes/heart/README.md`.

Each clip is used once as a reference, checked as in `llasa clone`. The sentences are from the other end of held_out.txt. The
speaker of a clone is the one whose clips, without the reference itself, are most similar by resemblyzer (mean cosine). The
clips themselves, and the clips through the codec, are judged too, since a clone can't be better than they are. The word error
rate by pocketsphinx is compared with that of plain `say` with the same sentences and seeds, by the speaker of that name if the
model has one. The output is one JSON line, with 95 % bootstrap intervals over the sentences.

A voice that is unknown to the model has its own folder, which `--unseen` names. Such a clone only has to be more similar to its
reference than to each of the other speakers.

    python benchmarks/cloning.py clips --clips 6 --unseen $(cd clips; ls -d blend*)

Use the clips at their own levels, since the level of a clip must not matter.

resemblyzer includes its weights; only this benchmark needs it:
pip install resemblyzer --no-deps webrtcvad-wheels librosa
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "recipes" / "heart")]

from judge import Judges, Scores  # noqa: E402
from llasa_cli.audio.reader import read_clip  # noqa: E402
from llasa_cli.settings import ModelOptions, SpeechOptions  # noqa: E402
from llasa_cli.synthesis.synthesizer import Synthesizer  # noqa: E402
from llasa_cli.voices.reference import check_sound, check_transcript  # noqa: E402

RATE_HZ = 16_000


@dataclass(frozen=True)
class Voice:
    """A reference clip as the model gets it, float32 [n] at 16 kHz, with its transcript."""

    speaker: str
    name: str
    samples: np.ndarray
    text: str


@dataclass(frozen=True)
class Made:
    """One sentence in a clip's voice."""

    voice: Voice
    sentence: str
    samples: np.ndarray
    problems: int


def make_clips(folder: Path, styles: Path, lines: list[str], blends: int) -> None:
    """Each line spoken by each speaker of the built-in voice, and by `blends` speakers that are in no training data."""
    import soundfile

    from corpus import HELD_OUT_BLENDS, blend_of, trim
    from teachers import ENGLISH_PREFIXES, NAMED_SPEAKERS, Heart, Kokoro

    heart, kokoro = Heart(), Kokoro(styles)
    english = [style for style in kokoro.styles if style.startswith(ENGLISH_PREFIXES)]
    speakers = {name: {style: 1.0} for name, style in NAMED_SPEAKERS.items()}
    speakers |= {f"blend{n}": blend_of(n, english) for n in range(HELD_OUT_BLENDS, HELD_OUT_BLENDS + blends)}
    for speaker, blend in speakers.items():
        (folder / speaker).mkdir(parents=True, exist_ok=True)
        for number, line in enumerate(lines):
            spoken = heart.synthesize(line, number) if speaker == "heart" else kokoro.synthesize(line, blend)
            soundfile.write(folder / speaker / f"{number:03}.wav", trim(spoken).samples, RATE_HZ)
            (folder / speaker / f"{number:03}.txt").write_text(line + "\n", encoding="utf-8")


def read_voices(folder: Path, most: int) -> list[Voice]:
    """At most `most` clips of each speaker, of those with a transcript."""
    voices = []
    for speaker in sorted(path for path in folder.iterdir() if path.is_dir()):
        clips = sorted(path for path in speaker.iterdir() if path.suffix in (".wav", ".flac"))
        with_text = [path for path in clips if path.with_suffix(".txt").is_file()][:most]
        for path in with_text:
            text = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
            clip = check_transcript(check_sound(read_clip(path), RATE_HZ), text)
            voices.append(Voice(speaker.name, path.stem, clip.samples, clip.transcript))
    if len({voice.speaker for voice in voices}) < 2:
        raise SystemExit(f"{folder} needs two speakers' folders or more, of NAME.wav and NAME.txt.")
    return voices


class Ears:
    """Compares sounds with every speaker's clips by resemblyzer's embeddings."""

    def __init__(self, judges: Judges, voices: list[Voice]) -> None:
        self.embed = judges.embedding
        self._known = [(voice, self.embed(voice.samples)) for voice in voices]

    def similarities(self, samples: np.ndarray, without: Voice) -> dict[str, float]:
        """Speaker -> mean cosine to that speaker's clips, without the clip `without`."""
        embedding = self.embed(samples)
        found: dict[str, list[float]] = {}
        for voice, known in self._known:
            if voice is not without:
                found.setdefault(voice.speaker, []).append(float(embedding @ known))
        return {speaker: float(np.mean(values)) for speaker, values in found.items()}


def like_the_reference(ears: Ears, sounds: list[tuple[Voice, np.ndarray]]) -> dict[str, Any]:
    """The share of sounds that are more similar to their reference clip than to each known speaker."""
    return _nearer(
        [
            (voice, float(ears.embed(samples) @ ears.embed(voice.samples)), ears.similarities(samples, voice))
            for voice, samples in sounds
        ]
    )


def nearest(ears: Ears, sounds: list[tuple[Voice, np.ndarray]]) -> dict[str, Any]:
    """The share of sounds whose nearest speaker is their own."""
    rows = []
    for voice, samples in sounds:
        found = ears.similarities(samples, voice)
        rows.append((voice, found.pop(voice.speaker), found))
    return _nearer(rows)


def _nearer(rows: list[tuple[Voice, float, dict[str, float]]]) -> dict[str, Any]:
    """From (voice, similarity to its own speaker, similarities to others): how often its own is the largest, and by how much."""
    scores, mistaken = Scores(), Counter[str]()
    for voice, own, others in rows:
        best = max(others, key=lambda speaker: others[speaker])
        margin = own - others[best]
        scores.add("share", margin > 0)
        scores.add("margin", margin)
        if margin <= 0:
            mistaken[f"{voice.speaker} for {best}"] += 1
    return scores.summary() | {"mistaken": dict(mistaken)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument(
        "--make", type=Path, metavar="STYLES", help="make the clips; kokoro-js's folder of style vectors"
    )
    parser.add_argument("--blends", type=int, default=8, help="with --make: speakers that are in no training data")
    parser.add_argument("--clips", dest="most", type=int, default=10, help="of each speaker")
    parser.add_argument("--unseen", nargs="*", default=[], help="speakers' folders that are no voices of the model")
    parser.add_argument("--sentences", type=int, default=1, help="said in the voice of each clip")
    parser.add_argument("--texts", type=Path, default=ROOT / "recipes" / "heart" / "held_out.txt")
    parser.add_argument("--keep", type=Path, help="folder for the sound")
    parser.add_argument("--list", action="store_true", help="show each sentence's similarities")
    options = parser.parse_args()
    lines = [line for line in options.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    if options.make is not None:
        make_clips(options.clips, options.make, lines[: options.most], options.blends)
        return
    voices = read_voices(options.clips, options.most)
    seen = [voice for voice in voices if voice.speaker not in options.unseen]
    judges, rates = Judges(), Scores()
    ears = Ears(judges, seen)
    speech = Synthesizer.load(ModelOptions(model=options.model))
    spoken_by_clips = {voice.text for voice in voices}
    sentences = [line for line in reversed(lines) if line not in spoken_by_clips]
    made: list[Made] = []
    decoded: list[tuple[Voice, np.ndarray]] = []
    for number, voice in enumerate(voices):
        reference = speech.encode_reference(voice.samples, voice.text)
        decoded.append((voice, speech.codec.decode(reference.codes)))
        for turn in range(options.sentences):
            seed = number * options.sentences + turn
            sentence = sentences[seed % len(sentences)]
            takes: list[Any] = []
            tag = voice.speaker if voice.speaker in speech.speakers else None
            samples = speech.synthesize(sentence, SpeechOptions(seed=seed), reference, takes.append)
            made.append(Made(voice, sentence, samples, sum(len(take.problems) for take in takes)))
            plain = speech.synthesize(sentence, SpeechOptions(seed=seed, speaker=tag))
            (wrong, words), (wrong_plain, _) = (
                judges.errors(sentence, judges.sphinx(sound), sphinx=True) for sound in (samples, plain)
            )
            rates.add("clone", wrong, words)
            rates.add("say", wrong_plain, words)
            rates.add("difference", wrong - wrong_plain, words)
            if options.list:
                found = {name: round(value, 2) for name, value in ears.similarities(samples, voice).items()}
                print(voice.speaker, voice.name, repr(sentence), found, wrong, wrong_plain, words, file=sys.stderr)
            if options.keep is not None:
                import soundfile

                options.keep.mkdir(parents=True, exist_ok=True)
                soundfile.write(options.keep / f"{voice.speaker}-{voice.name}-{turn}.wav", samples, RATE_HZ)
    result = {
        "model": options.model,
        "speakers": len({voice.speaker for voice in voices}),
        "clips": len(voices),
        "sentences": len(made),
        "nearest_own": nearest(
            ears, [(one.voice, one.samples) for one in made if one.voice.speaker not in options.unseen]
        ),
        "nearest_own_of_clips": nearest(ears, [(voice, voice.samples) for voice in seen]),
        "nearest_own_through_codec": nearest(
            ears, [(voice, sound) for voice, sound in decoded if voice.speaker not in options.unseen]
        ),
        "word_error_rate": rates.summary(),
        "takes_with_problems": sum(one.problems > 0 for one in made),
    }
    if options.unseen:
        others = [(one.voice, one.samples) for one in made if one.voice.speaker in options.unseen]
        through = [(voice, sound) for voice, sound in decoded if voice.speaker in options.unseen]
        result["unseen"] = {
            "like_the_reference": like_the_reference(ears, others),
            "like_the_reference_through_codec": like_the_reference(ears, through),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
