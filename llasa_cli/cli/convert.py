"""`llasa convert`: a checkpoint to one GGUF file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from llasa_cli.cli.console import Console, claim_stdout, result
from llasa_cli.cli.flags import with_flags
from llasa_cli.options import Flag, Options
from llasa_cli.settings import ModelOptions
from llasa_cli.wording import format_size

TYPES = ("f16", "bf16", "q8_0", "q4_0")


@dataclass(frozen=True)
class ConvertOptions(Options):
    """Options of `llasa convert`."""

    model: Annotated[
        str,
        Flag("The checkpoint: a folder, tiny, 1b, or org/repo.", is_argument=True, completion="models"),
    ]
    output: Annotated[Path, Flag("The GGUF file to write.", names=("-o", "--output"), metavar="FILE")]
    tensor_type: Annotated[
        str, Flag("Format of the matrices: f16, bf16, q8_0 or q4_0.", names=("--type",), choices=TYPES)
    ] = "q8_0"
    adapter: Annotated[str | None, Flag("Folder of a LoRA adapter to merge into the model.")] = None
    quiet: Annotated[bool, Flag("Print errors only.", names=("-q", "--quiet"))] = False


@with_flags
def convert(options: ConvertOptions) -> None:
    """Write a checkpoint as one GGUF file, which takes less memory and runs in llama.cpp too."""
    claim_stdout()
    from llasa_cli.checkpoint.resolve import resolve_checkpoint

    checkpoint = resolve_checkpoint(ModelOptions(model=options.model, adapter=options.adapter))
    with Console(options.quiet) as console:
        console.stage(f"reading {options.model}")
        from llasa_cli.lm.gguf_writer import write_gguf

        def report(done: int, size: int) -> None:
            console.progress(f"{options.output.name}  {100 * done // size}% of {format_size(size)}")

        write_gguf(checkpoint, options.output, options.tensor_type.upper(), report)
        console.line(f"{options.output}: {format_size(options.output.stat().st_size)}, {options.tensor_type}")
    result(str(options.output))
