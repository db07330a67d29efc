"""flite in process, by ctypes: text and a voice name in, 16 kHz int16 samples and timed phones out.

flite (Carnegie Mellon University, BSD-like licence) is the teacher of the built-in voice. Calling its C
library avoids a process per utterance: about 39 hours of speech per hour and core.
Needs Debian's `flite` (libflite.so.1 and the voice libraries).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

VOICES = ("rms", "slt", "awb", "kal16")
SAMPLING_RATE_HZ = 16_000


class _Wave(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


@dataclass(frozen=True)
class Utterance:
    """One synthesised utterance.

    samples: int16 [n], mono, 16 kHz.
    phones: (name, end in seconds from the start of `samples`), in order; `pau` is silence.
    """

    samples: np.ndarray
    phones: list[tuple[str, float]]


class Flite:
    """A voice of flite, loaded once. Not thread-safe: use one per process."""

    def __init__(self, voice: str) -> None:
        if voice not in VOICES:
            raise ValueError(f"flite voice {voice!r} is not one of {', '.join(VOICES)}")
        # Order matters: the voice libraries need the symbols of the earlier ones.
        for library in ("flite_usenglish", "flite_cmulex"):
            ctypes.CDLL(f"lib{library}.so.1", mode=ctypes.RTLD_GLOBAL)
        self._flite = flite = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
        flite.flite_init()
        name = f"cmu_us_{voice}"
        register = getattr(ctypes.CDLL(f"libflite_{name}.so.1"), f"register_{name}")
        register.restype = ctypes.c_void_p
        register.argtypes = [ctypes.c_char_p]
        self._voice = register(None)
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        for function, result, arguments in (
            ("flite_synth_text", pointer, [text, pointer]),
            ("utt_wave", ctypes.POINTER(_Wave), [pointer]),
            ("utt_relation", pointer, [pointer, text]),
            ("relation_head", pointer, [pointer]),
            ("item_next", pointer, [pointer]),
            ("item_feat_string", text, [pointer, text]),
            ("item_feat_float", ctypes.c_float, [pointer, text]),
            ("delete_utterance", None, [pointer]),
        ):
            getattr(flite, function).restype = result
            getattr(flite, function).argtypes = arguments

    def synthesise(self, text: str) -> Utterance:
        """Speak `text` (plain ASCII)."""
        flite = self._flite
        utterance = flite.flite_synth_text(text.encode("ascii"), self._voice)
        try:
            wave = flite.utt_wave(utterance).contents
            if wave.sample_rate != SAMPLING_RATE_HZ or wave.num_channels != 1:
                raise ValueError(f"flite gave {wave.sample_rate} Hz, {wave.num_channels} channels")
            samples = np.ctypeslib.as_array(wave.samples, shape=(wave.num_samples,)).copy()
            phones = []
            item = flite.relation_head(flite.utt_relation(utterance, b"Segment"))
            while item:
                phones.append((flite.item_feat_string(item, b"name").decode(), flite.item_feat_float(item, b"end")))
                item = flite.item_next(item)
        finally:
            flite.delete_utterance(utterance)
        return Utterance(samples, phones)
