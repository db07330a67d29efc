"""Random changes to a checkpoint's texts and headers: it loads, or is refused in a sentence; nothing else."""

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
from llasa_cli.speech import Speech

FILES = (
    *("config.json", "llasa.json", "tokenizer_config.json", "tokenizer.json", "chat_template.jinja"),
    *("model.safetensors", "codec/config.json", "codec/model.safetensors"),
)
VALUES = (None, -1, 0, 1, 2**31, 2**63, 1e308, float("nan"), "", "x", [], {}, [1], True, "../../x", {"a": 1}, [[]])


def changed(value: Any, draw: random.Random) -> Any:
    """Something somewhere in a JSON value left out or put in its place."""
    if isinstance(value, dict) and value and draw.random() < 0.8:
        name = draw.choice(list(value))
        if draw.random() < 0.2:
            return {key: part for key, part in value.items() if key != name}
        return value | {name: changed(value[name], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], changed(value[place], draw), *value[place + 1 :]]
    return draw.choice(VALUES)


def spoil(path: Path, draw: random.Random) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(changed(json.loads(path.read_text()), draw)))
        return
    content = bytearray(path.read_bytes())
    if path.suffix == ".safetensors":
        length = struct.unpack("<Q", content[:8])[0]
        if draw.random() < 0.5:
            text = json.dumps(changed(json.loads(content[8 : 8 + length]), draw)).encode()
            content[: 8 + length] = struct.pack("<Q", len(text)) + text
        else:
            content[draw.randrange(8 + length)] = draw.randrange(256)
    else:
        content[draw.randrange(len(content))] = draw.choice(b"{}%|x.[]()'")
    path.write_bytes(content)


def use(folder: Path) -> None:
    speech = Speech.load(ModelOptions(model=str(folder), device="cpu"))
    speech.sampling(SamplingRequest())
    speech.chunks("Hello there.")
    speech.codec.decode([1, 2, 3])
    list(speech.model.generate(speech.protocol.prompt("hello"), SamplingOptions(max_seconds=0.04), 0))


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_changed_checkpoint_loads_or_is_refused(random_checkpoint: Path, tmp_path: Path, file: str) -> None:
    draw = random.Random(file)
    refusals = []
    for number in range(100):
        folder = Path(shutil.copytree(random_checkpoint, tmp_path / str(number)))
        spoil(folder / file, draw)
        try:
            use(folder)
        except LlasaError as error:
            refusals.append(error.message)
        shutil.rmtree(folder)
    assert len(refusals) > 5, "the changes must matter"
    assert not [message for message in refusals if "\n" in message]
