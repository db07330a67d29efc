"""The classes of transformers' draft download as `llasa download` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llasa_cli.errors import ModelError
from llasa_cli.transformers_compat import XCodec2Model
from tests.hub.fake_hub import FakeHub

CODEC = "HKUSTAudio/xcodec2-hf"


def test_a_missing_codec_is_downloaded_once(hub: FakeHub, random_codec: Path) -> None:
    hub.repositories[CODEC] = random_codec
    sound = XCodec2Model.from_pretrained(CODEC).codec.decode([1, 2, 3])
    assert sound.shape == (960,)
    asked = len(hub.requests)
    assert asked > 0
    np.testing.assert_array_equal(XCodec2Model.from_pretrained(CODEC).codec.decode([1, 2, 3]), sound)
    assert len(hub.requests) == asked


def test_an_unknown_name_is_a_model_error(hub: FakeHub) -> None:
    with pytest.raises(ModelError, match="absent/nothing"):
        XCodec2Model.from_pretrained("absent/nothing")
