"""Text that is still being written -> pieces to speak, as soon as each can be spoken."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator

_COMPLETE = re.compile(r".*(?:[.!?…][\"'”’)\]]*\s|[。！？]|\n)", re.DOTALL)


def sentences_of(read: Callable[[int], bytes]) -> Iterator[str]:
    """Yield what has been completed: up to the last sentence mark with a blank after it, or line end.

    Args:
        read: Gives at most so many bytes as soon as there are any, b"" at the end (`read1` of a binary pipe).
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    waiting = ""
    while True:
        data = read(65536)
        waiting += decoder.decode(data, final=not data)
        if not data:
            break
        complete = _COMPLETE.match(waiting)
        if complete and complete[0].strip():
            yield complete[0]
            waiting = waiting[complete.end() :]
    if waiting.strip():
        yield waiting
