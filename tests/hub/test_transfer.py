"""One file over real HTTP: whatever fault occurs, the result is the file that the hub names, or an error."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llasa_cli.errors import ModelError
from llasa_cli.hub.cache_layout import PART_SUFFIX, CachedRepo
from llasa_cli.hub.download import fetch, plan_download
from llasa_cli.hub.http import HubClient, RetryPolicy
from tests.hub.conftest import REPO, same_files
from tests.hub.fake_hub import FakeHub, Fault, Request

WEIGHTS = "/small-llasa/model.safetensors"
Requests = Callable[[], list[Request]]


def download(client: HubClient) -> Path:
    return fetch(client, plan_download(client, REPO))


def parts(cache: Path) -> list[Path]:
    return list(cache.rglob(f"*{PART_SUFFIX}"))


@pytest.fixture
def from_files(hub: FakeHub) -> Requests:
    """The requests for the weights at the host of big files."""
    return lambda: hub.asked(WEIGHTS, host="files")


def test_after_a_lost_connection_the_download_resumes_at_the_byte(
    hub: FakeHub, client: HubClient, repo_folder: Path, from_files: Requests
) -> None:
    size = (repo_folder / "model.safetensors").stat().st_size
    ends = [random.Random(seed).randrange(1, 400_000) for seed in range(5)]
    hub.faults = [Fault("drop", WEIGHTS, host="files", at=end) for end in ends]
    assert same_files(repo_folder, download(client))
    requests = from_files()
    assert [request.start for request in requests] == [sum(ends[:n]) for n in range(6)]
    assert sum(request.sent for request in requests) == size, "no byte was sent twice"


def test_a_silent_connection_is_closed_and_the_download_resumes(
    hub: FakeHub, client: HubClient, repo_folder: Path, from_files: Requests, notes: list[str]
) -> None:
    hub.faults = [Fault("stall", WEIGHTS, host="files", at=70_001), Fault("stall", "config.json")]
    assert same_files(repo_folder, download(client))
    assert [request.start for request in from_files()] == [0, 70_001]
    assert any("has sent nothing" in note for note in notes)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("drop", at=300_001), Fault("whole")],  # a host without ranges sends the whole file
        [Fault("drop", at=300_001), Fault("shifted")],  # another part than the requested one
        [Fault("drop", at=300_001), Fault("status", status=416)],
        [Fault("long")],  # more bytes after the end of the file
        [Fault("zipped")],
    ],
    ids=lambda faults: faults[-1].kind,
)
def test_whatever_a_host_answers_the_file_is_the_named_one(
    hub: FakeHub, client: HubClient, repo_folder: Path, faults: list[Fault]
) -> None:
    hub.faults = [replace(fault, path=WEIGHTS, host="files") for fault in faults]
    assert same_files(repo_folder, download(client))


def test_a_host_that_loses_the_whole_file_each_time_ends_the_download(hub: FakeHub, client: HubClient) -> None:
    """Bytes that come a second time are no progress."""
    hub.faults = [Fault("drop", WEIGHTS, host="files", at=300_001), Fault("whole", WEIGHTS, -1, "files", at=200_000)]
    with pytest.raises(ModelError, match="connection was lost"):
        download(client)


def test_a_damaged_file_is_downloaded_again(
    hub: FakeHub, client: HubClient, repo_folder: Path, from_files: Requests, notes: list[str]
) -> None:
    hub.faults = [Fault("wrong", WEIGHTS, host="files", at=1_234_567)]
    assert same_files(repo_folder, download(client))
    assert [request.start for request in from_files()] == [0, 0]
    assert any("damaged" in note for note in notes)


def test_a_file_that_is_damaged_each_time_is_an_error_and_leaves_nothing(
    hub: FakeHub, client: HubClient, cache: Path, repo_folder: Path
) -> None:
    hub.faults = [Fault("wrong", WEIGHTS, -1, host="files", at=9)]
    with pytest.raises(ModelError, match="arrives damaged each time"):
        download(client)
    assert parts(cache) == []
    assert not (CachedRepo(cache, REPO).blobs / hub.etag(repo_folder / "model.safetensors")).exists()
    assert not CachedRepo(cache, REPO).ref("main").exists(), "an incomplete model has no name"


def test_small_files_are_verified_too(hub: FakeHub, client: HubClient) -> None:
    hub.faults = [Fault("wrong", "resolve-cache", -1, at=3)]
    with pytest.raises(ModelError, match="does not match the hub's checksum"):
        plan_download(client, REPO)


@pytest.mark.parametrize("status", [408, 429, 503])
def test_a_temporary_status_is_tried_again(hub: FakeHub, client: HubClient, repo_folder: Path, status: int) -> None:
    hub.faults = [Fault("status", path, times=2, status=status) for path in ("/api/models", "/resolve/", WEIGHTS)]
    assert same_files(repo_folder, download(client))


def test_an_expired_link_is_requested_again(
    hub: FakeHub, client: HubClient, repo_folder: Path, from_files: Requests
) -> None:
    """A signed link may expire during a long download. A 403 of the files' host is not a 403 of the hub."""
    hub.faults = [Fault("drop", WEIGHTS, host="files", at=500_000), Fault("expired", WEIGHTS, host="files")]
    assert same_files(repo_folder, download(client))
    assert [request.start for request in from_files()] == [0, 500_000, 500_000]
    assert len(hub.asked(f"/{REPO}/resolve/{hub.commit(REPO)}/model.safetensors")) == 3


def test_retries_end(hub: FakeHub, client: HubClient) -> None:
    hub.faults = [Fault("status", "/api/models", times=-1, status=503)]
    with pytest.raises(ModelError, match="answers 503") as caught:
        plan_download(client, REPO)
    assert "resumes where it stopped" in caught.value.hint
    assert len(hub.requests) == client.policy.tries


def test_every_new_byte_resets_the_count_of_failures(hub: FakeHub, client: HubClient, repo_folder: Path) -> None:
    """A bad connection that delivers some bytes each time is used to the end."""
    hub.faults = [Fault("drop", WEIGHTS, 4 * client.policy.tries, host="files", at=50_000)]
    assert same_files(repo_folder, download(client))


def test_retry_after_is_obeyed(hub: FakeHub, client: HubClient, notes: list[str]) -> None:
    hub.faults = [Fault("status", "/api/models", status=429, headers={"Retry-After": "1"})]
    plan_download(client, REPO)
    assert any("again in 1 s" in note for note in notes)


@pytest.mark.parametrize("headers", [{"Retry-After": "4000"}, {"RateLimit": '"resolvers";r=0;t=4000'}])
def test_a_pause_of_an_hour_is_reported_instead_of_slept(
    hub: FakeHub, client: HubClient, headers: dict[str, str]
) -> None:
    hub.faults = [Fault("status", "/api/models", status=429, headers=headers)]
    with pytest.raises(ModelError, match="a pause of 4000 s"):
        plan_download(client, REPO)


@pytest.mark.parametrize("kind", ["wrong", "longer"])
def test_a_damaged_part_is_not_used(hub: FakeHub, client: HubClient, cache: Path, repo_folder: Path, kind: str) -> None:
    weights = repo_folder / "model.safetensors"
    part = CachedRepo(cache, REPO).blobs / f"{hub.etag(weights)}{PART_SUFFIX}"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"nonsense" if kind == "wrong" else weights.read_bytes() + b"more")
    assert same_files(repo_folder, download(client))


def test_the_token_goes_to_the_hub_only(
    hub: FakeHub, client: HubClient, monkeypatch: pytest.MonkeyPatch, repo_folder: Path
) -> None:
    hub.gated[REPO] = {"hf_secret"}
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert same_files(repo_folder, download(HubClient(RetryPolicy(first_pause_s=0.01))))
    sent = {(request.host, "authorization" in request.headers) for request in hub.requests}
    assert sent == {("hub", True), ("files", False)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_random_faults_end_in_the_right_file_or_an_error(
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
    own = HubClient(RetryPolicy(first_pause_s=0.001, longest_pause_s=0.002, timeout_s=0.15))
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
