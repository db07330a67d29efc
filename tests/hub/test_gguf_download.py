"""One GGUF file of a repository is downloaded and spoken with; which one is never guessed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llasa_cli.checkpoint.resolve import find_model, resolve_checkpoint
from llasa_cli.errors import ModelError
from llasa_cli.hub.catalog import repo_of, variant_of
from llasa_cli.hub.select import choose_gguf
from llasa_cli.lm.gguf_writer import write_gguf
from llasa_cli.settings import ModelOptions
from tests.hub.conftest import Llasa
from tests.hub.fake_hub import FakeHub

REPO = "somebody/small-gguf"
CODEC = "somebody/codec"


@pytest.fixture
def served(hub: FakeHub, tmp_path: Path, random_checkpoint: Path) -> Path:
    """Two formats of a model, and the codec in a repository of its own."""
    folder = tmp_path / "served" / "gguf"
    folder.mkdir()
    checkpoint = resolve_checkpoint(ModelOptions(str(random_checkpoint)))
    for kind in ("Q8_0", "F16"):
        write_gguf(checkpoint, folder / f"small-{kind}.gguf", kind)
    (folder / "README.md").write_text("A model.")
    hub.repositories[REPO] = folder
    hub.repositories[CODEC] = random_checkpoint / "codec"
    return folder


def test_one_file_is_downloaded_and_speaks_without_the_network(hub: FakeHub, llasa: Llasa, served: Path) -> None:
    made = llasa("download", f"{REPO}:q8_0", "--no-codec")
    assert made.returncode == 0, made.stderr
    folder = Path(made.stdout.strip())
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "small-Q8_0.gguf"]
    assert llasa("download", CODEC).returncode == 0
    hub.requests.clear()
    said = llasa(
        "say", "hi", "-m", f"{REPO}:Q8_0", "--codec", CODEC, "-o", "a.wav", "--max-seconds", "0.2", "--accept-failed"
    )
    assert said.returncode == 0, said.stderr
    assert find_model(REPO).name == "small-Q8_0.gguf", "the only one on this machine"
    assert hub.requests == []
    assert "small-Q8_0.gguf" in llasa("say", "hi", "-m", f"{REPO}:F16").stderr
    assert llasa("download", f"{REPO}:F16", "--no-codec").returncode == 0
    assert find_model(f"{REPO}:f16").name == "small-F16.gguf"
    assert find_model(f"{REPO}:small-Q8_0.gguf").name == "small-Q8_0.gguf"
    with pytest.raises(ModelError, match="several GGUF files"):
        find_model(REPO)
    assert llasa("download", f"{REPO}:F16", "--verify", "--no-codec").returncode == 0


def test_a_choice_is_asked_for(llasa: Llasa, served: Path) -> None:
    made = llasa("download", REPO)
    assert made.returncode == 3
    assert "small-F16.gguf, small-Q8_0.gguf" in made.stderr
    made = llasa("download", f"{REPO}:Q2_K")
    assert made.returncode == 3
    assert "no GGUF file Q2_K" in made.stderr


def test_a_text_model_is_refused(llasa: Llasa, served: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(served / "text-Q4_0.gguf", "llama")
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    made = llasa("download", f"{REPO}:Q4_0", "--no-codec")
    assert made.returncode == 3
    assert "not compatible with Llasa" in made.stderr
    shutil.rmtree(served)


@pytest.mark.parametrize(
    ("name", "repo", "variant"),
    [
        ("a/b:Q4_K_M", ("a/b", None), "Q4_K_M"),
        ("a/b:x-Q8_0.gguf@v1", ("a/b", "v1"), "x-Q8_0.gguf"),
        ("a/b@v1", ("a/b", "v1"), None),
        ("1b:Q8_0", ("HKUSTAudio/Llasa-1B", None), "Q8_0"),
        ("a/b:", None, None),
        ("a/b:c:d", None, None),
        ("C:\\models\\x.gguf", None, None),
    ],
)
def test_names(name: str, repo: tuple[str, str | None] | None, variant: str | None) -> None:
    assert repo_of(name) == repo
    assert variant_of(name) == variant


@pytest.mark.parametrize(
    ("names", "variant", "chosen"),
    [
        (["a-Q4_K_M.gguf", "a-Q4_K_S.gguf"], "q4_k_m", "a-Q4_K_M.gguf"),
        (["a.Q8_0.gguf", "mmproj-a-Q8_0.gguf"], "Q8_0", "a.Q8_0.gguf"),
        (["a.gguf", "config.json"], None, "a.gguf"),
        (["Q4_0/a.gguf", "a-F16.gguf"], "F16", "a-F16.gguf"),
        (["a-IQ4_K_M.gguf", "a-Q4_K_M.gguf"], "Q4_K_M", "a-Q4_K_M.gguf"),
    ],
)
def test_a_variant_is_the_end_of_a_name(names: list[str], variant: str | None, chosen: str) -> None:
    assert choose_gguf(names, variant, "a/b") == chosen


def test_a_split_model_is_refused() -> None:
    names = [f"a-Q8_0-0000{part}-of-00002.gguf" for part in (1, 2)]
    with pytest.raises(ModelError, match="split"):
        choose_gguf(names, "Q8_0", "a/b")
