"""Recordings and their texts -> the files that Llasa is trained from.

Out, in one folder (the published form: zhenye234/LLaSA_training reads it as it is):

    {split}_input_ids.memmap       int32 (N, 2048), C order; split: train, val
    {split}_input_ids_shape.npy    the two numbers
    {split}_speakers.txt           a line a row, where rows have speakers (an addition: the published rows have none)
    index.json                     what went in, what was left out and why; written last

A row is text and codes with their markers, END always there, then padding; the chat template is added when it is read.
Encoding is the long part. Codes are kept as they are made (`codes.py`): the same command again goes on from there.
Clips are never all in memory; paths and texts are.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llasa_cli.codec.features import HOP, SAMPLING_RATE_HZ
from llasa_cli.codec.model import SHORTEST_CLIP, Codec
from llasa_cli.errors import AudioError, UsageError
from llasa_cli.protocol import Protocol
from llasa_cli.settings import CODES_PER_SECOND, CONTEXT_TOKENS, PrepareOptions
from llasa_cli.training.codes import CodeStore, clip_key
from llasa_cli.training.sources import Problem, Row, read_rows

BATCH_CODES = 24 * CODES_PER_SECOND
"""Encoded together at most: on a CPU larger batches are no faster."""
_QUIETEST = 1e-4
"""A clip whose loudest sample is below this (-80 dB) holds no speech."""


@dataclass(frozen=True)
class Progress:
    """How far the encoding is; `seconds` is audio, of clips done in this run."""

    clips: int
    all_clips: int
    seconds: float


@dataclass(frozen=True)
class _Clip:
    row: Row
    key: str
    codes: int
    """As the file's header tells; a resampled clip may have one more or less."""


def prepare(
    options: PrepareOptions,
    protocol: Protocol,
    codec: Codec,
    fingerprint: str,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Check, encode and write everything.

    Args:
        options: Where from, where to.
        protocol: Of the checkpoint (or tokenizer folder) that will be trained.
        codec: Its codec.
        fingerprint: Of the tokenizer, see `tokenizer_fingerprint`; rows of one tokenizer are noise to another.

    Returns:
        What `index.json` holds.

    Raises:
        UsageError: A source that is not there, or nothing usable in all of them.
    """
    if protocol.code_count != codec.code_count:
        raise UsageError(
            f"The model has {protocol.code_count} speech codes, the codec {codec.code_count}.",
            "Name the codec that belongs to the model with --codec.",
        )
    protocol.speakers = ()  # training may bring new ones
    options.output.mkdir(parents=True, exist_ok=True)
    problems: list[Problem] = []
    clips = list(_usable(_all_rows(options.sources, problems), protocol, options.speaker, problems))
    with CodeStore(options.output, codec.identity) as store:
        failed = _encode(clips, codec, store, on_progress)
        rows = [clip for clip in clips if clip.key in store]
        problems += [Problem(clip.row.where, failed[clip.key]) for clip in clips if clip.key in failed]
        if not rows:
            _write_json(options.output / "skipped.json", _left_out(problems))
            raise UsageError(
                "No row could be used: " + (problems[0].reason if problems else "there are none") + ".",
                f"The reason for each is in {options.output / 'skipped.json'}.",
            )
        return _write(options, rows, store, protocol, codec, fingerprint, problems)


def tokenizer_fingerprint(folder: Path) -> str:
    """12 hexadecimal digits of a checkpoint's tokenizer.json."""
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()[:12]


def named_codec(folder: Path) -> str | None:
    """The codec that a checkpoint's `llasa.json` names."""
    about = folder / "llasa.json"
    return json.loads(about.read_text(encoding="utf-8")).get("codec") if about.is_file() else None


# --- checking ---


def _all_rows(sources: Sequence[Path], problems: list[Problem]) -> Iterator[Row]:
    for source in sources:
        for row in read_rows(source):
            if isinstance(row, Problem):
                problems.append(row)
            else:
                yield row


def _usable(rows: Iterable[Row], protocol: Protocol, speaker: str | None, problems: list[Problem]) -> Iterator[_Clip]:
    """Rows whose audio opens and which fit into the context; judged by the file's header, before anything is encoded."""
    import soundfile

    frames: dict[str | None, int] = {}
    for row in rows:
        if row.speaker is None and speaker is not None:
            row = Row(row.where, row.audio, row.text, speaker)
        try:
            if row.speaker not in frames:
                frames[row.speaker] = len(protocol.wrap_row([], [], row.speaker)[0])
            about = soundfile.info(str(row.audio))
            key = clip_key(row.audio)
        except UsageError as error:
            problems.append(Problem(row.where, error.message))
            continue
        except FileNotFoundError:
            problems.append(Problem(row.where, "no such audio file"))
            continue
        except (OSError, RuntimeError):  # soundfile's errors are RuntimeErrors
            missing = not row.audio.is_file()
            problems.append(Problem(row.where, "no such audio file" if missing else "audio can't be read"))
            continue
        samples = about.frames * SAMPLING_RATE_HZ // about.samplerate
        codes = samples // HOP
        text = len(protocol.text_ids(row.text))
        if samples < SHORTEST_CLIP:
            problems.append(Problem(row.where, "shorter than 40 ms"))
        elif text == 0:
            problems.append(Problem(row.where, "no text"))
        elif frames[row.speaker] + text + codes > CONTEXT_TOKENS:
            problems.append(Problem(row.where, f"too long: over {CONTEXT_TOKENS} tokens"))
        elif text > codes:
            problems.append(Problem(row.where, "more text than can be said in its time"))
        else:
            yield _Clip(row, key, codes)


# --- encoding ---


def _encode(
    clips: Sequence[_Clip],
    codec: Codec,
    store: CodeStore,
    on_progress: Callable[[Progress], None] | None,
) -> dict[str, str]:
    """Codes of all clips into the store; of those that can't be, key and reason come back."""
    failed: dict[str, str] = {}
    missing = {clip.key: clip for clip in clips if clip.key not in store}
    done, seconds = 0, 0.0
    for batch in _batches(sorted(missing.values(), key=lambda clip: clip.codes)):
        readable = []
        for clip in batch:
            try:
                readable.append((clip.key, _read(clip.row.audio)))
            except AudioError as error:
                failed[clip.key] = error.message
        if readable:
            made = codec.encode_batch([samples for _, samples in readable])
            store.add([(key, codes) for (key, _), codes in zip(readable, made, strict=True)])
        done += len(batch)
        seconds += sum(len(samples) for _, samples in readable) / SAMPLING_RATE_HZ
        if on_progress is not None:
            on_progress(Progress(done, len(missing), seconds))
    return failed


def _batches(clips: Iterable[_Clip]) -> Iterator[list[_Clip]]:
    """Clips of one length together: only those may share a batch, because the encoder normalises over time."""
    batch: list[_Clip] = []
    for clip in clips:
        if batch and (clip.codes != batch[0].codes or clip.codes * (len(batch) + 1) > BATCH_CODES):
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch


def _read(path: Path) -> np.ndarray:
    """float32 [n], mono, 16 kHz.

    Raises:
        AudioError: In a few words, the same for the same cause.
    """
    from llasa_cli.audio.read import read_clip

    try:
        samples = read_clip(path, SAMPLING_RATE_HZ)
    except AudioError as error:
        raise AudioError("audio can't be read") from error
    if len(samples) < SHORTEST_CLIP:
        raise AudioError("shorter than 40 ms")
    if np.abs(samples).max() < _QUIETEST:
        raise AudioError("silent")
    return samples


# --- writing ---


class _Split:
    """One split being written: rows go to part files, which get their names in `finish`."""

    def __init__(self, folder: Path, name: str, pad_id: int) -> None:
        self._folder, self._name = folder, name
        self._blank = np.full(CONTEXT_TOKENS, pad_id, np.int32)
        self._part = folder / f"{name}_input_ids.memmap.part"
        self._file = self._part.open("wb")
        self.speakers: list[str] = []
        self.codes = self.tokens = 0

    def add(self, ids: Sequence[int], codes: int, speaker: str | None) -> None:
        row = self._blank.copy()
        row[: len(ids)] = ids
        self._file.write(row.tobytes())
        self.speakers.append(speaker or "")
        self.codes += codes
        self.tokens += len(ids)

    def finish(self) -> dict[str, Any]:
        """Name the files; of a split without rows, none is left."""
        self._file.close()
        data = self._folder / f"{self._name}_input_ids.memmap"
        shape = self._folder / f"{self._name}_input_ids_shape.npy"
        names = self._folder / f"{self._name}_speakers.txt"
        for stale in (data, shape, names):
            stale.unlink(missing_ok=True)
        count = len(self.speakers)
        if count == 0:
            self._part.unlink()
        else:
            np.save(shape, np.array([count, CONTEXT_TOKENS]))
            if any(self.speakers):
                names.write_text("".join(name + "\n" for name in self.speakers), encoding="utf-8")
            self._part.replace(data)
        hours = round(self.codes / CODES_PER_SECOND / 3600, 3)
        return {"rows": count, "hours": hours, "codes": self.codes, "tokens": self.tokens}


def _write(
    options: PrepareOptions,
    clips: Sequence[_Clip],
    store: CodeStore,
    protocol: Protocol,
    codec: Codec,
    fingerprint: str,
    problems: list[Problem],
) -> dict[str, Any]:
    index_file = options.output / "index.json"
    index_file.unlink(missing_ok=True)
    held_out = _held_out(len(clips), options.validation, options.seed)
    splits = {name: _Split(options.output, name, protocol.pad_id) for name in ("train", "val")}
    speakers: Counter[str] = Counter()
    for number, clip in enumerate(clips):
        codes = store[clip.key].tolist()
        text = protocol.text_ids(clip.row.text)
        if len(protocol.wrap_row(text, codes, clip.row.speaker)[0]) > CONTEXT_TOKENS:
            problems.append(Problem(clip.row.where, f"too long: over {CONTEXT_TOKENS} tokens"))
            continue
        split = splits["val" if number in held_out else "train"]
        split.add(protocol.row(clip.row.text, codes), len(codes), clip.row.speaker)
        if clip.row.speaker:
            speakers[clip.row.speaker] += 1
    index = {
        "format": 1,
        "splits": {name: split.finish() for name, split in splits.items()},
        "speakers": dict(sorted(speakers.items())),
        "codec": codec.identity,
        "tokenizer": fingerprint,
        "first_code_id": protocol.first_code_id,
        "code_count": protocol.code_count,
        "pad_id": protocol.pad_id,
        "seed": options.seed,
        "sources": [str(source) for source in options.sources],
        "skipped": _left_out(problems),
    }
    _write_json(index_file, index)
    return index


def _held_out(count: int, validation: float, seed: int) -> set[int]:
    """Which rows are kept for validation: a share (below 1) or a number of them, never all."""
    wanted = round(validation) if validation >= 1 else round(validation * count)
    if validation > 0:
        wanted = max(1, wanted)
    order = np.random.default_rng(seed).permutation(count)
    return set(order[: min(wanted, count - 1)].tolist())


def _left_out(problems: Sequence[Problem]) -> dict[str, Any]:
    counts = Counter(problem.reason for problem in problems)
    return {
        "reasons": dict(counts.most_common()),
        "rows": [{"row": problem.where, "reason": problem.reason} for problem in problems],
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
