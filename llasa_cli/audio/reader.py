"""Read any audio file as float32 [n], mono, at the wanted sampling rate."""

from __future__ import annotations

import io
import os
import re
import shlex
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.audio.ogg import ogg_fault
from llasa_cli.audio.vad import flat_top_share
from llasa_cli.errors import AudioError, os_errors_as

if TYPE_CHECKING:
    import numpy as np

_MIN_RATE_HZ, _MAX_RATE_HZ = 1_000, 1_000_000
"""Rates outside of this come from damaged headers; resampling from 1 Hz would take all memory."""
_BLOCK_FRAMES, _SMALL_BLOCK_FRAMES = 1 << 18, 1 << 6
"""Frames per read; the length in the header is not trusted. A file that can't be read to its end is read again in small
blocks, since the block with the fault is lost as a whole."""
_UNKNOWN_FRAMES = 1 << 48
"""libsndfile's length of a FLAC file that was written to a pipe is beyond this."""
_CANCELED = 0.35
"""If the mix of the channels has less than this share of the loudest channel's level, the channels cancel each other.
The mix of a voice in one of two channels has 0.5, in one of three 0.33."""
_SILENT_SHARE = 0.01
"""A channel 40 dB below the loudest has no voice of its own."""
_STREAM_LENGTH = 0x7F000000
"""WAV length fields from here on mean that the length was not known, as programs write to a pipe."""
_LENGTH_TOLERANCE_S = 0.02
"""Smaller differences between the stated and the true length are ignored."""
_CODEC_TOLERANCE_S = 0.3
"""The same for compressed formats, whose encoders pad the sound."""
_ENVELOPE_S, _LEAST_LIKENESS, _LEAST_LEVEL = 0.05, 0.5, 0.1
"""Two channels hold different voices if their loudness over time correlates less than this, and neither is 20 dB below the
other."""

_URL = re.compile(r"(?:^|[/\\])([a-zA-Z][a-zA-Z0-9+.-]+):/+(.+)")
"""A URL, also after `pathlib` has made one slash of two and after it was joined to a folder."""
_FORMATS = {"WAV": "WAV", "WAVEX": "WAV", "RF64": "WAV", "OGG": "Ogg", "MPEG": "MP3", "MP3": "MP3"}
"""libsndfile's names of the formats whose usual name is another."""
_ENDINGS = {
    ".wav": "WAV",
    ".wave": "WAV",
    ".flac": "FLAC",
    ".ogg": "Ogg",
    ".oga": "Ogg",
    ".opus": "Ogg",
    ".mp3": "MP3",
    ".aif": "AIFF",
    ".aiff": "AIFF",
    ".aifc": "AIFF",
    ".au": "AU",
    ".snd": "AU",
    ".caf": "CAF",
    ".w64": "W64",
}
_CONVERT, _NO_AUDIO = True, False
_SIGNATURES: tuple[tuple[bytes, str, bool], ...] = (
    (rb"....ftyp", "an MP4 or M4A file", _CONVERT),
    (rb"\x1aE\xdf\xa3", "a WebM or Matroska file", _CONVERT),
    (rb"0&\xb2u\x8ef\xcf\x11", "a WMA file", _CONVERT),
    (rb"#!AMR", "an AMR file", _CONVERT),
    (rb"RIFF....AVI ", "an AVI file", _CONVERT),
    (rb"caff", "a CAF file", _CONVERT),
    (rb"wvpk", "a WavPack file", _CONVERT),
    (rb"TTA[12]", "a TTA file", _CONVERT),
    (rb"MAC ", "a Monkey's Audio file", _CONVERT),
    (rb"FLV\x01", "a Flash video", _CONVERT),
    (rb"\x0bw", "an AC-3 file", _CONVERT),
    (rb"\x7f\xfe\x80\x01", "a DTS file", _CONVERT),
    (rb"G.{187}G.{187}G", "an MPEG transport stream", _CONVERT),
    (rb"OggS", "an Ogg file with an unknown codec", _CONVERT),
    (rb"ID3|\xff[\xfa\xfb\xf3\xf2]", "a damaged MP3 file", _CONVERT),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "an AAC file", _CONVERT),
    (rb"RIFF", "a damaged WAV file", _CONVERT),
    (rb"MThd", "a MIDI file, which has notes and no sound", _NO_AUDIO),
    (rb"%PDF", "a PDF file", _NO_AUDIO),
    (rb"PK\x03\x04", "a ZIP file", _NO_AUDIO),
    (rb"\x1f\x8b", "a gzip file", _NO_AUDIO),
    (rb"\x89PNG|\xff\xd8\xff|GIF8", "a picture", _NO_AUDIO),
    (rb"version https://git-lfs", "a Git LFS pointer: the recording itself was not downloaded", _NO_AUDIO),
    (rb"(?i)\s*<(!doctype html|html|head|body)", "a web page: the download of the recording failed", _NO_AUDIO),
    (rb"\x00{64}", "filled with zeros: the recorder has not written its header", _NO_AUDIO),
)
"""The first bytes of files that libsndfile does not read, the name of their format, and whether ffmpeg may convert them."""
_FOR_PYAV = tuple(pattern for pattern, kind, convert in _SIGNATURES if convert)
"""The patterns of the files that PyAV decodes, if it is installed."""
_EXACT_DURATIONS = ("mov,", "matroska,", "caf")
"""Beginnings of FFmpeg's names of the formats whose header states the length; in others it is an estimate."""
_RAW_ENDINGS = (".raw", ".pcm", ".sln")
"""Endings of files with samples alone."""
_MP3_IN_WAV = b"\x55\0"
"""The format's number in a WAV file's header."""


class NotFiniteError(AudioError):
    """A recording contains NaN or infinite samples."""


@dataclass(frozen=True)
class Recording:
    """An audio file that was read.

    Attributes:
        samples: float32 [n], mono, at the requested rate.
        file_rate, channels: Sampling rate (Hz) and channel count of the file.
        flat_tops: Share of the file's samples that lie on flat tops (see `vad.flat_top_share`), in its worst channel.
            Resampling hides them.
        warnings: Faults of a file that could be read: a wrong header, a wrong name ending.
    """

    samples: np.ndarray
    file_rate: int
    channels: int
    flat_tops: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Frames:
    """float32 [n, channels] as stored in the file, the rate in Hz, and warnings."""

    samples: np.ndarray
    rate: int
    warnings: tuple[str, ...]


def read_clip(path: Path | str, sampling_rate: int = 16_000) -> np.ndarray:
    """Read the samples alone; see `read_recording`."""
    frames = _read(Path(path), None)
    return resample(_mix(_sounding(frames.samples)), frames.rate, sampling_rate)


def read_recording(path: Path | str, sampling_rate: int = 16_000, max_s: float | None = None) -> Recording:
    """Read what libsndfile reads: WAV, FLAC, Ogg, Opus, MP3, AIFF and more, with any rate and channel count.

    With PyAV also M4A, MP4, WebM, WMA, AMR, AVI and whatever else FFmpeg decodes. The channels are mixed to one. Resampling is
    soxr's, at high quality. A WAV file whose header is wrong about the length is read as far as there is sound, with a warning.

    Args:
        max_s: Longest file in seconds; if the header states a longer one, the file is not read.

    Raises:
        AudioError: The file is missing, unreadable, empty or too long.
        NotFiniteError: It has NaN or infinite samples.
    """
    frames = _read(Path(path), max_s)
    channels, sounding = frames.samples.shape[1], _sounding(frames.samples)
    flat_tops = max(map(flat_top_share, sounding.T))
    samples = resample(_mix(sounding), frames.rate, sampling_rate)
    warnings = (*frames.warnings, *_different_channels(sounding, frames.rate, Path(path)))
    return Recording(samples, frames.rate, channels, flat_tops, warnings)


def _read(path: Path, max_s: float | None) -> _Frames:
    import numpy as np

    _check_file(path)
    frames = _read_frames(path, max_s)
    if len(frames.samples) == 0:
        raise AudioError(f"{path} contains no sound.", "Record or export it again.")
    # This is checked before mixing, since infinite samples could cancel each other.
    if not np.isfinite(frames.samples).all():
        raise NotFiniteError(f"{path} contains NaN or infinite samples.", "Export it again as 16-bit WAV.")
    return frames


def resample(samples: np.ndarray, sampling_rate: int, wanted: int) -> np.ndarray:
    """float32 [n] at `sampling_rate` -> contiguous float32 at `wanted` Hz."""
    import numpy as np

    if sampling_rate != wanted:
        import soxr

        samples = soxr.resample(samples, sampling_rate, wanted, quality="HQ")
    return np.ascontiguousarray(samples, dtype=np.float32)


def _check_file(path: Path) -> None:
    """Refuse what is not a regular file with content: reading a pipe or device might never end."""
    with os_errors_as(f"{path} can't be read", kind=AudioError):
        if path.is_file():
            if path.stat().st_size == 0:
                raise AudioError(f"{path} is empty.")
            return
        if path.is_dir():
            raise AudioError(f"{path} is a folder, not an audio file.")
        if path.exists():
            raise AudioError(f"{path} is a pipe or a device, not an audio file.", "Write it to a file first.")
    if url := _URL.search(str(path)):
        address = f"{url[1]}://{url[2]}"
        raise AudioError(
            f"{address} is a URL; only files can be read.",
            "Download it first: " + shlex.join(["curl", "-L", "-o", "clip" + (path.suffix or ".wav"), address]),
        )
    raise AudioError(f"The audio file {path} does not exist.")


def _read_frames(path: Path, max_s: float | None) -> _Frames:
    import numpy as np
    import soundfile

    try:
        corrected, warnings = _with_true_length(path, max_s)
        with _quiet_mpg123(path), soundfile.SoundFile(corrected or _name_for_libsndfile(path)) as sound:
            rate, length = int(sound.samplerate), int(sound.frames) if sound.frames < _UNKNOWN_FRAMES else 0
            if not _MIN_RATE_HZ <= rate <= _MAX_RATE_HZ:
                raise AudioError(f"The header of {path} states a sampling rate of {rate} Hz.", "Convert it to WAV.")
            _check_length(path, length / rate, max_s)
            warnings += _wrong_ending(path, sound.format)
            stated, is_ogg = _stated_frames(path, sound), sound.format == "OGG"
            blocks, is_whole = _read_blocks(sound, path, max_s, _BLOCK_FRAMES)
        if not is_whole:
            with soundfile.SoundFile(_name_for_libsndfile(path)) as sound:
                blocks, _ = _read_blocks(sound, path, max_s, _SMALL_BLOCK_FRAMES)
            stated = max(stated, length)
        samples = np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)
        count = len(samples)
        if count and (stated - count) / rate > _LENGTH_TOLERANCE_S:
            warnings.append(_cut_short(path, count / rate, stated / rate))
        elif count and is_ogg:
            with path.open("rb") as file:
                fault = ogg_fault(file)
            warnings += [f"{path.name} {fault}"] if fault else []
        return _Frames(samples, rate, tuple(warnings))
    except (soundfile.LibsndfileError, OSError) as error:
        found = _read_with_pyav(path, max_s)
        if found is None:
            raise _unreadable(path, error) from error
        return found


def _read_blocks(sound: Any, path: Path, max_s: float | None, size: int) -> tuple[list[np.ndarray], bool]:
    """The samples of an open file in blocks, and whether it was read to its end.

    Raises:
        LibsndfileError: Not even the first small block can be read.
    """
    import soundfile

    blocks: list[np.ndarray] = []
    count = 0
    try:
        while len(block := sound.read(size, dtype="float32", always_2d=True)):
            blocks.append(block)
            count += len(block)
            _check_length(path, count / sound.samplerate, max_s)
    except soundfile.LibsndfileError:
        if size == _SMALL_BLOCK_FRAMES and not blocks:
            raise
        return blocks, False
    return blocks, True


def _cut_short(path: Path, there_s: float, stated_s: float) -> str:
    return f"{path.name} is damaged: only {there_s:.1f} s of {stated_s:.1f} s could be read"


def _stated_frames(path: Path, sound: Any) -> int:
    """The length that the file states, in frames; 0 if it is an estimate or the format's decoder reports what is missing."""
    if sound.format in ("MPEG", "MP3", "AIFF"):
        with path.open("rb") as file:
            head = file.read(8192)
        if sound.format != "AIFF":
            return int(sound.frames) if re.search(rb"Xing|Info", head) else 0
        found = re.search(rb"COMM.{6}(.{4})", head, re.DOTALL)
        return int.from_bytes(found[1], "big") if found else 0
    return int(sound.frames) if sound.format == "OGG" else 0


def _read_with_pyav(path: Path, max_s: float | None) -> _Frames | None:
    """The sound of a file that FFmpeg decodes, as far as it can be decoded; None without PyAV, or if it can't be.

    Raises:
        AudioError: It is a video without sound.
    """
    from llasa_cli.audio.pyav import is_installed

    with path.open("rb") as file:
        head = file.read(2048)
        if not is_installed() or not any(re.match(pattern, head, re.DOTALL) for pattern in _FOR_PYAV):
            return None
        import av
        import numpy as np

        file.seek(0)
        blocks: list[np.ndarray] = []
        count, is_damaged = 0, False
        # Since PyAV 19 no metadata is an error, and the argument is unknown.
        tolerant: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
        try:
            # A file object, not a name: FFmpeg can't be led to other files or addresses.
            with av.open(file, "r", **tolerant) as container:
                if not container.streams.audio:
                    raise AudioError(f"{path} has no sound: it is a video without an audio track.")
                codec = container.streams.audio[0].codec_context
                rate = int(codec.sample_rate) if codec is not None else 0
                if not _MIN_RATE_HZ <= rate <= _MAX_RATE_HZ:
                    return None
                is_exact = container.format.name.startswith(_EXACT_DURATIONS)
                stated_s = (container.duration or 0) / av.time_base if is_exact else 0.0
                resampler = av.AudioResampler(format="fltp", rate=rate)
                try:
                    for frame in container.decode(audio=0):
                        for part in resampler.resample(frame):
                            blocks.append(part.to_ndarray().T)
                            count += len(blocks[-1])
                        _check_length(path, count / rate, max_s)
                except av.FFmpegError:
                    is_damaged = True
            if not blocks:
                return None
            warnings = []
            if stated_s - count / rate > _CODEC_TOLERANCE_S:
                warnings.append(_cut_short(path, count / rate, stated_s))
            elif is_damaged:
                warnings.append(f"{path.name} is damaged: only {count / rate:.1f} s could be read")
            return _Frames(np.concatenate(blocks), rate, tuple(warnings))
        except (av.FFmpegError, ValueError):  # also a change of the channels inside the file
            return None


def _name_for_libsndfile(path: Path) -> str | bytes | int:
    """The path as bytes, since soundfile can't encode a name that is not UTF-8; an open file for the ending .raw, by which
    soundfile takes any file for samples without a header."""
    if path.suffix.lower() == ".raw":
        return os.open(path, os.O_RDONLY)
    return str(path) if os.name == "nt" else os.fsencode(path)


def _wrong_ending(path: Path, libsndfile_format: str) -> list[str]:
    """A warning if the file's name says another format than its content."""
    found = _FORMATS.get(libsndfile_format, libsndfile_format)
    named = _ENDINGS.get(path.suffix.lower())
    if named in (None, found):
        return []
    return [f"{path.name} is {_article(found)} {found} file, not {_article(str(named))} {named} file"]


def _article(word: str) -> str:
    """ "an" before a vowel sound; MP3 is said "em pee three"."""
    return "an" if word[0] in "AEIOM" else "a"


def _with_true_length(path: Path, max_s: float | None) -> tuple[io.BytesIO | None, list[str]]:
    """A WAV file with its true length, if its header states a shorter one, or the first of several; else None. With a warning."""
    with path.open("rb") as file:
        layout = _data_chunk(file)
        if layout is None:
            return None, []
        offset, stated, there, byte_rate = layout
        seconds, stated_s = there / byte_rate, stated / byte_rate
        end = offset + stated + stated % 2
        file.seek(end)
        if file.read(4) == b"RIFF":  # as `cat a.wav b.wav` makes
            _check_length(path, stated_s, max_s)
            file.seek(0)
            warning = f"{path.name} is several WAV files in one: only the first, of {stated_s:.1f} s, was read"
            return io.BytesIO(file.read(end)), [warning]
        if stated >= _STREAM_LENGTH or abs(seconds - stated_s) < _LENGTH_TOLERANCE_S:
            return None, []
        warning = f"the header of {path.name} states {f'{stated_s:.1f} s of' if stated else 'no'} sound, but"
        if stated > there:
            return None, [f"{warning} only {seconds:.1f} s are there"]
        _check_length(path, seconds, max_s)
        file.seek(0)
        header = bytearray(file.read(offset))
        if header[-8:-4] != b"data":  # the chunk's own header is missing
            header += b"data\0\0\0\0"
        header[4:8] = struct.pack("<I", len(header) - 8 + there)
        header[-4:] = struct.pack("<I", there)
        return io.BytesIO(bytes(header) + file.read(there)), [f"{warning} {seconds:.1f} s are there and were read"]


def _data_chunk(file: io.BufferedReader) -> tuple[int, int, int, int] | None:
    """The offset of a WAV file's samples, their length by the header and in the file, and the bytes per second.

    Returns None for another format, and for a WAV file without a format chunk. Where other chunks follow the samples,
    the stated length is right.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    byte_rate = 0
    while len(chunk := file.read(8)) == 8:
        name, length, begin = chunk[:4], int.from_bytes(chunk[4:], "little"), file.tell()
        if name == b"data":
            there = size - begin
            if length < there and _is_chunk(file, begin + length + length % 2, size):
                there = length
            return (begin, length, there, byte_rate) if byte_rate else None
        if not _is_name(name):  # samples without a chunk header
            return (begin - 8, 0, size - begin + 8, byte_rate) if byte_rate else None
        if name == b"fmt ":
            byte_rate = int.from_bytes(file.read(16)[8:12], "little")
        file.seek(begin + length + length % 2)
    return None


def _is_chunk(file: io.BufferedReader, at: int, size: int) -> bool:
    """Whether a chunk begins at this place, or the file ends there; up to 8 bytes of padding may follow."""
    if at + 8 > size:
        return True
    file.seek(at)
    name, length = file.read(4), int.from_bytes(file.read(4), "little")
    return _is_name(name) and at + 8 + length <= size + 1


def _is_name(name: bytes) -> bool:
    return re.fullmatch(rb"[ -~]{4}", name) is not None


@contextmanager
def _quiet_mpg123(path: Path) -> Iterator[None]:
    """Suppress what libmpg123, which reads MP3 for libsndfile, prints to standard error about damaged files."""
    with path.open("rb") as file:
        head = file.read(22)
    try:
        is_mp3 = head[:2] == b"ID" or head[:1] == b"\xff" or (head[:4] == b"RIFF" and head[20:] == _MP3_IN_WAV)
        is_mp3 = is_mp3 or path.suffix.lower() in (".mp3", ".mp2", ".mpga")
        kept = os.dup(2) if is_mp3 else None
    except OSError:  # standard error is closed
        kept = None
    if kept is None:
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(sink)
        os.close(kept)


def _check_length(path: Path, seconds: float, max_s: float | None) -> None:
    if max_s is not None and seconds > max_s:
        raise AudioError(
            f"{path} is {seconds:.0f} s long; files of up to {max_s:.0f} s are read.",
            "Cut 3 to 15 s of speech out of it.",
        )


def _unreadable(path: Path, error: Any) -> AudioError:
    """The error for a file that libsndfile can't read: what the file is, if that shows, and how to convert it."""
    from llasa_cli.audio.pyav import is_installed

    with path.open("rb") as file:
        head = file.read(2048)
    convert = "Convert it first: " + shlex.join(["ffmpeg", "-i", str(path), str(_converted(path))])
    for pattern, kind, convertible in _SIGNATURES:
        if re.match(pattern, head, re.DOTALL):
            if pattern in _FOR_PYAV and is_installed() and "damaged" not in kind:
                return AudioError(f"{path} is {kind} that can't be decoded; it may be cut short.", convert)
            return AudioError(f"{path} is {kind}.", convert if convertible else "Give a recording of speech.")
    if _is_text(head):
        return AudioError(f"{path} is a text file, not a recording.", "Give a recording of speech.")
    if path.suffix.lower() in _RAW_ENDINGS:
        known = ["ffmpeg", "-f", "s16le", "-ar", "16000", "-ac", "1", "-i", str(path), str(_converted(path))]
        return AudioError(
            f"{path} can't be read as audio: raw samples have no header.",
            f"Convert it by the format and the rate of the recording, such as: {shlex.join(known)}",
        )
    text = str(getattr(error, "error_string", None) or getattr(error, "strerror", None) or error).strip().rstrip(".")
    return AudioError(f"{path} can't be read as audio: {text}.", convert)


def _converted(path: Path) -> Path:
    """A name for the WAV file that ffmpeg is to make of it, other than its own."""
    target = path.with_suffix(".wav")
    return target if target != path else path.with_name(f"{path.stem}-converted.wav")


def _is_text(head: bytes) -> bool:
    return (
        len(head) > 0
        and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
        and not any(0x7F <= b < 0xA0 for b in head)
    )


def _sounding(frames: np.ndarray) -> np.ndarray:
    """float32 [n, channels] without the channels that are silent beside the loudest, such as the second of a microphone's two.

    A constant offset is silence too. In the mix they would only lower the voice.
    """
    if frames.shape[1] == 1:
        return frames
    levels = frames.std(axis=0, dtype="float64")
    kept = levels >= _SILENT_SHARE * levels.max()
    return frames if kept.all() else frames[:, kept]


def _mix(frames: np.ndarray) -> np.ndarray:
    """float32 [n, channels] -> [n]: the mean of the channels, or the loudest one where the mean would lose the voice.

    The mean loses it where one channel is the other one inverted, or where only one of eight has the voice.
    """
    import numpy as np

    if frames.shape[1] == 1:
        one: np.ndarray = frames[:, 0]
        return one
    mean: np.ndarray = frames.mean(axis=1, dtype=np.float64).astype(np.float32)
    levels = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=0))
    loudest = int(levels.argmax())
    if np.sqrt(np.mean(np.square(mean, dtype=np.float64))) < _CANCELED * levels[loudest]:
        best: np.ndarray = frames[:, loudest]
        return best
    return mean


def _different_channels(sounding: np.ndarray, rate: int, path: Path) -> list[str]:
    """A warning if the channels hold different voices, as recorders of telephone calls write them."""
    import numpy as np

    step = round(_ENVELOPE_S * rate)
    if sounding.shape[1] != 2 or len(sounding) < 20 * step:
        return []
    frames = sounding[: len(sounding) // step * step].reshape(-1, step, 2)
    loudness = frames.std(axis=1, dtype=np.float64)
    levels, swings = sounding.std(axis=0, dtype=np.float64), loudness.std(axis=0)
    if levels.min() <= _LEAST_LEVEL * levels.max() or (swings < _LEAST_LEVEL * levels).any():
        return []
    if np.corrcoef(loudness.T)[0, 1] >= _LEAST_LIKENESS:
        return []
    command = shlex.join(["ffmpeg", "-i", str(path), "-af", "pan=mono|c0=c0", str(_converted(path))])
    return [f"the two channels of {path.name} hold different sounds, which were mixed; for the first alone: {command}"]
