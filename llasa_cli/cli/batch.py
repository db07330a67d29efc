"""`llasa batch`: a list of texts, a folder of files or one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from llasa_cli.cli import flags
from llasa_cli.cli.batch_run import Voices, run_list
from llasa_cli.cli.clone import ReferenceTranscriber
from llasa_cli.cli.console import Console, claim_stdout
from llasa_cli.settings import ITEM_PAUSE_S, BatchOptions

_DEFAULT = BatchOptions("", Path())
_SHARE = "Many at once"


def batch(
    list_file: Annotated[
        str, typer.Argument(metavar="LIST", help="Lines, id|text, .csv, .tsv or .jsonl; - is standard input.")
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Folder for the files and results.jsonl; or one file (.wav ...) of all."),
    ],
    voice: flags.Voice = None,
    speaker: flags.Speaker = None,
    ref: Annotated[
        Path | None,
        typer.Option("--ref", "--ref-audio", "--ref_audio", help="A clip of the voice for items that name none."),
    ] = None,
    ref_text: flags.ReferenceText = None,
    asr: flags.Recogniser = flags.DEFAULT_RECOGNISER,
    language: flags.Language = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The texts are Markdown.")] = False,
    file_format: Annotated[
        str | None, typer.Option("--format", help="wav, flac, ogg, opus or mp3; of a folder's files wav by default.")
    ] = None,
    pause: Annotated[
        float | None,
        typer.Option(
            "--pause",
            min=0.0,
            max=60.0,
            help=f"Seconds between two items in one file. [default: {ITEM_PAUSE_S:g}]",
            show_default=False,
        ),
    ] = None,
    subtitles: flags.Subtitles = None,
    model: flags.Model = flags.DEFAULT_MODEL,
    codec: flags.Codec = None,
    adapter: flags.AdapterFolder = None,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
    attention: flags.Attention = "auto",
    seed: flags.Seed = None,
    temperature: flags.Temperature = None,
    top_p: flags.TopP = None,
    top_k: flags.TopK = None,
    min_p: flags.MinP = None,
    repetition_penalty: flags.RepetitionPenalty = None,
    guidance: flags.Guidance = None,
    max_seconds: flags.MaxSeconds = None,
    retries: flags.Retries = flags.DEFAULT_RETRIES,
    verify: flags.Verify = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            min=1,
            max=4096,
            help="Texts spoken at once by each worker; by default what the free memory has room for.",
            show_default=False,
            rich_help_panel=_SHARE,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            max=4096,
            help="Processes on each device, each with a model; on Ray actors in all.",
            show_default=False,
            rich_help_panel=_SHARE,
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            "--devices",
            help="A process each: 0,1,2 or all GPUs, or cpu,cpu.",
            show_default=False,
            rich_help_panel=_SHARE,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Share out over a Ray cluster: its address, auto, or local for a new one.",
            show_default=False,
            rich_help_panel=_SHARE,
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option("--engine", help="What runs the model: llasa, or vllm (if installed).", rich_help_panel=_SHARE),
    ] = _DEFAULT.engine,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at the whole list and make nothing.")] = False,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = False,
    json: flags.Json = False,
) -> None:
    """Speak a list, one file an item or all in one. What is done already is left; a bad item does not stop the rest."""
    claim_stdout()
    wanted = flags.speech_options(
        temperature, top_p, top_k, min_p, repetition_penalty, guidance, max_seconds, seed, None, retries
    )
    wanted = replace(wanted, markdown=markdown)
    models = flags.model_options(model, codec, device, dtype, adapter, attention)
    options = BatchOptions(
        source=list_file,
        output=output,
        file_format=file_format,
        pause_s=pause,
        subtitles=subtitles,
        ref=ref,
        ref_text=ref_text,
        language=language,
        listener=asr if verify else None,
        slots=batch_size,
        workers=workers,
        devices=devices,
        ray=ray,
        engine=engine,
        dry_run=dry_run,
        json=json,
    )
    with Console(quiet, verbose) as report:
        run_list(
            options,
            wanted,
            models,
            Voices(models, voice, speaker),
            ReferenceTranscriber(asr, language, device, report),
            report,
        )
