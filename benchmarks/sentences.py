"""Count the texts that are cut into sentences exactly right, by text/sentences.py and by the libraries that are installed.

    pip install pysbd sentencex blingfire syntok sentence-stream sentence-splitter numpy
    python benchmarks/sentences.py [--pysbd FOLDER] [--sentencex FOLDER] [--show]

Input: the golden set of tests/text. FOLDER, a checkout of github.com/nipunsadvilkar/pySBD or github.com/wikimedia/sentencex,
adds the tests there, without comments and repeated cases. Output: a line for each library and set. A library that does not
know a language cuts it as English.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from llasa_cli.text.sentences import split_sentences  # noqa: E402

Case = tuple[str, str, list[str]]
"""Language, text, its sentences."""
PYSBD_NAMES = {
    "amharic": "am", "arabic": "ar", "armenian": "hy", "bulgarian": "bg", "burmese": "my", "chinese": "zh",
    "danish": "da", "deutsch": "de", "dutch": "nl", "english": "en", "french": "fr", "greek": "el", "hindi": "hi",
    "italian": "it", "japanese": "ja", "kazakh": "kk", "marathi": "mr", "persian": "fa", "polish": "pl",
    "russian": "ru", "slovak": "sk", "spanish": "es", "urdu": "ur",
}  # fmt: skip


def plain(sentences: list[str]) -> list[str]:
    """Spaces do not count in the comparison."""
    return ["".join(sentence.split()) for sentence in sentences if sentence.strip()]


def golden() -> Iterator[Case]:
    language = ""
    for line in (ROOT / "tests/text/golden_sentences.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            language = line.strip("[]")
        elif line and not line.startswith("#"):
            line = line.replace("\\n", "\n")
            yield language, line.replace("‖", ""), line.split("‖")


def of_pysbd(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("tests/lang/test_*.py")):
        language = PYSBD_NAMES.get(path.stem.removeprefix("test_"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if language and isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
                yield from ((language, *case) for case in map(_literal, node.value.elts) if case is not None)


def _literal(element: ast.expr) -> tuple[str, list[str]] | None:
    try:
        text, sentences = ast.literal_eval(element)
    except (ValueError, TypeError):
        return None
    return (text, sentences) if isinstance(text, str) and isinstance(sentences, list) else None


def of_sentencex(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("tests/*.txt")):
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if not line.startswith("# ")]
        for block in "\n".join(lines).split("\n===\n"):
            text, rule, sentences = block.partition("\n---\n")
            if rule and text.strip() and path.stem != "lists":
                yield path.stem, text.strip("\n"), sentences.split("\n")


def ways() -> Iterator[tuple[str, Callable[[str, str], list[str]]]]:
    """The name of each method and its function, (language, text) -> sentences. Libraries that are not installed are left out."""
    yield "rules", lambda language, text: split_sentences(text)
    for name, load in LIBRARIES.items():
        try:
            yield name, load()
        except ImportError:
            print(f"{name}: not installed", file=sys.stderr)


def _sentencex(language_known: bool) -> Callable[[str, str], list[str]]:
    import sentencex

    return lambda language, text: list(sentencex.segment(language if language_known else "en", text))


def _pysbd(language_known: bool) -> Callable[[str, str], list[str]]:
    import pysbd

    segmenters: dict[str, Any] = {}

    def cut(language: str, text: str) -> list[str]:
        language = language if language_known else "en"
        if language not in segmenters:
            try:
                segmenters[language] = pysbd.Segmenter(language=language, clean=False)
            except ValueError:
                segmenters[language] = pysbd.Segmenter(language="en", clean=False)
        return segmenters[language].segment(text)

    return cut


def _splitter() -> Callable[[str, str], list[str]]:
    from sentence_splitter import SentenceSplitter, SentenceSplitterException

    def cut(language: str, text: str) -> list[str]:
        try:
            return SentenceSplitter(language=language).split(text)
        except SentenceSplitterException:
            return SentenceSplitter(language="en").split(text)

    return cut


def _blingfire() -> Callable[[str, str], list[str]]:
    import blingfire

    return lambda language, text: blingfire.text_to_sentences(text).split("\n")


def _stream() -> Callable[[str, str], list[str]]:
    import sentence_stream

    return lambda language, text: list(sentence_stream.stream_to_sentences([text]))


def _syntok() -> Callable[[str, str], list[str]]:
    from syntok import segmenter

    return lambda language, text: [
        "".join(token.spacing + token.value for token in sentence)
        for paragraph in segmenter.process(text)
        for sentence in paragraph
    ]


LIBRARIES: dict[str, Callable[[], Callable[[str, str], list[str]]]] = {
    "sentencex, English": lambda: _sentencex(False),
    "sentencex, language known": lambda: _sentencex(True),
    "pysbd, English": lambda: _pysbd(False),
    "pysbd, language known": lambda: _pysbd(True),
    "blingfire": _blingfire,
    "sentence-stream": _stream,
    "sentence-splitter, language known": _splitter,
    "syntok": _syntok,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pysbd", type=Path)
    parser.add_argument("--sentencex", type=Path)
    parser.add_argument("--show", action="store_true", help="what the rules cut wrong")
    options = parser.parse_args()
    sets = {"golden": list(golden())}
    if options.pysbd:
        sets["pysbd"] = list(of_pysbd(options.pysbd))
    if options.sentencex:
        seen = {" ".join(case[1].split()) for case in sets.get("pysbd", [])}
        sets["sentencex"] = [case for case in of_sentencex(options.sentencex) if " ".join(case[1].split()) not in seen]
    for name, cut in ways():
        for of, cases in sets.items():
            right = [plain(cut(language, text)) == plain(sentences) for language, text, sentences in cases]
            print(f"{name:24} {of:10} {sum(right)}/{len(cases)}", flush=True)
            if options.show and name == "rules":
                for (language, text, sentences), good in zip(cases, right, strict=True):
                    if not good:
                        print("   ", language, plain(sentences), split_sentences(text))


if __name__ == "__main__":
    main()
