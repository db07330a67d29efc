"""Text that is still being written -> pieces to speak, as soon as each can be spoken."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator

from llasa_cli.errors import UsageError
from llasa_cli.text.chunks import sentence_ends


def sentences_of(read: Callable[[int], bytes], is_more_waiting: Callable[[], bool] | None = None) -> Iterator[str]:
    """Yield what has been completed: whole sentences, or a line after which the writer pauses.

    A line end alone is no pause to speak: text wrapped at 80 columns would be cut in the middle of its sentences.

    Args:
        read: Gives at most so many bytes as soon as there are any, b"" at the end (`read1` of a binary pipe).
        is_more_waiting: Whether `read` would give more at once; None: it would not.

    Raises:
        UsageError: Binary data. Bytes that are not UTF-8 are only replaced (U+FFFD).
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    waiting = ""
    while True:
        data = read(65536)
        if b"\0" in data:
            raise UsageError("What comes in is not text: it has zero bytes.", "Text is expected, in UTF-8.")
        waiting += decoder.decode(data, final=not data)
        if not data:
            break
        end = max(sentence_ends(waiting, growing=True), default=0)
        if waiting[end:].strip() and waiting.endswith("\n") and not (is_more_waiting and is_more_waiting()):
            end = len(waiting)
        if waiting[:end].strip():
            yield waiting[:end]
            waiting = waiting[end:]
    if waiting.strip():
        yield waiting
