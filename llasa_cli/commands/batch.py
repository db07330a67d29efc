"""`llasa batch`: a list of texts, a folder of files."""

from __future__ import annotations

import hashlib
import json as json_module
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from llasa_cli.commands import options as flags
from llasa_cli.commands.clone import Hearing, hear_reference
from llasa_cli.commands.delivery import load_speech, shorten
from llasa_cli.commands.report import Report, as_json, claim_stdout, result, speed
from llasa_cli.commands.voices import ChosenVoice, chosen_voice
from llasa_cli.errors import BatchError, LlasaError, UsageError
from llasa_cli.settings import ModelOptions, SpeechOptions

if TYPE_CHECKING:
    from llasa_cli.audio.reference import Clip
    from llasa_cli.items import Item
    from llasa_cli.protocol import Reference
    from llasa_cli.speech import Speech, Take

RESULTS = "results.jsonl"


def batch(
    list_file: Annotated[
        str, typer.Argument(metavar="LIST", help="Lines, id|text, .csv, .tsv or .jsonl; - is standard input.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the files and results.jsonl.")],
    voice: flags.Voice = None,
    speaker: flags.Speaker = None,
    ref: Annotated[
        Path | None, typer.Option("--ref", "--ref-audio", "--ref_audio", help="A clip of the voice for all items.")
    ] = None,
    ref_text: flags.ReferenceText = None,
    asr: flags.Recogniser = flags.DEFAULT_RECOGNISER,
    language: flags.Language = None,
    file_format: Annotated[str, typer.Option("--format", help="wav, flac, ogg, opus or mp3.")] = "wav",
    model: flags.Model = flags.DEFAULT_MODEL,
    codec: flags.Codec = None,
    adapter: flags.AdapterFolder = None,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
    seed: flags.Seed = None,
    temperature: flags.Temperature = None,
    top_p: flags.TopP = None,
    top_k: flags.TopK = None,
    min_p: flags.MinP = None,
    repetition_penalty: flags.RepetitionPenalty = None,
    max_seconds: flags.MaxSeconds = None,
    retries: flags.Retries = flags.DEFAULT_RETRIES,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = False,
    json: flags.Json = False,
) -> None:
    """Speak a list, one file an item. Items that are done already are left; a bad one does not stop the rest."""
    from llasa_cli.audio.sinks import pick_format

    claim_stdout()
    wanted = flags.speech_options(
        temperature, top_p, top_k, min_p, repetition_penalty, max_seconds, seed, None, retries
    )
    ending = pick_format(None, file_format)
    items = [_with_reference(item, ref, ref_text) for item in _read_list(list_file)]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LlasaError(f"The folder {output} can't be made: {error.strerror}.") from error
    models = flags.model_options(model, codec, device, dtype, adapter)
    voices = _Voices(models, chosen_voice(voice, speaker, models))
    with Report(quiet, verbose) as report:
        hearing = Hearing(asr, language, device, report)
        failed = _Run(models, wanted, output, ending, voices, hearing, report, json).all(items)
    if failed:
        raise BatchError(f"{failed} of {len(items)} items failed.", f"{output / RESULTS} says why.")


def _read_list(name: str) -> list[Item]:
    import sys

    from llasa_cli.items import read_items

    path = Path() if name == "-" else Path(name)
    try:
        data = sys.stdin.buffer.read() if name == "-" else path.read_bytes()
        return read_items(data.decode("utf-8-sig"), path.suffix.lower(), path.parent)
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 text.", "Convert it first: iconv -t utf-8.") from error
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}.") from error


def _with_reference(item: Item, ref: Path | None, ref_text: str | None) -> Item:
    """The list's own voice counts before the flag's; clip and transcript come from the same place."""
    if item.ref is not None or item.voice is not None or ref is None:
        return item
    return replace(item, ref=ref, ref_text=ref_text)


class _Voices:
    """Whose voice each item has: its own by name, else that of the flags."""

    def __init__(self, models: ModelOptions, default: ChosenVoice) -> None:
        self._models = models
        self._chosen: dict[str | None, ChosenVoice] = {None: default}

    @property
    def default(self) -> ChosenVoice:
        return self._chosen[None]

    def of(self, item: Item) -> ChosenVoice:
        """Raises UsageError for a name that nobody has."""
        if item.voice not in self._chosen:
            self._chosen[item.voice] = chosen_voice(item.voice, None, self._models)
        return self._chosen[item.voice]

    def trace(self, item: Item) -> str:
        """What decides how the item's voice sounds; a voice that can't be had has none."""
        try:
            chosen = self.of(item)
        except LlasaError:
            return ""
        return hashlib.sha256(repr(chosen).encode()).hexdigest()


class _Run:
    """One batch: its model is loaded when the first item needs it, and only then."""

    def __init__(
        self,
        models: ModelOptions,
        wanted: SpeechOptions,
        folder: Path,
        ending: str,
        voices: _Voices,
        hearing: Hearing,
        report: Report,
        json: bool,
    ) -> None:
        self._voices, self._hearing = voices, hearing
        self._models, self._wanted = models, wanted
        self._folder, self._ending = folder, ending
        self._report, self._json = report, json
        self._speech: Speech | None = None
        self._revision = ""
        self._references: dict[tuple[Path, str | None], Reference] = {}

    def all(self, items: list[Item]) -> int:
        """Speak what is not done yet; -> how many failed."""
        from llasa_cli.hub.cache import weights_of
        from llasa_cli.items import content_key

        self._revision = weights_of(self._models)
        done = {(row["key"], row.get("path")) for row in _rows(self._folder / RESULTS) if row.get("status") == "ok"}
        settings = [asdict(self._wanted), self._ending, self._models.codec, self._models.dtype, self._revision]
        failed, seconds, left = 0, 0.0, 0
        began = time.monotonic()
        with _open_log(self._folder / RESULTS) as log:
            for count, item in enumerate(items, 1):
                key = content_key(item, self._models.model, [*settings, self._voices.trace(item)])
                path = self._folder / f"{item.name}.{self._ending}"
                if (key, path.name) in done and path.is_file():
                    left += 1
                    continue
                row = self._one(item, path) | {"key": key}
                _append(log, row)
                failed += row["status"] != "ok"
                seconds += row.get("seconds", 0.0)
                if self._json:
                    result(as_json(row))
                elif row["status"] == "ok":
                    result(str(path))
                spent = time.monotonic() - began
                self._report.progress(
                    f"{count} of {len(items)} items, {speed(seconds, spent)}{_left(spent, count - left, len(items) - count)}"
                )
        self._report.line(
            f"{len(items) - failed - left} items made, {left} were there, {failed} failed; {speed(seconds, time.monotonic() - began)}"
        )
        return failed

    def _one(self, item: Item, path: Path) -> dict[str, Any]:
        row: dict[str, Any] = {"id": item.name, "line": item.number, "path": None}
        row |= {"model": self._models.model, "revision": self._revision}
        clip = None
        try:
            if not item.text.strip():
                raise UsageError("The text is empty.")
            if item.ref is None:
                self._voices.of(item)
            elif (item.ref, item.ref_text) not in self._references:  # a clip that several items have is read once
                clip = self._clip(item.ref, item.ref_text)
        except LlasaError as error:
            return row | self._failure(item, error)
        # Not one item's failure but that of all of them.
        speech = self._load()
        try:
            takes = self._speak(speech, item, clip, path)
        except LlasaError as error:
            return row | self._failure(item, error)
        problems = [problem for take in takes for problem in take.problems]
        for problem in problems:
            self._report.line(f"warning: line {item.number} ({shorten(item.text)}): {problem}")
        seconds = round(sum(take.seconds for take in takes), 3)
        return row | {
            "path": path.name,
            "status": "ok",
            "seconds": seconds,
            "seed": takes[0].seed,
            "tries": sum(take.tries for take in takes),
            "problems": problems,
        }

    def _failure(self, item: Item, error: LlasaError) -> dict[str, Any]:
        self._report.line(f"error: line {item.number} ({shorten(item.text)}): {error.message}")
        return {"status": "error", "error": f"{error.message} {error.hint}".strip()}

    def _load(self) -> Speech:
        if self._speech is None:
            self._speech = load_speech(self._models, self._report, self._voices.default.speaker)
        return self._speech

    def _clip(self, path: Path, transcript: str | None) -> Clip:
        clip = hear_reference(path, transcript, self._hearing).clip
        for warning in clip.warnings:
            self._report.line(f"warning: {path}: {warning}")
        return clip

    def _speak(self, speech: Speech, item: Item, clip: Clip | None, path: Path) -> list[Take]:
        import secrets

        from llasa_cli.audio.sinks import FileSink
        from llasa_cli.speech import LARGEST_SEED

        chosen = self._voices.of(item) if item.ref is None else ChosenVoice()
        reference = chosen.reference
        if item.ref is not None:
            key = (item.ref, item.ref_text)
            if clip is not None:
                self._references[key] = speech.encode_reference(clip.samples, clip.transcript)
            reference = self._references[key]
        seed = item.seed if item.seed is not None else self._wanted.seed
        wanted = replace(
            self._wanted,
            seed=seed if seed is not None else secrets.randbelow(LARGEST_SEED),
            speaker=chosen.speaker,
        )
        takes: list[Take] = []
        with FileSink(path, self._ending) as sink:
            for chunk in speech.say(item.text, wanted, reference, takes.append):
                sink.write(chunk)
        return takes


def _left(spent: float, made: int, still: int) -> str:
    return f", {spent / made * still / 60:.0f} min left" if made else ""


def _open_log(path: Path) -> TextIO:
    """Open for appending, on a line of its own: a kill may have cut the last one."""
    try:
        log = path.open("a+", encoding="utf-8")
        if log.tell():
            with path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    log.write("\n")
        return log
    except OSError as error:
        raise LlasaError(f"{path} can't be written: {error.strerror}.") from error


def _append(log: TextIO, row: dict[str, Any]) -> None:
    """One line, on the disk before the next item begins."""
    try:
        log.write(as_json(row) + "\n")
        log.flush()
        os.fsync(log.fileno())
    except OSError as error:
        raise LlasaError(f"{RESULTS} can't be written: {error.strerror}.") from error


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Earlier results; a line cut by a kill is none."""
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json_module.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "key" in row:
            yield row
