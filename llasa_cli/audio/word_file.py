"""The words of the generated speech with their times, as JSON.

    {"words": [
    {"word": "It", "begin_s": 0.31, "end_s": 0.42, "sentence": 0},
    {"word": "is", "begin_s": 0.42, "end_s": 0.6, "sentence": 0, "estimated": true}
    ], "estimated": true}

Words are those of the text as written, with their punctuation. `sentence` counts the sentences of the text from 0. `estimated`
stands at words whose time was not found in the sound, and at the end it says whether there is such a word.
"""

from __future__ import annotations

import json
from typing import Any

from llasa_cli.audio.side_file import SideFile, SpokenPart
from llasa_cli.text.spoken_words import written_words


class WordFile(SideFile):
    """Writes words with their times. See `SideFile`."""

    endings = (".json",)
    content = "Word times"
    _sentences = 0
    _is_estimated = False

    def add(self, part: SpokenPart) -> None:
        """Write the words of a part, one a line."""
        words = iter(part.words)
        for sentence in part.sentences:
            for _, time in zip(written_words(sentence), words, strict=False):
                begin_s, end_s = (round(part.begin_s + at, 3) for at in (time.begin_s, time.end_s))
                row: dict[str, Any] = {"word": time.word, "begin_s": begin_s, "end_s": end_s}
                row["sentence"] = self._sentences
                if time.estimated:
                    row["estimated"] = self._is_estimated = True
                self._write(('{"words": [\n' if self._is_empty else ",\n") + json.dumps(row, ensure_ascii=False))
                self._is_empty = False
            self._sentences += 1

    def _finish(self) -> None:
        self._write(f'\n], "estimated": {json.dumps(self._is_estimated)}}}\n')
