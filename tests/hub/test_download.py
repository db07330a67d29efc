"""`llasa download` on the command line, against a hub on this machine."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llasa_cli.hub.cache_layout import PART_SUFFIX, CachedRepo
from tests.hub.conftest import REPO, Llasa, Made, forget, same_files, write_codec, write_repo
from tests.hub.fake_hub import FakeHub, Fault

WEIGHTS = "/small-llasa/model.safetensors"
CODEC = "HKUSTAudio/xcodec2-hf"


@pytest.fixture
def repo_folder(tmp_path: Path) -> Path:
    """A checkpoint that has its codec inside."""
    folder = write_repo(tmp_path / "served" / "small-llasa")
    (folder / "llasa.json").write_text(json.dumps({"format": 1, "codec": "codec"}))
    write_codec(folder / "codec")
    return folder


def folder_of(made: Made) -> Path:
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.strip().splitlines()[0])


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "llasa_cli", "download", *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_part(cache: Path, etag: str, size: int, process: subprocess.Popen[str]) -> Path:
    """Wait until so many bytes of the weights have arrived."""
    part = CachedRepo(cache, REPO).blobs / f"{etag}{PART_SUFFIX}"
    end = time.monotonic() + 60
    while not part.is_file() or part.stat().st_size < size:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    return part


# --- once, then without the network ---


def test_a_model_is_downloaded_once_and_then_used_without_the_network(
    hub: FakeHub, llasa: Llasa, tmp_path: Path, random_checkpoint: Path
) -> None:
    hub.repositories[REPO] = random_checkpoint
    made = llasa("download", REPO)
    folder = folder_of(made)
    assert same_files(random_checkpoint, folder)
    assert "license mit" in made.stderr
    hub.requests.clear()

    said = llasa("say", "hi", "-m", REPO, "-o", "a.wav", "--max-seconds", "0.2", "--accept-failed")
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "a.wav").is_file()
    again = llasa("download", REPO, "-q")
    assert folder_of(again) == folder
    assert again.stderr == ""
    assert hub.requests == [], "a cached model makes no network call"


def test_a_model_is_downloaded_with_its_codec(hub: FakeHub, llasa: Llasa, tmp_path: Path, repo_folder: Path) -> None:
    (repo_folder / "llasa.json").unlink()
    hub.repositories[CODEC] = write_codec(tmp_path / "codec")
    made = llasa("download", REPO)
    assert [Path(line).parents[1].name for line in made.stdout.splitlines()] == [
        "models--somebody--small-llasa",
        "models--HKUSTAudio--xcodec2-hf",
    ]
    hub.requests.clear()
    assert llasa("download", REPO).stdout == made.stdout
    assert hub.requests == []
    llasa("download", "--remove", "xcodec2")
    assert llasa("download", REPO, "--no-codec").stdout == made.stdout.splitlines()[0] + "\n"
    assert hub.requests == []


def test_a_refusal_comes_before_anything_is_downloaded(
    hub: FakeHub, llasa: Llasa, repo_folder: Path, cache: Path
) -> None:
    (repo_folder / "model.safetensors").rename(repo_folder / "pytorch_model.bin")
    forget(repo_folder / "codec")
    made = llasa("download", REPO)
    assert made.returncode == 3, made.stderr
    assert made.stderr.count("error:") == 1
    assert "only pickled" in made.stderr
    assert not cache.exists()


# --- after a kill ---


def kill_and_resume(
    hub: FakeHub, environment: dict[str, str], llasa: Llasa, cache: Path, served: Path, byte: int
) -> tuple[int, int]:
    """Kill a download after `byte` bytes of the weights, and resume. -> the first byte requested then, bytes sent twice."""
    forget(cache)
    hub.requests.clear()
    hub.faults = [Fault("stall", WEIGHTS, host="files", at=byte)] if byte else []
    etag = hub.etag(served / "model.safetensors")
    process = start(environment, REPO)
    wait_for_part(cache, etag, byte, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    hub.faults = []
    folder = folder_of(llasa("download", REPO))
    assert same_files(served, folder)
    requests = hub.asked(WEIGHTS, host="files")
    return requests[-1].start, sum(request.sent for request in requests) - (served / "model.safetensors").stat().st_size


def test_after_kill_9_the_download_resumes_at_the_byte(
    hub: FakeHub, environment: dict[str, str], llasa: Llasa, cache: Path, repo_folder: Path
) -> None:
    assert kill_and_resume(hub, environment, llasa, cache, repo_folder, 777_777) == (777_777, 0)


def test_a_part_with_all_its_bytes_is_verified_and_not_downloaded_again(
    hub: FakeHub, llasa: Llasa, cache: Path, repo_folder: Path
) -> None:
    weights = repo_folder / "model.safetensors"
    part = CachedRepo(cache, REPO).blobs / f"{hub.etag(weights)}{PART_SUFFIX}"
    part.parent.mkdir(parents=True)
    part.write_bytes(weights.read_bytes())
    assert same_files(repo_folder, folder_of(llasa("download", REPO)))
    assert hub.asked(WEIGHTS, host="files") == []


@pytest.mark.slow
def test_kill_9_at_20_random_bytes(
    hub: FakeHub, environment: dict[str, str], llasa: Llasa, cache: Path, repo_folder: Path
) -> None:
    size = (repo_folder / "model.safetensors").stat().st_size
    draw = random.Random(0)
    for byte in [draw.randrange(1, size) for _ in range(20)]:
        assert kill_and_resume(hub, environment, llasa, cache, repo_folder, byte) == (byte, 0)


@pytest.mark.slow
def test_kill_9_at_20_random_moments_of_a_running_stream(
    hub: FakeHub, environment: dict[str, str], llasa: Llasa, cache: Path, repo_folder: Path
) -> None:
    """No byte that had arrived in the process is downloaded again, although nothing is synchronized."""
    size = 40_000_001
    write_repo(repo_folder, weights=size)
    etag, draw, hub.rate = hub.etag(repo_folder / "model.safetensors"), random.Random(1), 40e6
    last = 0
    for _ in range(20):
        process = start(environment, REPO)
        part = wait_for_part(cache, etag, last + 1, process)
        time.sleep(draw.random() * 0.04)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert part.stat().st_size > last
        last = part.stat().st_size
    hub.rate = 0
    assert same_files(repo_folder, folder_of(llasa("download", REPO)))
    requests = hub.asked(WEIGHTS, host="files")
    assert requests[-1].start == last
    sent_twice = sum(request.sent for request in requests) - size
    print(f"sent twice: {sent_twice:,} bytes of {size:,} in 20 kills")
    assert sent_twice < 20 * (1 << 20), "no more than the network's buffers held"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_download_and_keeps_its_bytes(
    hub: FakeHub, environment: dict[str, str], llasa: Llasa, cache: Path, repo_folder: Path, number: int, code: int
) -> None:
    hub.faults = [Fault("stall", WEIGHTS, host="files", at=500_000)]
    process = start(environment, REPO)
    wait_for_part(cache, hub.etag(repo_folder / "model.safetensors"), 500_000, process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in errors
    said = llasa("say", "hi", "-m", REPO, "-o", "a.wav")
    assert said.returncode == 3, "an incomplete model is not used"
    assert f"llasa download {REPO}" in said.stderr
    assert same_files(repo_folder, folder_of(llasa("download", REPO)))
    assert hub.asked(WEIGHTS, host="files")[-1].start == 500_000


# --- several at the same time ---


def test_simultaneous_downloads_of_one_model_share_the_bytes(
    hub: FakeHub, environment: dict[str, str], cache: Path, repo_folder: Path
) -> None:
    hub.rate = 4e6
    processes = [start(environment, REPO) for _ in range(2)]
    ends = [(process.communicate(timeout=100), process.returncode) for process in processes]
    assert [code for _, code in ends] == [0, 0], ends
    folders = {Path(out.strip()) for (out, _), _ in ends}
    assert len(folders) == 1
    assert same_files(repo_folder, folders.pop())
    sent = sum(request.sent for request in hub.asked(WEIGHTS, host="files"))
    assert sent == (repo_folder / "model.safetensors").stat().st_size, "the weights came once"
    assert list(cache.rglob(f"*{PART_SUFFIX}")) == []


def test_after_a_kill_the_waiting_download_resumes(
    hub: FakeHub, environment: dict[str, str], llasa: Llasa, cache: Path, repo_folder: Path
) -> None:
    hub.faults = [Fault("stall", WEIGHTS, host="files", at=600_000)]
    first = start(
        environment | {"HF_HUB_DOWNLOAD_TIMEOUT": "100"}, REPO
    )  # it must not retry before the second one waits
    wait_for_part(cache, hub.etag(repo_folder / "model.safetensors"), 600_000, first)
    second = start(environment, REPO)
    assert second.stderr is not None
    assert any("another program is downloading" in line for line in iter(second.stderr.readline, ""))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    out, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert same_files(repo_folder, Path(out.strip()))
    assert hub.asked(WEIGHTS, host="files")[-1].start == 600_000


@pytest.mark.slow
def test_of_many_simultaneous_downloads_the_survivors_end_right(
    hub: FakeHub, environment: dict[str, str], llasa: Llasa, cache: Path, repo_folder: Path
) -> None:
    draw, hub.rate = random.Random(3), 1.5e6
    etag = hub.etag(repo_folder / "model.safetensors")
    for _ in range(4):
        forget(cache)
        processes = [start(environment, REPO) for _ in range(5)]
        wait_for_part(cache, etag, 1, processes[0])
        doomed = draw.sample(processes, 3)
        for process in doomed:
            time.sleep(draw.random() * 0.3)
            process.kill()
        for process in processes:
            out, errors = process.communicate(timeout=100)
            if process not in doomed:
                assert process.returncode == 0, errors
                assert same_files(repo_folder, Path(out.strip()))


# --- verify, update, remove ---


def test_verify_finds_a_flipped_bit_and_replaces_that_file(
    hub: FakeHub, llasa: Llasa, repo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(llasa("download", REPO))
    hub.requests.clear()
    whole = llasa("download", REPO, "--verify")
    assert "all checksums match" in whole.stderr
    assert hub.requests == []
    blob = (folder / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[1_000_000] ^= 4
    blob.write_bytes(content)

    with monkeypatch.context() as away:
        away.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert llasa("download", REPO, "--verify").returncode == 3
    assert blob.is_file(), "a file that can't be replaced now is kept"
    made = llasa("download", REPO, "--verify")
    assert "damaged, to be downloaded again: model.safetensors" in made.stderr
    assert same_files(repo_folder, folder_of(made))
    assert len(hub.asked("/model.safetensors", host="files")) == 1


def test_verify_repairs_a_download_of_the_library_with_a_truncated_configuration(
    hub: FakeHub, llasa: Llasa, cache: Path, repo_folder: Path
) -> None:
    folder = folder_of(llasa("download", REPO))
    forget(folder.parents[1] / ".llasa")
    (folder / "config.json").resolve().write_text("{")
    assert llasa("say", "hi", "-m", REPO, "-o", "a.wav").returncode == 3
    made = llasa("download", REPO, "--verify")
    assert "downloaded again: config.json" in made.stderr
    assert same_files(repo_folder, folder_of(made))


def test_update_downloads_the_changed_files(hub: FakeHub, llasa: Llasa, repo_folder: Path) -> None:
    old = folder_of(llasa("download", REPO))
    (repo_folder / "README.md").write_text("Another text.")
    assert folder_of(llasa("download", REPO)) == old, "without --update there is no request"
    hub.requests.clear()
    new = folder_of(llasa("download", REPO, "--update"))
    assert new != old
    assert (new / "README.md").read_text() == "Another text."
    read = {"config.json", "llasa.json"}  # for the choice of files
    assert {r.path.rpartition("/")[2] for r in hub.asked("resolve-cache")} == {"README.md", *read}
    assert hub.asked("model.safetensors", host="files") == []
    assert folder_of(llasa("download", f"{REPO}@{old.name}")) == old

    before = sum(path.stat().st_size for path in old.parents[1].rglob("*") if path.is_file())
    assert llasa("download", "--remove", f"{REPO}@{old.name}").returncode == 0
    assert not old.exists()
    assert same_files(repo_folder, new), "the newer revision keeps the shared files"
    assert sum(path.stat().st_size for path in new.parents[1].rglob("*") if path.is_file()) < before


def test_remove_empties_the_cache(hub: FakeHub, llasa: Llasa, cache: Path) -> None:
    llasa("download", REPO)
    made = llasa("download", "--remove", REPO, "--json")
    assert json.loads(made.stdout)["freed_bytes"] > 2_000_000
    assert [path.name for path in cache.iterdir() if path.name != ".locks"] == []
    again = llasa("download", "--remove", REPO)
    assert (again.returncode, again.stderr.count("error:")) == (3, 1)


def test_a_model_that_is_being_downloaded_is_not_removed(
    hub: FakeHub, llasa: Llasa, cache: Path, repo_folder: Path
) -> None:
    folder = folder_of(llasa("download", REPO))
    lock = CachedRepo(cache, REPO).locks / f"{hub.etag(repo_folder / 'model.safetensors')}.lock"
    held = "import filelock, sys, time; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", held, str(lock)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        made = llasa("download", "--remove", REPO)
        other.kill()
    assert made.returncode == 1
    assert "Another program is downloading" in made.stderr
    assert folder.is_dir()


# --- disks ---


def test_a_full_disk_is_reported_before_the_download(
    hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llasa_cli.errors import LlasaError
    from llasa_cli.hub.download import check_free_space, plan_download
    from llasa_cli.hub.http import HubClient

    wanted = plan_download(HubClient(), REPO)
    check_free_space([wanted])
    usage = type("Usage", (), {"free": wanted.missing})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(LlasaError, match="The download needs"):
        check_free_space([wanted])
    assert hub.asked(WEIGHTS) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
def test_a_disk_that_fills_is_reported_and_the_downloaded_bytes_are_kept(
    hub: FakeHub, environment: dict[str, str], llasa: Llasa, repo_folder: Path
) -> None:
    """The system refuses to let a file grow, as on a full disk."""
    limited = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20));"
    code = f"{limited} runpy.run_module('llasa_cli', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", code, "download", REPO]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 1, made.stderr
    assert "is full" in made.stderr
    assert "Traceback" not in made.stderr
    assert same_files(repo_folder, folder_of(llasa("download", REPO)))
    assert hub.asked(WEIGHTS, host="files")[-1].start == 1 << 20


def test_a_cache_that_is_a_file_is_reported(
    hub: FakeHub, llasa: Llasa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLASA_CACHE", str(tmp_path / "file"))
    made = llasa("download", REPO)
    assert made.returncode == 1
    assert made.stderr.count("error:") == 1
    assert "Traceback" not in made.stderr


# --- output ---


def test_the_list_shows_catalog_and_cache_without_the_network(hub: FakeHub, llasa: Llasa) -> None:
    llasa("download", REPO)
    hub.requests.clear()
    text = llasa("download", "--list").stdout
    assert re.search(r"^1b +2\.74 GB +- ", text, re.MULTILINE)
    assert re.search(rf"^{REPO} +2 MB +yes ", text, re.MULTILINE)
    models = {model["name"]: model for model in json.loads(llasa("download", "--list", "--json").stdout)}
    assert models["1b-kore-puck"]["speakers"] == ["kore", "puck"]
    assert models["3b-anime"]["sampling_rate"] == 44_100
    assert models[REPO]["here"] is True
    assert "sampling_rate  44100" in llasa("download", "--list", "anime").stdout
    assert hub.requests == []


def test_json_has_folder_commit_and_bytes(hub: FakeHub, llasa: Llasa) -> None:
    facts = json.loads(llasa("download", REPO, "--json").stdout)
    assert facts["commit"] == hub.commit(REPO) == Path(facts["folder"]).name
    assert facts["fetched_bytes"] > 2_000_000


def test_the_built_in_voice_needs_no_download(llasa: Llasa) -> None:
    assert (folder_of(llasa("download", "tiny")) / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("nonsense",), 3),
        (("1b@", "--list"), 0),
        (("--verify",), 2),
        (("--remove",), 2),
        (("1b", "--remove", "--update"), 2),
        (("tiny", "--remove"), 2),
        (("1b",), 3),
    ],
)
def test_exit_codes(hub: FakeHub, llasa: Llasa, arguments: tuple[str, ...], code: int) -> None:
    made = llasa("download", *arguments)
    assert made.returncode == code, made.stderr
    assert "Traceback" not in made.stderr


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals there")
def test_a_terminal_shows_progress_and_clears_it_at_the_end(
    hub: FakeHub, environment: dict[str, str], repo_folder: Path
) -> None:
    hub.rate = 4e6
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "llasa_cli", "download", REPO]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs):
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:
            pass  # Linux raises when the other end is closed
    os.close(ours)
    assert re.search(rb"small-llasa  \d\.\d of 2\.3 MB  \d+%  [\d.]+ MB/s  \d s left", shown)
    assert b"\r\x1b[K" in shown[shown.rindex(b"left") :]


def test_a_damaged_file_stays_while_the_hub_is_not_available(
    hub: FakeHub, llasa: Llasa, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(llasa("download", REPO))
    blob = (folder / "model.safetensors").resolve()
    blob.write_bytes(bytes(blob.stat().st_size))
    hub.repositories.clear()
    assert llasa("download", REPO, "--verify").returncode == 3
    assert blob.is_file()


def test_the_list_of_one_name_shows_all_its_fields(hub: FakeHub, llasa: Llasa, cache: Path) -> None:
    unknown = llasa("download", "--list", "foo/bar")
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert "foo/bar" in unknown.stderr
    assert "CC BY-NC" in llasa("download", "--list", "hkustaudio/llasa-1b").stdout
    assert "part of this program" in llasa("download", "--list", "tiny").stdout
    blobs = CachedRepo(cache, REPO).blobs
    blobs.mkdir(parents=True)
    (blobs / f"{'0' * 64}{PART_SUFFIX}").write_bytes(bytes(2_000_000))
    assert re.search(r"^bytes_here +2 MB", llasa("download", "--list", REPO).stdout, re.MULTILINE), "cut off"
    assert re.search(rf"^{REPO} +\? +partly ", llasa("download", "--list").stdout, re.MULTILINE)


def test_a_revision_that_frees_no_bytes_can_be_removed(hub: FakeHub, llasa: Llasa, repo_folder: Path) -> None:
    old = folder_of(llasa("download", REPO))
    (repo_folder / "more.json").write_text("{}")
    new = folder_of(llasa("download", REPO, "--update"))
    assert new != old
    made = llasa("download", "--remove", f"{REPO}@{old.name}")
    assert made.returncode == 0, made.stderr
    assert not old.exists()
    assert new.is_dir()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", "socksio"),
        ("ALL_PROXY", "nonsense://127.0.0.1:9", "proxy"),
        ("SSL_CERT_FILE", "/nowhere.pem", "SSL_CERT_FILE=/nowhere.pem"),
        ("SSL_CERT_FILE", __file__, "certificates can't be used"),
    ],
)
def test_a_wrong_network_setting_is_named(
    hub: FakeHub, llasa: Llasa, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    made = llasa("download", "1b")
    assert made.returncode == 3
    assert said in made.stderr


def test_an_unreadable_cache_is_reported(
    hub: FakeHub, llasa: Llasa, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.is_dir

    def is_dir(path: Path) -> bool:  # the test may run as root, which may read everything
        if path.is_relative_to(cache):
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    for arguments in (("download", "--list"), ("download", "1b"), ("say", "-m", "1b", "hi", "-o", "x.wav")):
        made = llasa(*arguments)
        assert made.returncode == 3
        assert "can't be read: Permission denied" in made.stderr


def test_a_name_that_is_too_long_for_a_file_is_an_unknown_model(llasa: Llasa) -> None:
    made = llasa("say", "-m", "x" * 300, "hi", "-o", "x.wav")
    assert made.returncode == 3
    assert "no model of that name" in made.stderr
