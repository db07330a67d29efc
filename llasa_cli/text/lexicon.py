"""A list of English words, which decides whether capitals are a word or the letters of an acronym.

    is_word("mistake") -> True       is_spelled("HDMI") -> True       is_spelled("NASA") -> False

`english_words.zlib` (150 kB, read in about 3 ms when the first word in capitals comes up) holds 54,000 words: those of the
CMU Pronouncing Dictionary that are also in symspellpy's frequency list, without the ones that CMU pronounces as the names
of their letters. `english_words.LICENSE.txt` has the licenses of both.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from pathlib import Path

SAID_AS_WORDS = frozenset(
    """aids apec ascii asean awol basic bogo cad captcha cobol covid crispr darpa dos ebitda epcot eniac fema fifa fortran gif gnu hiv/aids hipaa
    icann ikea imax interpol ira iso jpeg lan laser lego lidar math mensa midi modem moma mpeg nafta nasa nasdaq nato norad
    json mom moms nylon ohio opec osha pac pin radar ram rem rom salt sars scuba sim soho sonar soweto swat taser tesla uefa unesco unicef
    vat flac xbox wan wasp wysiwyg yolo zip"""
    .split()
)  # fmt: skip
"""Acronyms that are read as words in running text."""
RESPELLED = {
    "jpeg": "jay peg",
    "iban": "eye ban",
    "jpegs": "jay pegs",
    "mpeg": "em peg",
    "ieee": "eye triple ee",
    "naacp": "en double ay see pee",
    "gif": "gif",
    "yaml": "yammel",
    "toml": "tommel",
    "bleu": "blue",
    "ok": "okay",
}
"""Acronyms that are read in a way of their own."""
_MOSTLY_LETTERS = frozenset(
    """it us am pm who led sat eta est era aa ac ad ai al co de id la me st acc ala ali amp ana ans apo app apt arc asa asp
    aud aux avi bon cal cam cas cat cha che cia cid com cos cur dec dep der dis doe dom dot dub eco edo eng eos err esp etc
    fac fed fer fir foo gen geo gov hep hex hon ids ill inc ins ion isa ish ism jus kos lac les leu lex lib lin lis lit lon
    mag mar mas med mia mic mil mis mod moi mol nam nat nav nom nos och opp ops opt org ori par pas pcs pep phi pia pol psi
    pub qua rec ref reg rep res ret rev rho roc san sci sec sen sig sol sos sup sur sys tai tel ter tex tho tor tvs una uni
    ups urn val ven vic vie vis vol wal wat ins ads ted als cod pet pit cap dip nib fob rip gag tab nil pal dig sip hut
    urea seal gist coo sow"""
    .split()
)  # fmt: skip
"""Words that are letters when they stand in capitals among small ones: "the IT guy", "the WHO"."""
_SYLLABLES = re.compile(r"[^aeiou](?:[aeiouy][^aeiou]){1,2}[aeiouy]?")
_UNSPEAKABLE = re.compile(r"[^aeiouy]{4}|^[^aeiouy]{3}|[^aeiouy]{3}$")


@lru_cache(maxsize=1)
def _words() -> str:
    packed = Path(__file__).with_name("english_words.zlib").read_bytes()
    return f"\n{zlib.decompress(packed).decode('ascii')}\n"


@lru_cache(maxsize=4096)
def is_word(word: str) -> bool:
    """Whether a word in small letters is an English one, a plural or another inflected form included."""
    return f"\n{word}\n" in _words()


def is_spelled(capitals: str, shouted: bool = False) -> bool:
    """Whether capitals are read letter by letter.

    Args:
        capitals: Two letters or more, of A to Z.
        shouted: The words around it are in capitals too, so that capitals say nothing about this one.
    """
    word = capitals.lower()
    if word in SAID_AS_WORDS:
        return False
    if word in _MOSTLY_LETTERS:
        return not shouted or not re.search("[aeiouy]", word)
    if is_word(word):
        return False
    if len(word) < 4 or not re.search("[aeiouy]", word):
        return True
    if shouted or len(word) > 5:
        return bool(_UNSPEAKABLE.search(word))
    return not _SYLLABLES.fullmatch(word)


def is_acronym(capitals: str) -> bool:
    """Whether a word is written in capitals among small words too, so that it does not show that the text is shouted."""
    return capitals.lower() in SAID_AS_WORDS or is_spelled(capitals)
