"""Faults of an Ogg file that its decoder passes over: lost pages, and an end that is missing."""

from __future__ import annotations

import zlib
from typing import BinaryIO

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_HEADER_BYTES = 27
_FIRST_PAGE, _LAST_PAGE = 2, 4


def ogg_fault(file: BinaryIO) -> str:
    """Return what is wrong with an Ogg file, as the end of a sentence; empty for a whole one, and for a file of another kind.

    Args:
        file: The file at its beginning. It is read page by page.
    """
    pages = lost = 0
    is_ended = False
    while len(header := file.read(_HEADER_BYTES)) == _HEADER_BYTES and header[:4] == b"OggS":
        sizes = file.read(header[26])
        body = file.read(sum(sizes))
        if len(sizes) < header[26] or len(body) < sum(sizes):
            return "is cut short"
        if is_ended and header[5] & _FIRST_PAGE:
            return "is several Ogg files in one, of which only the first was read"
        if _checksum(header[:22] + bytes(4) + header[26:] + sizes + body) != int.from_bytes(header[22:26], "little"):
            lost += 1
        is_ended = bool(header[5] & _LAST_PAGE)
        pages += 1
    if lost:
        return f"is damaged: the sound of {lost} of its pages is lost"
    if is_ended or not pages:
        return ""  # tags may follow the last page
    return "is damaged in its middle" if header else "ends without its last page: it may be cut short"


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32, which is zlib's with the bits of each byte, and of the result, in the opposite order."""
    found = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{found:032b}"[::-1], 2)
