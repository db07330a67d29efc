"""The voice's lexicon, `pronunciations.txt`: words that are said in one way, with their US phones.

    python lexicon.py work/tokenizer/pronunciations.txt --lines 15000

In: hibari's copies of misaki's US lexicons (Apache-2.0), and how hibari's G2P reads that many lines of the training text. A word
that the G2P reads in several ways, depending on its neighbours ("the", "record", "close"), is left out, so that the language model
decides by its letters; variants that differ in the stress mark of a short word only count as one way.
Out: lines `word<TAB>phones`, sorted by their bytes, as `llasa_cli.text.pronunciations` reads them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from sentences import LETTER_NAMES, lines, written
from tokenizer import LEXICON_PHONES

WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
ALWAYS_BY_CONTEXT = ("a", "an", "the", "to", "in", "am", "i", "by", "used")
"""Words with a rule of their own in misaki."""
SAME = 0.95
"""Share of a word's occurrences that its phones must have."""


def read_lexicons() -> dict[str, str]:
    """The words of misaki's lexicons that have one entry for all parts of speech; the checked one ("gold") wins."""
    import hibari

    found: dict[str, str] = {}
    for name in ("lexicon_us_silver", "lexicon_us_gold"):
        with gzip.open(Path(hibari.__file__).parent / "assets" / f"{name}.json.gz", "rt", encoding="utf-8") as file:
            entries = json.load(file)
        for word, phones in entries.items():
            is_name = word != word.lower()
            if not isinstance(phones, str) or (is_name and (word.lower() in entries or not word[1:].islower())):
                continue
            found[word.lower()] = phones
        for word, phones in entries.items():
            if not isinstance(phones, str):
                found.pop(word.lower(), None)
    return {word: phones for word, phones in found.items() if WORD.fullmatch(word)}


def spoken_words(count: int) -> Iterator[tuple[str, str]]:
    """(word, phones) of `count` lines, as the G2P reads them in context."""
    from hibari.g2p import G2P

    g2p = G2P()
    for line in lines(count, seed=77):
        word = phones = ""
        for token in g2p.phonemize_tokens(g2p.tokenize(written(line))):
            is_part = re.fullmatch(r"[A-Za-z']+", token.text)
            if is_part:
                word, phones = word + token.text.lower(), phones + (token.phonemes or "")
            if token.whitespace or not is_part:
                if WORD.fullmatch(word) and phones and " " not in phones:
                    yield word, phones
                word = phones = ""


def choose(counts: Counter[str]) -> str | None:
    """The phones of a word that is always, or but for stress marks always, said in one way."""
    total = counts.total()
    phones, most = counts.most_common(1)[0]
    if most >= SAME * total:
        return phones
    plain: Counter[str] = Counter()
    for variant, count in counts.items():
        plain[re.sub("[ˈˌ]", "", variant)] += count
    is_short_word = any("ˈ" not in variant for variant in counts)
    if is_short_word and plain.most_common(1)[0][1] >= 0.98 * total:
        return min(counts, key=lambda variant: (len(re.findall("[ˈˌ]", variant)), -counts[variant]))
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--lines", type=int, default=15_000, help="lines of the training text to read")
    arguments = parser.parse_args()
    lexicon = read_lexicons()
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for word, phones in spoken_words(arguments.lines):
        seen[word][phones] += 1
    for word, counts in seen.items():
        chosen = choose(counts)
        if chosen is None:
            lexicon.pop(word, None)
        else:
            lexicon[word] = chosen
    from hibari.g2p import G2P

    letters = G2P().lexicon.golds
    for letter, name in LETTER_NAMES.items():
        if "-" not in name:
            lexicon[name] = letters.get(letter)
    for word in ALWAYS_BY_CONTEXT:
        lexicon.pop(word, None)
    rows = []
    for word, phones in lexicon.items():
        said = phones.replace("ɾ", "T").replace("ʔ", "t")
        if said and set(said) <= set(LEXICON_PHONES):
            rows.append(f"{word}\t{said}\n".encode())
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(b"".join(sorted(rows)))
    print(f"{len(rows)} words")


if __name__ == "__main__":
    main()
