"""`llasa doctor`: reports what works on this machine, what is missing, and the command that fixes it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from llasa_cli.audio.formats import FILE_FORMATS, FORMATS
from llasa_cli.cli.console import Console, as_json, claim_stdout, result
from llasa_cli.cli.flags import with_flags
from llasa_cli.errors import LlasaError
from llasa_cli.options import Flag, Options
from llasa_cli.settings import BUILT_IN_MODEL, DEFAULT_LISTENER, DEVICE_FLAG, MODEL_FLAG, ModelOptions

OK, NOTE, BROKEN = "ok", "note", "broken"
"""The states of a finding: it works; something optional is missing; speech is impossible until it is fixed."""
PACKAGE = "llasa-cli"
TEST_TEXT = "This is a short test of the voice."
_LITTLE_MEMORY = 1_000_000_000
_LITTLE_DISK = 3_000_000_000
"""Bytes: the smallest published model and its codec take 5 GB, a Whisper model 0.3."""
_STYLES = {OK: "green", NOTE: "yellow", BROKEN: "bold red"}


@dataclass(frozen=True)
class DoctorOptions(Options):
    """Options of `llasa doctor`."""

    model: Annotated[str, MODEL_FLAG] = BUILT_IN_MODEL
    device: Annotated[str, DEVICE_FLAG] = ModelOptions.device
    self_test: Annotated[bool, Flag("Speak a sentence with the built-in voice.")] = True
    clear_weights: Annotated[
        bool, Flag("Remove the packed weights from the cache folder; they are made again when needed.")
    ] = False
    quiet: Annotated[bool, Flag("Print no progress.", names=("-q", "--quiet"))] = False
    json: Annotated[bool, Flag("Print the findings as JSON.")] = False


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: ok, note or broken.
        what: The thing that was examined.
        found: Its condition, in words.
        fix: The command or setting that fixes it; empty where nothing has to be fixed.
    """

    state: str
    what: str
    found: str
    fix: str = ""


@with_flags
def doctor(options: DoctorOptions) -> None:
    """Examine the device, memory, sound, caches and versions; report what is missing and how to fix it."""
    from llasa_cli.cli.tables import table_text

    claim_stdout()
    findings: list[Finding] = []
    with Console(options.quiet) as console:
        for examination in _examinations(options):
            console.stage(f"examining {examination.what}")
            findings += examination.findings()
    broken = [finding for finding in findings if finding.state == BROKEN]
    if options.json:
        result(as_json({"ok": not broken, "findings": [asdict(finding) for finding in findings]}))
    else:
        rows = [(f.state, f.what, f.found + (f"\n-> {f.fix}" if f.fix else "")) for f in findings]
        result(table_text(("", "what", "found"), rows, styles=_STYLES))
    if broken:
        raise LlasaError(f"These do not work: {', '.join(finding.what for finding in broken)}.", broken[0].fix)


@dataclass(frozen=True)
class _Examination:
    """A part of the report. An error in it becomes a finding and doesn't end the report."""

    what: str
    examine: Callable[[], Iterator[Finding]]
    is_needed: bool = False

    def findings(self) -> list[Finding]:
        found: list[Finding] = []
        state = BROKEN if self.is_needed else NOTE
        try:
            found.extend(self.examine())
        except LlasaError as error:
            found.append(Finding(state, self.what, error.message, error.hint))
        except Exception as error:  # any fault of this machine is a finding
            found.append(Finding(state, self.what, f"{type(error).__name__}: {error}".strip()))
        return found


def _examinations(options: DoctorOptions) -> Iterator[_Examination]:
    yield _Examination("versions", _versions, is_needed=True)
    yield _Examination("device", lambda: _device(options.device), is_needed=True)
    yield _Examination("memory", _memory)
    yield _Examination("sound output", _sound)
    yield _Examination("file formats", _formats, is_needed=True)
    yield _Examination("hub", _hub)
    yield _Examination("model cache", _cache)
    yield _Examination("packed weights", lambda: _packed_weights(options.clear_weights))
    yield _Examination("model", lambda: _model(options.model), is_needed=True)
    yield _Examination("saved voices", _voices)
    yield _Examination("extras", _extras)
    if options.self_test:
        yield _Examination("self-test", lambda: _self_test(options.device), is_needed=True)


# --- versions ---


def _versions() -> Iterator[Finding]:
    """Every required package: the installed version against the one that this package's metadata requires."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    from llasa_cli import __version__

    yield Finding(OK, "llasa", f"{__version__}, {Path(__file__).parents[1]}")
    yield Finding(OK, "python", f"{platform.python_version()}, {sys.executable}; {platform.platform()}")
    for requirement in map(Requirement, _requirements()):
        if requirement.marker is not None:
            continue  # belongs to an extra
        fix = f"{_pip()} install --upgrade '{requirement}'"
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Finding(BROKEN, requirement.name, "not installed", fix)
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        unmet = "" if fits else f", but {requirement.specifier} is needed"
        yield Finding(OK if fits else BROKEN, requirement.name, found + unmet, "" if fits else fix)


def _requirements() -> list[str]:
    """The requirements of this package; empty for a copy that was never installed."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        return sorted(requires(PACKAGE) or [])
    except PackageNotFoundError:
        return []


def _pip() -> str:
    return f"{sys.executable} -m pip"


# --- the machine ---


def _device(name: str) -> Iterator[Finding]:
    import torch

    from llasa_cli.device import pick_device, usable_cores

    named = os.environ.get("OMP_NUM_THREADS")
    count = torch.get_num_threads()
    threads = f"{count} thread{'' if count == 1 else 's'}" + (f" (OMP_NUM_THREADS={named})" if named else "")
    yield Finding(OK, "CPU", f"{_cpu_name()}, {usable_cores()} cores for this process, {threads}")
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        free, whole = torch.cuda.mem_get_info(number)
        yield Finding(OK, f"cuda:{number}", f"{facts.name}, {_gigabytes(free)} of {_gigabytes(whole)} free")
    if not torch.cuda.is_available() and _has_nvidia():
        yield Finding(
            NOTE, "CUDA", f"there is an NVIDIA GPU that torch {torch.__version__} can't use",
            "install a CUDA build of torch: https://pytorch.org/get-started/locally",
        )  # fmt: skip
    if torch.backends.mps.is_available():
        yield Finding(OK, "mps", "Apple GPU")
    yield Finding(OK, "device used", str(pick_device(name)) + (f" (--device {name})" if name != "auto" else ""))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _has_nvidia() -> bool:
    import shutil

    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _memory() -> Iterator[Finding]:
    from llasa_cli.memory import free_memory, total_memory

    total, free = total_memory(), free_memory()
    if total is None:
        yield Finding(NOTE, "memory", "unknown on this system")
        return
    is_little = free is not None and free < _LITTLE_MEMORY
    yield Finding(
        NOTE if is_little else OK,
        "memory",
        _gigabytes(total) + (f", {_gigabytes(free)} of it free" if free is not None else ""),
        "close other programs: the model 1b needs 5 GB" if is_little else "",
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


# --- sound ---


def _sound() -> Iterator[Finding]:
    fix = {
        "linux": "apt install libportaudio2 (or your system's PortAudio); -o writes files without it",
        "darwin": "brew install portaudio; -o writes files without it",
    }.get(sys.platform, f"{_pip()} install --force-reinstall sounddevice; -o writes files without it")
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        yield Finding(NOTE, "sound output", f"can't be played: {error}", fix)
        return
    version = sounddevice.get_portaudio_version()[1].partition(",")[0]
    try:
        device = sounddevice.query_devices(kind="output")
    except (sounddevice.PortAudioError, ValueError) as error:
        yield Finding(
            NOTE, "sound output", f"there is no output device ({version}; {error})", "-o writes files without one"
        )
        return
    outputs = [
        f"{other['index']} {other['name']}" for other in sounddevice.query_devices() if other["max_output_channels"]
    ]
    text = f"{device['name']}, {device['default_samplerate']:.0f} Hz; {version}; --audio-device: {', '.join(outputs)}"
    yield Finding(OK, "sound output", text)


def _formats() -> Iterator[Finding]:
    import soundfile

    from llasa_cli.audio.pyav import is_installed

    own = [name for name in FILE_FORMATS if FORMATS[name][0] != "MP4"]
    others = [name for name in FILE_FORMATS if name not in own]
    missing = [name for name in own if not soundfile.check_format(*FORMATS[name])]
    text = f"libsndfile {soundfile.__libsndfile_version__}: {' '.join(own)}; PyAV: "
    text += " ".join(others) if is_installed() else f"not installed, so no {', '.join(others)}"
    if missing:
        text = f"libsndfile {soundfile.__libsndfile_version__} writes no {', '.join(missing)}"
    fix = f"{_pip()} install --upgrade --force-reinstall soundfile" if missing else ""
    yield Finding(NOTE if missing else OK, "file formats", text, fix)


# --- models ---


def _hub() -> Iterator[Finding]:
    from huggingface_hub import constants, get_token

    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    offline = [name for name in switches if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")]
    if offline:
        yield Finding(
            NOTE,
            "offline",
            f"{', '.join(offline)} is set: nothing is downloaded",
            f"unset {' '.join(offline)} to download",
        )
    token = "a token is set" if get_token() else "no token (published models require one: HF_TOKEN, or `hf auth login`)"
    yield Finding(OK, "hub", f"{constants.ENDPOINT}, {token}")


def _cache() -> Iterator[Finding]:
    import shutil

    from llasa_cli.hub.cache_layout import download_cache

    cache = download_cache()
    free = shutil.disk_usage(_nearest(cache)).free
    text = f"{cache}, {_gigabytes(free)} free" + ("" if cache.exists() else "; not created yet")
    if not _is_writable(cache):
        yield Finding(
            NOTE, "model cache", f"{text}; it can't be written", "set HF_HUB_CACHE to a folder that you may write"
        )
    elif free < _LITTLE_DISK:
        yield Finding(NOTE, "model cache", text, "free disk space, or set HF_HUB_CACHE to a folder on another disk")
    else:
        yield Finding(OK, "model cache", text)
    if cache.is_dir():
        yield from _cached_models(cache)


def _packed_weights(clear: bool) -> Iterator[Finding]:
    """The size of the quantized weights in the cache folder; removes them if `clear`."""
    from llasa_cli.packed_weights_folder import clear_packed_weights, packed_weights, packed_weights_folder
    from llasa_cli.wording import format_size

    folder, found = packed_weights_folder(), packed_weights()
    if clear:
        text = f"{format_size(clear_packed_weights())} removed from {folder}"
    elif found:
        text = f"{format_size(sum(size for _, size in found))} in {len(found)} files in {folder} (--clear-weights removes them)"
    else:
        text = f"none, in {folder}"
    if _is_writable(folder):
        yield Finding(OK, "packed weights", text)
    else:
        yield Finding(
            NOTE,
            "packed weights",
            f"{text}; it can't be written, so models are quantized at each start",
            f"make {folder} writable, or set XDG_CACHE_HOME to a folder that you may write",
        )


def _cached_models(cache: Path) -> Iterator[Finding]:
    from huggingface_hub import scan_cache_dir

    from llasa_cli.hub.catalog import CATALOG
    from llasa_cli.wording import format_size

    names = {entry.repo: short for short, entry in CATALOG.items()}
    for repo in sorted(scan_cache_dir(cache).repos, key=lambda repo: str(repo.repo_id)):
        if repo.repo_type != "model":
            continue
        interrupted = [path for path in Path(repo.repo_path).glob("blobs/*.incomplete") if path.is_file()]
        short = names.get(repo.repo_id)
        name = repo.repo_id + (f" ({short})" if short else "")
        fix = f"llasa download {short or repo.repo_id}" if interrupted else ""
        text = f"{name}, {format_size(repo.size_on_disk)}" + ("; a download was interrupted" if interrupted else "")
        yield Finding(NOTE if interrupted else OK, "in the cache", text, fix)


def _model(name: str) -> Iterator[Finding]:
    """The model, its speakers and the default one."""
    from llasa_cli.checkpoint.resolve import resolve_checkpoint
    from llasa_cli.prompt import PromptFormat

    checkpoint = resolve_checkpoint(ModelOptions(name))
    prompt_format = PromptFormat.load(checkpoint.folder, checkpoint.metadata)
    speakers = f"; speakers {', '.join(checkpoint.known_speakers)}" if checkpoint.known_speakers else ""
    if prompt_format.default_speaker:
        speakers += f" (default: {prompt_format.default_speaker})"
    named = " (LLASA_MODEL)" if os.environ.get("LLASA_MODEL") == name else ""
    yield Finding(
        OK, "model", f"{name}{named}, revision {checkpoint.revision}, codec {checkpoint.codec_identity}{speakers}"
    )


def _nearest(path: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _is_writable(folder: Path) -> bool:
    nearest = _nearest(folder)
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


# --- voices and extras ---


def _voices() -> Iterator[Finding]:
    from llasa_cli.voices.library import list_voices, voices_folder

    folder = voices_folder()
    if not _is_writable(folder):
        yield Finding(
            NOTE, "saved voices", f"{folder} can't be written", "set LLASA_VOICES to a folder that you may write"
        )
    entries = list_voices()
    yield Finding(OK, "saved voices", f"{len(entries) or 'none'}, in {folder}")
    for entry in entries:
        if entry.voice is None:
            yield Finding(NOTE, f"voice {entry.name}", entry.error, f"llasa voices remove {shlex.quote(entry.name)}")


def _extras() -> Iterator[Finding]:
    from importlib.util import find_spec

    from llasa_cli.asr import check_recognizer

    for extra, module, use in (("train", "accelerate", "finetune"), ("asr", "pocketsphinx", "--asr pocketsphinx")):
        if find_spec(module) is None:
            yield Finding(NOTE, use, f"{module} is not installed", f"{_pip()} install '{PACKAGE}[{extra}]'")
        else:
            yield Finding(OK, use, f"{module} is installed")
    try:
        check_recognizer(DEFAULT_LISTENER)
    except LlasaError:
        yield Finding(
            NOTE,
            "--asr",
            f"{DEFAULT_LISTENER} is not on this machine: reference clips need --ref-text",
            f"llasa download {DEFAULT_LISTENER}",
        )
    else:
        yield Finding(OK, "--asr", f"{DEFAULT_LISTENER} is on this machine")


def _self_test(device: str) -> Iterator[Finding]:
    """Speak a sentence with the built-in voice."""
    import time

    from llasa_cli.settings import SpeechOptions
    from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance

    began = time.monotonic()
    speech = Synthesizer.load(ModelOptions(device=device))
    loaded = time.monotonic()
    takes: list[Utterance] = []
    samples = speech.synthesize(TEST_TEXT, SpeechOptions(seed=0), on_utterance=takes.append)
    spoken = time.monotonic()
    seconds = len(samples) / speech.sampling_rate
    problems = [problem for take in takes for problem in take.problems]
    text = (
        f"the built-in voice was loaded in {loaded - began:.1f} s and spoke {seconds:.1f} s in {spoken - loaded:.1f} s"
    )
    yield Finding(
        BROKEN if problems else OK,
        "self-test",
        text + (f"; {'; '.join(problems)}" if problems else ""),
        f"{_pip()} install --force-reinstall {PACKAGE}" if problems else "",
    )
