"""The options of a batch, and of a long text whose passages are spoken as one.

The annotations are evaluated: this module doesn't postpone them.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from llasa_cli.audio.formats import FILE_FORMATS
from llasa_cli.options import Flag, Options
from llasa_cli.settings import (
    LOUDNESS_FLAG,
    NO_VERIFIERS,
    REFERENCE_FLAG,
    SUBTITLES_BY,
    SUBTITLES_BY_FLAG,
    SUBTITLES_FLAG,
    WORDS_FLAG,
    WORDS_PER_CUE_FLAG,
    SideFileOptions,
    VerifierOptions,
    WordTiming,
)
from llasa_cli.wording import listed

ENGINES = ("llasa", "vllm")
"""The values of `--engine`: what runs the language model of a batch."""

ITEM_PAUSE_S = 0.6
"""Seconds between two items in one file, about the pause between two paragraphs."""

PASSAGE_SLOTS = {"cpu": 16, "cuda": 32, "mps": 16}
"""Passages of one text that a worker speaks at once; on a CPU fewer if memory is short. On a GPU the number is fixed, because
it decides the last bits of the sound."""

_SCHEDULING = "Many at once"

SLOTS_FLAG = Flag(
    "Texts that each worker speaks at once.",
    names=("--batch-size",),
    minimum=1,
    maximum=4096,
    panel=_SCHEDULING,
    default_text="what the free memory has room for",
)
WORKERS_FLAG = Flag(
    "Processes on each device, each with its own model; with --ray, actors in total.",
    minimum=1,
    maximum=4096,
    panel=_SCHEDULING,
)
DEVICES_FLAG = Flag("Devices with a process each: 0,1,2 or all (every GPU), or cpu,cpu.", panel=_SCHEDULING)
RAY_FLAG = Flag(
    "Distribute over a Ray cluster: its address, auto, or local for a new one.",
    metavar="ADDRESS",
    panel=_SCHEDULING,
)


@dataclass(frozen=True)
class SchedulingOptions(Options):
    """The number of passages of a long text that are spoken at once, and their devices."""

    slots: Annotated[
        int | None,
        replace(
            SLOTS_FLAG,
            help="Passages of a book or long text that each worker speaks at once.",
            default_text=f"{PASSAGE_SLOTS['cpu']} on a CPU, {PASSAGE_SLOTS['cuda']} on a GPU",
        ),
    ] = None
    workers: Annotated[int | None, WORKERS_FLAG] = None
    devices: Annotated[str | None, DEVICES_FLAG] = None
    ray: Annotated[str | None, RAY_FLAG] = None

    @property
    def is_given(self) -> bool:
        """Whether any of them was asked for."""
        return self != SchedulingOptions()

    @property
    def is_local(self) -> bool:
        """Whether one thread of this process does the work."""
        return self.ray is None and self.devices is None and self.workers in (None, 1)


@dataclass(frozen=True)
class BatchOptions(Options, SideFileOptions):
    """A list to a folder of files, or to one file."""

    source: Annotated[
        str,
        Flag("Lines, id|text, .csv, .tsv or .jsonl; - is standard input.", is_argument=True, metavar="LIST"),
    ]
    output: Annotated[
        Path,
        Flag(
            "Folder for the files and results.jsonl, or one file (.wav ...) of all items.",
            names=("-o", "--output"),
        ),
    ]
    ref: Annotated[
        Path | None,
        replace(REFERENCE_FLAG, help="A clip of the voice for items that name none."),
    ] = None
    file_format: Annotated[
        str | None,
        Flag(
            f"{listed(FILE_FORMATS)}.",
            names=("--format",),
            default_text="wav; of a single file, its ending",
            completion="formats",
        ),
    ] = None
    pause_s: Annotated[
        float | None,
        Flag(
            "Seconds between two items in one file.",
            names=("--pause",),
            minimum=0,
            maximum=60,
            default_text=f"{ITEM_PAUSE_S:g}",
        ),
    ] = None
    subtitles: Annotated[Path | None, replace(SUBTITLES_FLAG, help="Subtitles of the one file: .srt or .vtt.")] = None
    subtitles_by: Annotated[str, SUBTITLES_BY_FLAG] = SUBTITLES_BY[0]
    words_per_cue: Annotated[int | None, WORDS_PER_CUE_FLAG] = None
    words: Annotated[
        Path | None,
        replace(
            WORDS_FLAG,
            help="Write when each word is said: a .json file for one output file, else a folder for one .json file for each item.",
        ),
    ] = None
    loudness: Annotated[float | None, replace(LOUDNESS_FLAG, help="Loudness of the one file in LUFS (EBU R128).")] = (
        None
    )
    voice: str | None = None
    """The voice of items that name none: see `voices.resolve.resolve_voice`; `speaker` likewise."""
    speaker: str | None = None
    ref_text: str | None = None
    """The transcript of `ref`."""
    language: str | None = None
    """The language of clips and texts, for the recognizer."""
    verifiers: VerifierOptions = NO_VERIFIERS
    """The verifiers that judge each take besides the checks."""
    timing: WordTiming | None = None
    """How the times of words are found; None if they are not requested."""
    slots: Annotated[int | None, SLOTS_FLAG] = None
    workers: Annotated[int | None, WORKERS_FLAG] = None
    devices: Annotated[str | None, DEVICES_FLAG] = None
    ray: Annotated[str | None, RAY_FLAG] = None
    engine: Annotated[
        str, Flag("What runs the model: llasa, or vllm (if installed).", choices=ENGINES, panel=_SCHEDULING)
    ] = ENGINES[0]
    accept_failed: bool = False
    """Whether speech that still fails its checks counts as a success."""
    dry_run: Annotated[bool, Flag("Check the whole list and write nothing.")] = False
    json: Annotated[bool, Flag("Print one JSON object for each item, and a summary.")] = False
