"""A small data folder in the published form, without a codec: codes that the text tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llasa_cli.protocol import Protocol
from llasa_cli.settings import CONTEXT_TOKENS

WORDS = ("sea", "sand", "shell", "salt", "wave", "gull", "tide", "boat")


def published_rows(folder: Path, split: str, protocol: Protocol, count: int, pad_id: int, seed: int) -> None:
    """Rows of two speakers, of 10 to 40 codes; each letter is spoken as three codes that belong to it."""
    random = np.random.default_rng(seed)
    table = np.full((count, CONTEXT_TOKENS), pad_id, np.int32)
    for row in table:
        text = " ".join(random.choice(WORDS, random.integers(1, 4)))
        codes = [(token * 3 + part) % protocol.code_count for token in protocol.text_ids(text) for part in range(3)]
        ids = protocol.row(text, codes)
        row[: len(ids)] = ids
    folder.mkdir(parents=True, exist_ok=True)
    table.tofile(folder / f"{split}_input_ids.memmap")
    np.save(folder / f"{split}_input_ids_shape.npy", np.array(table.shape))
    speakers = "".join(("rms\n", "slt\n")[number % 2] for number in range(count))
    (folder / f"{split}_speakers.txt").write_text(speakers, encoding="utf-8")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("data")
    protocol = Protocol.load(tokenizer_folder)
    published_rows(folder, "train", protocol, 120, protocol.pad_id, 0)
    published_rows(folder, "val", protocol, 12, protocol.pad_id, 1)
    return folder
