"""One file over real HTTP: whatever goes wrong on the way, it ends as the file that the hub names, or as an error."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.hub.cache_layout import PART_SUFFIX, CachedRepo
from llasa_cli.hub.download import fetch, plan
from llasa_cli.hub.http import Wire
from llasa_cli.settings import RetryPolicy
from tests.hub.conftest import REPO, same_files
from tests.hub.fake_hub import FakeHub, Fault, Request

WEIGHTS = "/small-llasa/model.safetensors"
Asked = Callable[[], list[Request]]


def download(wire: Wire) -> Path:
    return fetch(wire, plan(wire, REPO), lambda count, fresh: None, lambda file: None, False)


def parts(cache: Path) -> list[Path]:
    return list(cache.rglob(f"*{PART_SUFFIX}"))


@pytest.fixture
def from_files(hub: FakeHub) -> Asked:
    """What was asked for of the weights at the host of big files."""
    return lambda: hub.asked(WEIGHTS, host="files")


def test_a_dropped_connection_goes_on_at_the_byte(
    hub: FakeHub, wire: Wire, repo_folder: Path, from_files: Asked
) -> None:
    size = (repo_folder / "model.safetensors").stat().st_size
    ends = [random.Random(seed).randrange(1, 400_000) for seed in range(5)]
    hub.faults = [Fault("drop", WEIGHTS, host="files", at=end) for end in ends]
    assert same_files(repo_folder, download(wire))
    requests = from_files()
    assert [request.start for request in requests] == [sum(ends[:n]) for n in range(6)]
    assert sum(request.sent for request in requests) == size, "no byte was sent twice"


def test_silence_is_given_up_and_gone_on_from(
    hub: FakeHub, wire: Wire, repo_folder: Path, from_files: Asked, notes: list[str]
) -> None:
    hub.faults = [Fault("stall", WEIGHTS, host="files", at=70_001), Fault("stall", "config.json")]
    assert same_files(repo_folder, download(wire))
    assert [request.start for request in from_files()] == [0, 70_001]
    assert any("nothing has come" in note for note in notes)


@pytest.mark.parametrize("times", [1, -1])
def test_a_host_that_cannot_send_parts_is_asked_for_all(
    hub: FakeHub, wire: Wire, repo_folder: Path, times: int
) -> None:
    """200 to a Range: what is here is passed over and not written twice."""
    hub.faults = [Fault("drop", WEIGHTS, host="files", at=300_001), Fault("whole", WEIGHTS, times, host="files")]
    assert same_files(repo_folder, download(wire))


def test_a_part_other_than_asked_for_is_not_taken(hub: FakeHub, wire: Wire, repo_folder: Path) -> None:
    hub.faults = [Fault("drop", WEIGHTS, host="files", at=300_001), Fault("shifted", WEIGHTS, -1, host="files")]
    assert same_files(repo_folder, download(wire))


def test_wrong_bytes_are_fetched_again(
    hub: FakeHub, wire: Wire, repo_folder: Path, from_files: Asked, notes: list[str]
) -> None:
    hub.faults = [Fault("wrong", WEIGHTS, host="files", at=1_234_567)]
    assert same_files(repo_folder, download(wire))
    assert [request.start for request in from_files()] == [0, 0]
    assert any("damaged" in note for note in notes)


def test_wrong_bytes_each_time_are_an_error_and_leave_nothing(
    hub: FakeHub, wire: Wire, cache: Path, repo_folder: Path
) -> None:
    hub.faults = [Fault("wrong", WEIGHTS, -1, host="files", at=9)]
    with pytest.raises(ModelError, match="arrives damaged each time"):
        download(wire)
    assert parts(cache) == []
    assert not (CachedRepo(cache, REPO).blobs / hub.etag(repo_folder / "model.safetensors")).exists()
    assert not CachedRepo(cache, REPO).ref("main").exists(), "what is not whole is not known by its name"


def test_small_files_are_checked_too(hub: FakeHub, wire: Wire) -> None:
    hub.faults = [Fault("wrong", "resolve-cache", -1, at=3)]
    with pytest.raises(ModelError, match="other bytes than the hub names"):
        plan(wire, REPO)


def test_a_file_without_an_end_is_cut(
    hub: FakeHub, wire: Wire, repo_folder: Path, from_files: Asked, notes: list[str]
) -> None:
    hub.faults = [Fault("long", WEIGHTS, host="files")]
    assert same_files(repo_folder, download(wire))
    assert any("more bytes" in note for note in notes)
    assert len(from_files()) == 1, "what came first is the file"


def test_a_body_that_is_packed_unasked_is_unpacked(hub: FakeHub, wire: Wire, repo_folder: Path) -> None:
    hub.faults = [Fault("zipped", WEIGHTS, host="files"), Fault("zipped", "tokenizer.json", host="hub", times=0)]
    assert same_files(repo_folder, download(wire))


@pytest.mark.parametrize("status", [408, 429, 503])
def test_what_may_pass_is_tried_again(hub: FakeHub, wire: Wire, repo_folder: Path, status: int) -> None:
    hub.faults = [Fault("status", path, times=2, status=status) for path in ("/api/models", "/resolve/", WEIGHTS)]
    assert same_files(repo_folder, download(wire))


def test_a_link_that_has_ended_is_asked_for_anew(
    hub: FakeHub, wire: Wire, repo_folder: Path, from_files: Asked
) -> None:
    """A download of hours outlives its signed link: 403 of the files' host is not the hub's 403."""
    hub.faults = [Fault("drop", WEIGHTS, host="files", at=500_000), Fault("expired", WEIGHTS, host="files")]
    assert same_files(repo_folder, download(wire))
    assert [request.start for request in from_files()] == [0, 500_000, 500_000]
    assert len(hub.asked(f"/{REPO}/resolve/{hub.commit(REPO)}/model.safetensors")) == 3


def test_what_does_not_pass_is_given_up(hub: FakeHub, wire: Wire) -> None:
    hub.faults = [Fault("status", "/api/models", times=-1, status=503)]
    with pytest.raises(ModelError, match="answers 503") as caught:
        plan(wire, REPO)
    assert "goes on where it stopped" in caught.value.hint
    assert len(hub.requests) == wire.patience.tries


def test_progress_makes_patience_new(hub: FakeHub, wire: Wire, repo_folder: Path) -> None:
    """A bad line that brings some bytes each time is never given up on."""
    hub.faults = [Fault("drop", WEIGHTS, 4 * wire.patience.tries, host="files", at=50_000)]
    assert same_files(repo_folder, download(wire))


def test_a_wait_that_is_asked_for_is_kept(hub: FakeHub, wire: Wire, notes: list[str]) -> None:
    hub.faults = [Fault("status", "/api/models", status=429, headers={"Retry-After": "1"})]
    plan(wire, REPO)
    assert any("again in 1 s" in note for note in notes)


@pytest.mark.parametrize("headers", [{"Retry-After": "4000"}, {"RateLimit": '"resolvers";r=0;t=4000'}])
def test_a_wait_of_an_hour_is_told_and_not_slept(hub: FakeHub, wire: Wire, headers: dict[str, str]) -> None:
    hub.faults = [Fault("status", "/api/models", status=429, headers=headers)]
    with pytest.raises(ModelError, match="left alone for 4000 s"):
        plan(wire, REPO)


@pytest.mark.parametrize("kind", ["wrong", "longer"])
def test_a_damaged_part_is_not_built_upon(hub: FakeHub, wire: Wire, cache: Path, repo_folder: Path, kind: str) -> None:
    weights = repo_folder / "model.safetensors"
    part = CachedRepo(cache, REPO).blobs / f"{hub.etag(weights)}{PART_SUFFIX}"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"nonsense" if kind == "wrong" else weights.read_bytes() + b"more")
    assert same_files(repo_folder, download(wire))


def test_the_token_goes_to_the_hub_alone(
    hub: FakeHub, wire: Wire, monkeypatch: pytest.MonkeyPatch, repo_folder: Path
) -> None:
    hub.gated[REPO] = {"hf_secret"}
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with Wire(RetryPolicy(first_pause_s=0.01)) as own:
        assert same_files(repo_folder, download(own))
    told = {(request.host, "authorization" in request.headers) for request in hub.requests}
    assert told == {("hub", True), ("files", False)}


def test_a_full_disk_is_a_sentence_and_keeps_what_came(
    hub: FakeHub, wire: Wire, cache: Path, monkeypatch: pytest.MonkeyPatch, repo_folder: Path, from_files: Asked
) -> None:
    import errno
    import os

    wanted = plan(wire, REPO)
    write, room = os.write, [1_000_000]

    def write_on_a_small_disk(number: int, content: bytes) -> int:
        if len(content) > 1000:
            if room[0] <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            room[0] -= len(content)
        return write(number, content)

    with monkeypatch.context() as small:
        small.setattr("llasa_cli.hub.transfer.os.write", write_on_a_small_disk)
        with pytest.raises(LlasaError, match="is full") as caught:
            fetch(wire, wanted, lambda count, fresh: None, lambda file: None, False)
    assert caught.value.exit_code == 1
    [part] = parts(cache)
    have = part.stat().st_size
    assert have >= 1_000_000
    assert same_files(repo_folder, download(wire))
    assert from_files()[-1].start == have


def test_without_locks_two_downloads_at_once_end_right(
    hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch, repo_folder: Path
) -> None:
    """Some network disks have none: both write the same bytes to the same places."""
    from concurrent.futures import ThreadPoolExecutor

    from filelock import FileLock

    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", refuse)
    hub.rate = 4e6

    def one(_: int) -> Path:
        with Wire(RetryPolicy(first_pause_s=0.01)) as own:
            return download(own)

    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(one, range(2)))
    assert folders[0] == folders[1]
    assert same_files(repo_folder, folders[0])
    assert len(hub.asked(WEIGHTS, host="files")) == 2, "they did run at once"
    assert parts(cache) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_whatever_goes_wrong_it_is_the_right_file_or_an_error(
    hub: FakeHub, cache: Path, repo_folder: Path, seed: int
) -> None:
    draw = random.Random(seed)
    kinds = ("drop", "stall", "wrong", "whole", "long", "shifted", "zipped", "page", "expired", "status")
    places = ("/api/models", "/resolve/", "resolve-cache", WEIGHTS, WEIGHTS, WEIGHTS)
    hub.faults = [
        Fault(
            draw.choice(kinds),
            draw.choice(places),
            times=draw.choice((1, 1, 2, 9)),
            at=draw.randrange(2_000_000),
            status=draw.choice((400, 403, 404, 416, 429, 500, 503)),
        )
        for _ in range(draw.randrange(1, 8))
    ]
    with Wire(RetryPolicy(first_pause_s=0.001, longest_pause_s=0.002, timeout_s=0.15)) as own:
        for _ in range(3):
            try:
                folder = download(own)
            except ModelError:
                assert not CachedRepo(cache, REPO).ref("main").exists()
                continue
            assert same_files(repo_folder, folder)
            return
        hub.faults = []
        assert same_files(repo_folder, download(own))
