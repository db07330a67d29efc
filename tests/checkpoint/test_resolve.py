"""Models are found on this machine without the network; a missing model is reported with the command that fetches it."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from llasa_cli.checkpoint.resolve import codec_of, find_adapter, find_codec, find_model, resolve_checkpoint, revision_of
from llasa_cli.errors import ModelError
from llasa_cli.hub.catalog import ANIME_CODEC, PUBLISHED_CODEC
from llasa_cli.settings import ModelOptions


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LLASA_CACHE", raising=False)


def cached(cache: Path, repo: str, source: Path) -> Path:
    """Lay out a folder as the hub library does after a download. -> the snapshot."""
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(source, snapshot)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(snapshot.name)
    return snapshot


@pytest.fixture
def adapter(tmp_path: Path, random_checkpoint: Path) -> Path:
    """A folder with the files of an adapter of `random_checkpoint`, without weights."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "llasa.json").write_text(json.dumps({"base": str(random_checkpoint), "speakers": ["zoe"], "codec": "x"}))
    return folder


# --- a checkpoint ---


def test_a_checkpoint_has_all_that_its_folder_says(random_checkpoint: Path) -> None:
    checkpoint = resolve_checkpoint(ModelOptions(str(random_checkpoint)))
    assert checkpoint.name == str(random_checkpoint)
    assert checkpoint.folder == checkpoint.weights_folder == random_checkpoint
    assert checkpoint.adapter is None
    assert checkpoint.codec_folder == random_checkpoint / "codec"
    assert checkpoint.revision == revision_of(random_checkpoint)
    assert checkpoint.license == "not stated"


def test_an_adapter_beside_a_model_updates_its_metadata_and_keeps_its_codec(
    random_checkpoint: Path, adapter: Path
) -> None:
    checkpoint = resolve_checkpoint(ModelOptions(str(random_checkpoint), adapter=str(adapter)))
    assert (checkpoint.folder, checkpoint.weights_folder, checkpoint.adapter) == (
        random_checkpoint,
        random_checkpoint,
        adapter,
    )
    assert checkpoint.known_speakers == ("zoe",)
    assert checkpoint.codec_folder == random_checkpoint / "codec"
    assert checkpoint.revision == f"{revision_of(random_checkpoint)}+{revision_of(adapter)}"


def test_an_adapter_as_the_model_takes_its_weights_from_its_base(random_checkpoint: Path, adapter: Path) -> None:
    checkpoint = resolve_checkpoint(ModelOptions(str(adapter)))
    assert (checkpoint.folder, checkpoint.weights_folder, checkpoint.adapter) == (adapter, random_checkpoint, adapter)
    assert checkpoint.revision == revision_of(adapter)


def test_an_adapter_that_names_no_base_is_refused_when_its_weights_are_wanted(adapter: Path) -> None:
    (adapter / "llasa.json").unlink()
    checkpoint = resolve_checkpoint(ModelOptions(str(adapter)))
    with pytest.raises(ModelError, match="does not name the model"):
        _ = checkpoint.weights_folder


def test_the_catalog_fills_in_what_a_published_checkpoint_does_not_say(tmp_path: Path, random_checkpoint: Path) -> None:
    snapshot = cached(tmp_path / "cache", "HKUSTAudio/Llasa-1B-two-speakers-kore-puck", random_checkpoint)
    (snapshot / "llasa.json").unlink()
    checkpoint = resolve_checkpoint(ModelOptions("1b-kore-puck"))
    assert checkpoint.known_speakers == ("kore", "puck")
    assert checkpoint.license.startswith("CC BY-NC")
    assert checkpoint.metadata == {}


@pytest.mark.parametrize(
    "entry",
    [
        {"codec": 1},
        {"base": []},
        {"speakers": "kore"},
        {"speakers": [1]},
        {"sampling": {"temperature": "hot"}},
        {"sampling": {"temperature": True}},
        {"most_characters": 0},
        {"most_characters": 1.5},
        {"slowest_s_a_character": -1},
    ],
)
def test_metadata_of_a_wrong_type_is_refused(tmp_path: Path, entry: dict[str, object]) -> None:
    (tmp_path / "llasa.json").write_text(json.dumps(entry))
    with pytest.raises(ModelError, match=f"The entry '{next(iter(entry))}' of .*llasa.json can't be"):
        resolve_checkpoint(ModelOptions(str(tmp_path)))


# --- names ---


def test_a_folder_is_itself(random_checkpoint: Path) -> None:
    assert find_model(str(random_checkpoint)) == random_checkpoint


def test_a_cached_model_is_found_by_each_of_its_names(tmp_path: Path, random_checkpoint: Path) -> None:
    snapshot = cached(tmp_path / "cache", "HKUSTAudio/Llasa-1B", random_checkpoint)
    for name in ("1b", "1B", "HKUSTAudio/Llasa-1B", f"HKUSTAudio/Llasa-1B@{snapshot.name}"):
        assert find_model(name) == snapshot


def test_an_incomplete_model_is_refused(tmp_path: Path, random_checkpoint: Path) -> None:
    snapshot = cached(tmp_path / "cache", "HKUSTAudio/Llasa-1B", random_checkpoint)
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        (snapshot / name).unlink()
        with pytest.raises(ModelError, match="incomplete on this machine") as caught:
            find_model("1b")
        assert caught.value.hint == "Download the rest with: llasa download 1b"
        assert caught.value.exit_code == 3


def test_every_shard_must_be_there_and_lie_in_the_folder(tmp_path: Path, random_checkpoint: Path) -> None:
    snapshot = cached(tmp_path / "cache", "a/b", random_checkpoint)
    index = snapshot / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    with pytest.raises(ModelError, match=r"model-2\.safetensors is missing"):
        find_model("a/b")
    (snapshot / "model-2.safetensors").touch()
    assert find_model("a/b") == snapshot
    index.write_text(json.dumps({"weight_map": {"a": "../../../../../secret.safetensors"}}))
    with pytest.raises(ModelError, match="not a file of this checkpoint"):
        find_model("a/b")


@pytest.mark.parametrize("revision", ["../../..", "/", "main/../../snapshots", "nothing", "a:b", "\n"])
def test_a_revision_can_not_lead_out_of_the_cache(tmp_path: Path, random_checkpoint: Path, revision: str) -> None:
    cached(tmp_path / "cache", "a/b", random_checkpoint)
    with pytest.raises(ModelError, match="not on this machine"):
        find_model(f"a/b@{revision}")


def test_llasa_cache_comes_before_the_hubs(
    tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = cached(tmp_path / "cache", "a/b", random_checkpoint)
    monkeypatch.setenv("LLASA_CACHE", str(tmp_path / "own"))
    assert find_model("a/b") == shared
    own = cached(tmp_path / "own", "a/b", random_checkpoint)
    assert find_model("a/b") == own
    (own / "model.safetensors").unlink()
    assert find_model("a/b") == shared, "a complete model is better than a part of one"


@pytest.mark.parametrize("name", ["1b", "xcodec2", "some/repo"])
def test_a_missing_model_names_the_command_that_downloads_it(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_model(name)
    assert caught.value.hint == f"Download it with: llasa download {name}"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "name", ["nonsense", "./absent/folder", "/absent/folder", "a/b/c", "a b/c d", "a/..", "a/b--c"]
)
def test_an_unknown_model_gets_no_download_hint(name: str) -> None:
    with pytest.raises(ModelError, match="no folder"):
        find_model(name)


def test_a_revision_is_the_commit_or_follows_the_weights(tmp_path: Path, random_checkpoint: Path) -> None:
    snapshot = cached(tmp_path / "cache", "a/b", random_checkpoint)
    assert revision_of(snapshot) == snapshot.name
    shutil.copytree(random_checkpoint, tmp_path / "mine")
    assert revision_of(tmp_path / "mine") == revision_of(random_checkpoint)
    with (tmp_path / "mine" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    assert revision_of(tmp_path / "mine") != revision_of(random_checkpoint)


# --- codecs and adapters ---


def test_the_codec_is_the_named_one_or_the_published_one(random_checkpoint: Path, random_codec: Path) -> None:
    assert find_codec(random_checkpoint, "codec") == random_checkpoint / "codec"
    assert find_codec(random_checkpoint, str(random_codec)) == random_codec
    with pytest.raises(ModelError, match="HKUSTAudio/xcodec2-hf"):
        find_codec(random_checkpoint, None)


def test_a_published_model_with_its_own_codec_gets_that_codec(
    tmp_path: Path, random_checkpoint: Path, random_codec: Path
) -> None:
    model = cached(tmp_path / "cache", "NandemoGHS/Anime-Llasa-3B", random_checkpoint)
    codec = cached(tmp_path / "cache", ANIME_CODEC, random_codec)
    assert find_codec(model, None) == codec
    assert codec_of(random_checkpoint) == PUBLISHED_CODEC


def test_a_folder_of_other_files_is_not_reported_to_lack_a_codec(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json in"):
        find_codec(tmp_path, None)


def test_an_adapter_is_found_in_the_cache(tmp_path: Path, adapter: Path) -> None:
    assert find_adapter(str(adapter)) == adapter
    snapshot = cached(tmp_path / "cache", "a/b", adapter)
    assert find_adapter("a/b") == snapshot
    with pytest.raises(ModelError, match="no adapter"):
        find_adapter("a/c")
