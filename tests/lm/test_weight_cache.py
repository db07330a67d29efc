"""Packed weights are read at the second load, give the same numbers, and never outlive what they were made of."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llasa_cli import packed_weights_folder as folder_module
from llasa_cli.errors import ModelError
from llasa_cli.lm import linear, weight_cache, weights
from llasa_cli.lm.cpu import build
from llasa_cli.lm.cpu.build import load_kernels
from llasa_cli.lm.loader import LanguageModel, load_language_model
from llasa_cli.prompt import PromptFormat

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="the kernels can't be compiled here")


@pytest.fixture
def model(random_checkpoint: Path, tmp_path: Path) -> Path:
    shutil.copytree(random_checkpoint, tmp_path / "m", ignore=shutil.ignore_patterns("codec"))
    return tmp_path / "m"


@pytest.fixture(autouse=True)
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of packed weights, which takes models of any size."""
    folder = tmp_path / "packed"
    for module in (folder_module, weight_cache):
        monkeypatch.setattr(module, "packed_weights_folder", lambda: folder)
    monkeypatch.setattr(weight_cache, "SMALLEST_MODEL", 0)
    return folder


def load(folder: Path, dtype: str = "int8") -> LanguageModel:
    return load_language_model(folder, PromptFormat.load(folder), "cpu", dtype)


def outputs(model: LanguageModel) -> list[torch.Tensor]:
    """The products of all matrices with the same states."""
    linears = [model.network.head, *(one for layer in model.network.layers for one in layer.linears())]
    return [one(torch.linspace(-1, 1, one.shape[1]).repeat(2, 1)) for one in linears]


def assert_equal(one: LanguageModel, other: LanguageModel) -> None:
    for expected, found in zip(outputs(one), outputs(other), strict=True):
        assert torch.equal(expected, found)


@pytest.fixture
def no_quantizing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def fail(*_: Any) -> None:
            raise AssertionError("packed again")

        monkeypatch.setattr(linear, "_in_blocks", fail)
        monkeypatch.setattr(linear, "_stacked", fail)

    return forbid


@pytest.mark.parametrize("dtype", ["int8", "int4", "bf16"])
def test_a_second_load_packs_nothing_and_computes_the_same(
    model: Path, packed: Path, dtype: str, no_quantizing: Callable[[], None]
) -> None:
    first = load(model, dtype)
    (file,) = packed.iterdir()
    no_quantizing()
    assert_equal(first, load(model, dtype))
    assert list(packed.iterdir()) == [file]


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _long_description(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:-16] + b"\xff" * 8 + data[-8:])


def _no_description(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:-80] + b"?" * 14 + data[-66:])


def _flip_bit(at: float) -> Callable[[Path], None]:
    """Damage that changes one bit, at a share of the file's length."""

    def flip(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[int(at * len(data))] ^= 0x10
        file.write_bytes(data)

    return flip


def _zero_page(file: Path) -> None:
    with file.open("r+b") as writing:
        writing.seek(8192)
        writing.write(bytes(4096))


FLIPS = [_flip_bit(at) for at in (0.001, 0.35, 0.7, 0.999)]


@pytest.mark.parametrize("damage", [_cut, _empty, _long_description, _no_description, _zero_page, *FLIPS])
def test_a_damaged_file_is_replaced(
    model: Path, packed: Path, damage: Callable[[Path], None], no_quantizing: Callable[[], None]
) -> None:
    first = load(model)
    (file,) = packed.iterdir()
    size = file.stat().st_size
    damage(file)
    assert_equal(first, load(model))
    assert file.stat().st_size == size
    no_quantizing()
    assert_equal(first, load(model))


@pytest.mark.parametrize("function", ["_write", "commit"])
def test_after_a_process_killed_while_writing_the_next_start_is_right(
    model: Path, packed: Path, function: str, no_quantizing: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = getattr(weight_cache.WeightCache, function)

    def kill(self: Any, *rest: Any) -> Any:
        if function == "commit" or len(self._entries) == 3:
            self._target.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, *rest)

    child = os.fork()  # a process with torch; starting another one takes seconds
    if not child:
        signal.alarm(60)
        monkeypatch.setattr(weight_cache.WeightCache, function, kill)
        load(model)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [path.suffix for path in packed.iterdir()] == [".part"]
    first = load(model)
    (file,) = packed.iterdir()
    assert file.suffix == ".packed"
    no_quantizing()
    second = load(model)
    assert_equal(first, second)


def test_where_files_are_not_kept_in_huge_pages_they_are_copied(
    model: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(model)
    copied = []
    plain = build.empty_huge_pages
    monkeypatch.setattr(build, "_has_huge_pages", lambda address: False)

    def counting(*arguments: Any) -> torch.Tensor:
        copied.append(arguments)
        return plain(*arguments)

    monkeypatch.setattr(build, "empty_huge_pages", counting)
    assert_equal(first, load(model))
    (file,) = packed.iterdir()
    assert copied == [((file.stat().st_size,), torch.uint8)]


def test_a_file_of_which_a_part_was_evicted_is_still_mapped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    page = bytearray(build.PAGE)
    with path.open("wb", buffering=0) as file:
        for _ in range(20):
            file.write(page)
        os.fsync(file.fileno())

    def is_mapped() -> bool:
        data = build.read_file(path)  # held until the mappings are read
        return len(data) == 20 * build.PAGE and str(path) in Path("/proc/self/maps").read_text()

    if not is_mapped():
        pytest.skip("this file system has no pages of 2 MB, or memory has none left")
    with path.open("rb", buffering=0) as file:
        begin = 10 * build.PAGE
        os.posix_fadvise(file.fileno(), begin, build.PAGE, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for at in range(begin, begin + build.PAGE, 4096):
            os.pread(file.fileno(), 1, at)
    assert is_mapped()


def test_large_floating_point_weights_are_not_kept_but_known_to_be_finite(
    model: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_cache, "MOST_FLOAT_BYTES", 0)
    first = load(model, "bf16")
    (file,) = packed.iterdir()
    assert file.stat().st_size < 100
    monkeypatch.setattr(weights, "is_finite", lambda tensor: pytest.fail("examined again"))
    assert_equal(first, load(model, "bf16"))


@pytest.mark.parametrize("keeps_time", [True, False])
def test_weights_changed_in_place_are_packed_again(model: Path, packed: Path, keeps_time: bool) -> None:
    """Even if size, name and modification time stay."""
    first, file = load(model), model / "model.safetensors"
    times = file.stat()
    data = bytearray(file.read_bytes())
    data[-4_000:-10] = bytes(4_000 - 10)
    with file.open("r+b") as writing:
        writing.write(data)
    if keeps_time:
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = load(model)
    assert len(list(packed.iterdir())) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(folder_module.ENVIRONMENT_VARIABLE, "off")
        assert_equal(second, load(model))
    assert any(not torch.equal(a, b) for a, b in zip(outputs(first), outputs(second), strict=True))


def test_a_load_that_fails_leaves_nothing(model: Path, packed: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = torch.nan
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    for _ in range(2):
        with pytest.raises(ModelError, match="NaN"):
            load(model)
        assert list(packed.iterdir()) == []


def test_without_a_folder_that_can_be_written_models_load(model: Path, packed: Path) -> None:
    packed.write_text("a file where the folder should be")
    load(model)


def test_on_a_full_disk_models_load_and_nothing_is_left(
    model: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_cache, "SPARE_BYTES", 1 << 60)
    load(model)
    assert list(packed.iterdir()) == []


def test_the_folder_is_bounded_and_the_oldest_go_first(
    model: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(model, "int4")
    (oldest,) = packed.iterdir()
    os.utime(oldest, (1, 1))
    load(model, "bf16")
    monkeypatch.setattr(weight_cache, "MOST_BYTES", sum(size for _, size in folder_module.packed_weights()))
    load(model, "int8")
    assert not oldest.exists()
    assert len(list(packed.iterdir())) == 2


def test_a_small_model_and_one_with_the_cache_off_keep_nothing(
    model: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(folder_module.ENVIRONMENT_VARIABLE, "off")
        load(model)
    monkeypatch.setattr(weight_cache, "SMALLEST_MODEL", 1 << 40)
    load(model)
    assert not packed.exists()


def test_clearing_removes_every_file(model: Path, packed: Path) -> None:
    load(model)
    (packed / ".a.packed.00000000-1-00000000.part").write_bytes(b"of a killed process")
    assert folder_module.clear_packed_weights() > 0
    assert folder_module.packed_weights() == [] == list(packed.iterdir())
