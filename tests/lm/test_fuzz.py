"""A checkpoint whose files were changed at random loads, or is refused in one sentence."""

from __future__ import annotations

import json
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from llasa_cli.errors import LlasaError
from llasa_cli.settings import ModelOptions, SamplingOptions, SamplingRequest
from llasa_cli.synthesis.synthesizer import Synthesizer

FILES = (
    *("config.json", "llasa.json", "tokenizer_config.json", "tokenizer.json", "chat_template.jinja"),
    *("model.safetensors", "codec/config.json", "codec/model.safetensors"),
)
VALUES = (None, -1, 0, 1, 2**31, 2**63, 1e308, float("nan"), "", "x", [], {}, [1], True, "../../x", {"a": 1}, [[]])


def changed(value: Any, sample: random.Random) -> Any:
    """A JSON value with one part removed or replaced, somewhere in it."""
    if isinstance(value, dict) and value and sample.random() < 0.8:
        name = sample.choice(list(value))
        if sample.random() < 0.2:
            return {key: part for key, part in value.items() if key != name}
        return value | {name: changed(value[name], sample)}
    if isinstance(value, list) and value and sample.random() < 0.8:
        place = sample.randrange(len(value))
        return [*value[:place], changed(value[place], sample), *value[place + 1 :]]
    return sample.choice(VALUES)


def spoil(path: Path, sample: random.Random) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(changed(json.loads(path.read_text()), sample)))
        return
    content = bytearray(path.read_bytes())
    if path.suffix == ".safetensors":
        length = struct.unpack("<Q", content[:8])[0]
        if sample.random() < 0.5:
            text = json.dumps(changed(json.loads(content[8 : 8 + length]), sample)).encode()
            content[: 8 + length] = struct.pack("<Q", len(text)) + text
        else:
            content[sample.randrange(8 + length)] = sample.randrange(256)
    else:
        content[sample.randrange(len(content))] = sample.choice(b"{}%|x.[]()'")
    path.write_bytes(content)


def load_and_generate(folder: Path) -> None:
    speech = Synthesizer.load(ModelOptions(model=str(folder), device="cpu"))
    speech.sampling(SamplingRequest())
    speech.chunks("Hello there.")
    speech.codec.decode([1, 2, 3])
    list(speech.model.generate(speech.prompt_format.prompt("hello"), SamplingOptions(max_seconds=0.04), 0))


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_changed_checkpoint_loads_or_is_refused(random_checkpoint: Path, tmp_path: Path, file: str) -> None:
    sample = random.Random(file)
    refusals = []
    for number in range(100):
        folder = Path(shutil.copytree(random_checkpoint, tmp_path / str(number)))
        spoil(folder / file, sample)
        try:
            load_and_generate(folder)
        except LlasaError as error:
            refusals.append(error.message)
        shutil.rmtree(folder)
    assert len(refusals) > 5, "too few changes mattered"
    assert not [message for message in refusals if "\n" in message]
