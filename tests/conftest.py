"""Small random models of the true classes, made once a run."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import typer.testing

# These models are so small that threads only wait for each other (four times the time on a busy machine of two cores).
os.environ["OMP_NUM_THREADS"] = "1"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a script; commands would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach a network
# Otherwise each of the dozens of programs that tests start would compile the package again: 26 of 267 processor seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.pop("LLASA_MODEL", None)
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from llasa_cli.__main__ import limit_spinning  # noqa: E402 - the folder may not be installed

limit_spinning()  # as in the command; torch reads the setting when it is imported

BUILT_IN_SPEAKERS: list[str] = json.loads((ROOT / "llasa_cli/voices_data/tiny/llasa.json").read_text("utf-8"))[
    "speakers"
]
"""The built-in voice's speakers, the default one first."""
CODES = 64
SPEAKERS = ("heart", "bella")
typer_testing: Any = typer.testing
typer_testing._get_command = lru_cache(typer_testing._get_command)  # CliRunner would make 340 options for each call
gc.disable()  # until everything is imported
_modules_at_last_collection = 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker of `pytest -n 2` its half of the tests in a row; a worker that is done takes from the other.

    xdist's default deals the tests out in small parts, so that each worker makes nearly every module's and package's
    fixtures, and imports nearly every library that only some tests need.
    """
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_runtest_setup() -> None:
    """Keep imported modules out of the search for garbage.

    transformers calls `gc.collect` at the end of each training. Among a million objects of imported modules that takes
    longer than the training itself.
    """
    global _modules_at_last_collection
    if len(sys.modules) > _modules_at_last_collection:
        _modules_at_last_collection = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def llasa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The beginning of a command line that runs `llasa` as a process, without the seconds of its imports if possible.

    The workers of `pytest -n 2` share the server that has imported everything.
    """
    if not hasattr(os, "pidfd_open"):  # only Linux has it
        yield [sys.executable, "-m", "llasa_cli"]
        return
    from filelock import FileLock

    from tests.forked import FORKED_LLASA, SOCKET_VARIABLE, start_server

    folder, owner = tmp_path_factory.getbasetemp(), os.getpid()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder, owner = folder.parent, os.getppid()
    address = folder / "fork"
    with FileLock(folder / "fork.lock"):
        if not address.exists():
            start_server(address, owner)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SOCKET_VARIABLE, str(address))
        yield FORKED_LLASA


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in voice's kind of tokenizer, with 64 codes and two speakers."""
    from recipes.heart.tokenizer import write_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, CODES, SPEAKERS)
    return folder


@pytest.fixture(scope="session")
def random_codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Xcodec2Model of 4^3 codes, as small as the classes allow, with weights that make sound."""
    import torch
    from transformers import Xcodec2Config, Xcodec2Model

    from recipes.heart.shape import configuration, initialize

    shape = configuration()
    shape |= {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "head_dim": 16,
        "quantization_dim": 64 + 32,
        "quantization_levels": [4, 4, 4],
    }
    shape["semantic_model_config"] |= {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    torch.manual_seed(1)
    model = Xcodec2Model(Xcodec2Config(**shape))
    initialize(model)
    folder = tmp_path_factory.mktemp("codec")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path, random_codec: Path) -> Path:
    """A whole checkpoint folder: random Llama, tokenizer, `llasa.json`, and the codec inside."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from llasa_cli.prompt import PromptFormat

    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    shutil.copytree(tokenizer_folder, folder)
    shutil.copytree(random_codec, folder / "codec")
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=PromptFormat.load(folder).vocabulary_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.4,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    about = {
        "format": 1,
        "codec": "codec",
        "speakers": list(SPEAKERS),
        "default_speaker": "heart",
        "speaker_notes": {"bella": "woman, American"},
        "language": ["en"],
    }
    (folder / "llasa.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


@pytest.fixture
def phone_checkpoint(tmp_path: Path, random_checkpoint: Path) -> Path:
    """The same with a lexicon of two words, whose phones take the places of the letters q and x."""
    import shutil

    folder = tmp_path / "phones"
    shutil.copytree(random_checkpoint, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["/k/"], vocabulary["/ˈ/"] = vocabulary.pop("q"), vocabulary.pop("x")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "pronunciations.txt").write_bytes("ca\tkˈ\nkick\tˈkk\n".encode())
    return folder
