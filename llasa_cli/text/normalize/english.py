"""English as it is said: numbers, money, times, acronyms and symbols become words.

Only for checkpoints that ask for it (`"spell_out": true` in llasa.json), such as the built-in voice, which knows
letters and a little punctuation. The big models read raw text and learned to do so themselves.

    "Dr. Lee paid $3.50 at 9:05 on May 2nd."  ->  "Doctor Lee paid three dollars and fifty cents at nine oh five on May second."

The text is read once, from left to right. At each place the token classes for its first character are tried in order; the
first that accepts the text reads it, and its words are final: no class sees another's output.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from llasa_cli.text.normalize.abbreviations import CHAT_WITH_DIGIT
from llasa_cli.text.normalize.addresses import ADDRESS_CLASSES
from llasa_cli.text.normalize.amounts import NUMBER
from llasa_cli.text.normalize.codes import CODE_CLASSES, SERIAL_NUMBER
from llasa_cli.text.normalize.token_class import TokenClass
from llasa_cli.text.normalize.token_order import (
    LETTER_NUMBER_CLASSES,
    NUMBER_CLASSES,
    SIGN_CLASSES,
    WORD_CLASSES,
    WORDS_WITH_CLASS,
)
from llasa_cli.text.normalize.vocabulary import CURRENCIES, SYMBOLS

_PLAIN_LETTERS = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ð": "th", "Ð": "Th", "þ": "th"}
    | {"Þ": "Th", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ı": "i", "™": "", "®": "", "℠": "", "©": ""}
    | {"ʻ": "", "ʼ": "'", "−": "-", "‐": "-", "‑": "-"}
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff", "")
)
"""Letters that Unicode does not take apart, dashes as long as a hyphen, and characters that are not seen."""
_RAISED = "⁰¹²³⁴-⁹"
_POWER = re.compile(rf"(?<=\d)[⁻⁺][{_RAISED}]+|(?<![\w.,])(\d\d?|[A-Za-z])(?:[{_RAISED}]{{2,}}|[⁰⁴-⁹])")
"""One ² or ³ is squared and cubed; 1999⁴ has a note, which is left out."""
_RAISED_PER = re.compile(
    r"(?:(?<=[a-zA-ZµμΩ])(?P<unit_before>[ ·⋅])|(?<=[\d⁰¹²³⁴-⁹])\s)(?P<unit>mol|[kcm]?m|k?g|m?[sLl]|h|min|K|J|V)⁻(?P<power>[¹²³])(?!\w)"
)
"""m s⁻² -> m/s²; 10²³ mol⁻¹ -> 10²³ per mol."""
_RAISED_NOTE = re.compile(rf"(?<=[.!?,;:\"”’)\]])[{_RAISED}]+|(?<=[a-z]{{3}})[{_RAISED}]+(?=\W|$)")
_RAISED_SUM = re.compile(r"(\((?![^()]*[^\W\d_]{3})[^()]{1,40}\))([²³])")
"""(a + b)², in which no word shows that the sign is a note's."""
_ISOTOPE = re.compile(r"(?<!\w)([¹²³⁰⁴-⁹]{1,3})([A-Z][a-z]?)(?![A-Za-z])")
_CHARGE = re.compile(r"(?P<element>(?<![A-Za-z₀-₉\d)])[A-Z][a-z]?)?(?P<count>[²³⁴]?)(?P<sign>[⁺⁻])(?![\w⁰-⁹])")
_GROUPS = (
    # 12.345.678 and 1.234,50 and 12'345 and 1,00,000 and 12 345 678
    re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?:\.\d{3}){2,}(?![\d.])(?!,\d{3})"),
    re.compile(r"(?<![\w.,'’])[1-9]\d{0,2}(?:['’]\d{3})+(?![\d'’])"),
    re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?:_\d{3})+(?!\w)"),
    re.compile(r"(?<![\w.,])[1-9]\d?(?:,\d\d)+,\d{3}(?!\d|,\d)"),
    re.compile(r"(?<![\w.,])(?<!\d )[1-9]\d?(?: \d{3}){2,}(?!\w|[.,]\d| \d)"),
    re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?: \d{3})+(?=,\d\d\s?€)"),
    re.compile(r"(?<![\w.,])[1-9]\d{0,2}\.\d{3}(?=\s?(?:€|kr\b|kroner\b|kronor\b|Kč|zł|EUR\b|[Ee]uros?\b))"),
    re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?: 000)+(?!\w|[.,]\d)"),
    re.compile(r"(?<![\w.,$€£¥])(?<!\d )[1-9]\d{0,2}(?: \d{3})+(?!\w|[.,]\d| \d)(?=\s?(?:%|(?:[kcm]?m|k?g|ft|mi|lbs?|GB|MB|W|V)\b))"),
)  # fmt: skip
"""The forms in which other countries group the digits of long numbers."""
_DECIMAL_COMMA = re.compile(
    r"(?<![\w,.])(?<!\d )(\d{1,4}),(\d{1,2})(?=\s?(?:[%‰]|°|(?:[kcm]?m|[km]?g|[GM]B|k?W|km/h|ml|cm²|hPa|million(?:s|en)?|billion)\b))"
)
_INDIAN_SCALE = re.compile(
    r"((?:₹|\bRs\.?|\bINR)\s?\d[\d.,]{0,12})\s?(L(?:akhs?|acs?)?|la(?:khs|cs?)|[cC]r(?:s|ores)?)\b(?!\.\w)(?:\.(?=[,;)]))?|(?<=\d)/-(?=[\s.,;)]|$)"
)
"""₹5L, Rs 2.5 cr and ₹500/-."""
_COMMA_CENTS = re.compile(
    r"([$€£][ ]?)(\d{1,3}(?:\.\d{3}){0,4}),(\d\d)(?!\d|,\d)|(\d{1,3}(?:\.\d{3})+),(\d\d?)(?!\d|,\d)"
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_OPENING_QUOTE = re.compile(r"(?<![A-Za-z])'(?!(?:tis|twas|em|cause|bout|til|round|n)\b)(?=[A-Za-z])", re.IGNORECASE)
_QUOTED = re.compile(r"(?<![A-Za-z])'(?!(?:tis|twas|em|cause|bout|til|round|n)\b)([A-Za-z](?:[^'.!?;]{0,60}?(?:'[a-z][^'.!?;]{0,60}?){0,3}[A-Za-z,])?)'(?![A-Za-z])", re.IGNORECASE)  # fmt: skip
"""Words between single quotation marks: 'big', but not the mark of "the boys'" without one before."""
_GREEK = re.compile(
    r"(?<!\w)(?<!\d )[α-ωΑ-ΡΣ-Ω](?!\w)|(?<!\w)[ΓΔΘΛΞΠΣΦΨαβγδεζηθκλνξπρστφχψω](?=[A-Za-z\d])|(?<=\d)[αβγδεθλπρσφψω](?=\b|[A-Za-z]\b)"
)
"""Greek letters of formulas: alone, before one letter or a digit, and pi after a number. Not μ and Ω, with which units begin."""
_REST_OF_ADDRESS = re.compile(r"[+.-][\w.+-]{1,64}@\w|-[\w-]{1,63}\.[a-z]{2}")
"""What follows the first word of first-last@example.com and of my-site.com."""
_CHARGES = str.maketrans("²³⁴⁺⁻", "234+-")
_MARKS = str.maketrans({"…": ".", "’": "'", "‘": "'", "→": ",", "–": ",", "—": ",", "(": ",", ")": ",", "[": ",", "]": ",", "{": ",", "}": ",", **dict.fromkeys("\"“”«»`", "")})  # fmt: skip


@dataclass(frozen=True)
class Token:
    """A piece of the text: its class ("word" and "sign" for what no class reads), and how it is written and said."""

    kind: str
    written: str
    said: str


_DIGIT_CLASSES = [CHAT_WITH_DIGIT, SERIAL_NUMBER, *NUMBER_CLASSES, *CODE_CLASSES, *ADDRESS_CLASSES, NUMBER]
_LETTER_CLASSES = [*LETTER_NUMBER_CLASSES, *WORD_CLASSES]
_OTHER_CLASSES = [*NUMBER_CLASSES, *ADDRESS_CLASSES, *SIGN_CLASSES, NUMBER]
CLASSES = (_DIGIT_CLASSES, _LETTER_CLASSES, _OTHER_CLASSES)
"""The token classes by the first character of a token, each in the order in which they are tried."""


def tokens(text: str) -> Iterator[Token]:
    """Take a text apart, after `plain_characters`; together the tokens are the text."""
    at = 0
    while at < len(text):
        character = text[at]
        if character == " " or (character in ",.?;:" and text[at + 1 : at + 2] in ("", " ")):  # of no class
            yield Token("space" if character == " " else "sign", character, character)
            at += 1
            continue
        word = _WORD.match(text, at)
        if word and word[0].islower() and _is_plain(word, text):
            yield Token("word", word[0], word[0])
            at = word.end()
            continue
        table = _LETTER_CLASSES if word else _DIGIT_CLASSES if "0" <= character <= "9" else _OTHER_CLASSES
        written = word[0] if word else character
        token = _classified(text, at, table) or Token("word" if word else "sign", written, written)
        yield token
        at += len(token.written)


def _is_plain(word: re.Match[str], text: str) -> bool:
    """Whether a word in small letters can't be of a class, so that nearly every word costs one look."""
    end = word.end()
    following = text[end : end + 1]
    if len(word[0]) < 2 or word[0] in WORDS_WITH_CLASS or not re.search("[aeiouy]", word[0]):
        return False
    if following and following in "+-." and _REST_OF_ADDRESS.match(text, end):
        return False
    return not (
        following
        and (following in "@:/\\_" or following.isalnum() or (following == "." and text[end + 1 : end + 2].isalnum()))
    )


def _classified(text: str, at: int, table: list[TokenClass]) -> Token | None:
    for kind in table:
        match = kind.match(text, at)
        if match and match.end() > at:
            said = kind.verbalize(match)
            if said is not None:
                return Token(kind.name, match[0], said)
    return None


def plain_characters(text: str) -> str:
    """Raised, wide, joined and Greek characters, inches and groups of digits in their plain form."""
    text = re.sub(r"(?:№|\bn[º°])\s?(?=\d)", "No. ", text)
    text = _RAISED_PER.sub(
        lambda match: f"{'/' if match['unit_before'] else ' per '}{match['unit']}{match['power'].strip('¹')}", text
    )
    text = re.sub(r"(?<=\d)(\s?)º(?=\s?[CF]\b)", r"\1°", unicodedata.normalize("NFC", text).translate(_PLAIN_LETTERS))
    text = re.sub(r"\blog([₀-₉]{1,3})", lambda match: f"log base {unicodedata.normalize('NFKC', match[1])} ", text)
    text = _CHARGE.sub(
        _charge, _ISOTOPE.sub(lambda match: f"{match[2]}-{unicodedata.normalize('NFKC', match[1])}", text)
    )
    text = _RAISED_SUM.sub(r"\1 \2", text)
    text = _RAISED_NOTE.sub(
        "", re.sub(r"(?<=[\d/])(\s?)([ckm]?m|ft|in|mi|yd)([²³]|[23](?!\w|[.,:/-]\d))", _raised_unit, text)
    )
    text = re.sub(r"(?<=\w)[⁰⁴-⁹]+", "", _POWER.sub(_power, text))
    for written, plain in (("²", " squared"), ("³", " cubed")):
        text = re.sub(rf"{written}(?=\w)", f"{plain} ", text).replace(written, plain)
    # Compatible characters as plain ones: "½" is "1⁄2".
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    text = "″".join(unicodedata.normalize("NFKC", part) for part in text.split("″"))  # it would become two feet
    text = _with_inches(text)
    if not text.isascii() and not re.search("[α-ωΑ-Ω]{3}", text):  # letters of formulas, not Greek words
        text = _GREEK.sub(_greek_letter, text)
    text = re.sub(r"``([^`']{1,200})\'\'", r'"\1"', text)
    text = re.sub(r"(?<![\w$€£])([$€£])-(?=\d)", r"-\1", text)
    text = re.sub(r"(?<=[$€£]\d),(?=\d\s(?:m|b|tr)illion\b)", ".", text)
    text = re.sub(r"(?<=[\w.!?)…])(?=https?://)", " ", text)  # a link without a space before it
    text = re.sub(r"\b(?![A-Z]{1,2}\$(?:m|bn|k|tn)\b)([A-Z][A-Za-z]{0,6})\$(?=[A-Za-z]{1,3}\b)", r"\1s", text)  # Ke$ha
    text = _DECIMAL_COMMA.sub(r"\1.\2", text)
    text = _INDIAN_SCALE.sub(_lakh_or_crore, text)
    text = _COMMA_CENTS.sub(_with_point, text)
    for pattern in _GROUPS:
        text = pattern.sub(lambda match: re.sub(r"[^\d]", "", match[0]), text)
    return _COMMA_CENTS.sub(_with_point, text)  # 1 234,50 €


def _charge(match: re.Match[str]) -> str:
    """Ca²⁺ -> Ca2+; OH⁻ -> OH^-."""
    charge = f"{match['count']}{match['sign']}".translate(_CHARGES)
    return (
        f"{match['element']}{charge}" if match["element"] and match["count"] else f"{match['element'] or ''}^{charge}"
    )


def _lakh_or_crore(match: re.Match[str]) -> str:
    """₹5L -> ₹5 lakh; ₹500/- -> ₹500; but 10/- are shillings."""
    if not match[1]:
        rupees = re.search(
            r"(?:₹|Rs\.?|INR)\s?[\d,.]+$|\d{3}$", match.string[max(0, match.start() - 20) : match.start()]
        )
        return "" if rupees else match[0]
    return f"{match[1]} {'crore' if match[2][0] in 'cC' else 'lakh'}"


def _greek_letter(match: re.Match[str]) -> str:
    """λ -> lambda; ΔT -> delta T; 2πr -> 2 pi r."""
    name = unicodedata.name(match[0]).split()[-1].lower().replace("lamda", "lambda")
    text, end = match.string, match.end()
    return (" " if text[: match.start()][-1:].isalnum() else "") + name + (" " if text[end : end + 1].isalnum() else "")


def _power(match: re.Match[str]) -> str:
    power = match[0].removeprefix(match[1] or "").replace("⁻", "minus ").removeprefix("⁺")
    return f"{match[1] or ''} to the power of {unicodedata.normalize('NFKC', power)}"


def _raised_unit(match: re.Match[str]) -> str:
    return f"{match[1]}{'sq' if match[3] in '²2' else 'cu'} {match[2]}"


def _with_point(match: re.Match[str]) -> str:
    """€1.234,50 -> €1234.50"""
    whole, cents = (match[2], match[3]) if match[1] else (match[4], match[5])
    return f"{match[1] or ''}{whole.replace('.', '')}.{cents}"


def _with_inches(text: str) -> str:
    """A quotation mark after a number means inches, where no quotation is open."""
    is_open = False

    def mark(match: re.Match[str]) -> str:
        nonlocal is_open
        if match[1] and (
            not is_open or re.search(r"(?<!\w)\d['’′]\s?-?$", text[max(0, match.start() - 5) : match.start()])
        ):
            return f"{match[1]}″" + (" " if text[match.end() : match.end() + 1] in ("W", "D", "H", "L") else "")
        before = text[max(0, match.start() - 1) : match.start()].strip()
        is_open = not is_open and before in "([{-–—'‘:,=*_/" and not text[match.end() : match.end() + 1].isspace()
        return match[0]

    # Not the end of UTF-8, 1990 or 1.2.3.
    return re.sub(r'(?<![A-WYZa-wyz_\d.+])(?<![A-Za-z]-)(\d{1,3}(?:[./⁄]\d{1,3})?)["“”]|["“”]', mark, text)


def normalize(text: str) -> str:
    """Text -> letters, spaces and `' - , . ; : ! ?`. Writing in other scripts than Latin is left out.

    The result may be empty: a text of symbols says nothing.
    """
    return _tidy("".join(token.said for token in tokens(plain_characters(text))))


def _tidy(text: str) -> str:
    """Spoken words with their punctuation: one mark in a place, one space between words, and nothing else."""
    text = re.sub("--+", ", ", text.translate(_MARKS))
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = re.sub(r"[^A-Za-z' ,.;:!?-]+", " ", text)
    text = re.sub(r"\s+", " ", re.sub(r"\s(?='s\b)|(?<![A-Za-z])'(?![A-Za-z])", "", text))  # five 's, ' five '
    text = re.sub(_OPENING_QUOTE, "", re.sub(_QUOTED, r"\1", text))
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"(?<=[a-z]) -(?=[A-Za-z])", "-", text)
    text = re.sub(r"(?<=[A-Za-z])- (?=[A-Za-z])", " ", text)  # COVID-19
    text = re.sub(r"([,.;:!?])(?:[,.;:!?]| (?=[,.;:!?]))+", _strongest, text)
    text = re.sub(r"([,.;:!?])(?=[A-Za-z])", r"\1 ", text).strip(" ,;:-")
    return text if re.search("[A-Za-z]", text) else ""


def _strongest(match: re.Match[str]) -> str:
    return next(mark for mark in "?!.;:," if mark in match[0])


def unsupported_words(text: str) -> list[str]:
    """The words and signs of money that `normalize` leaves out, and characters that were unreadable in a file."""
    if text.isascii():
        return []
    text = re.sub(r"(?<!\w)[α-ωΑ-Ω](?!\w)|[µμ]", " ", text).translate(_PLAIN_LETTERS)
    return "".join(c if _is_unsupported(c) else " " for c in text).split()


def _is_unsupported(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Sc":
        return character not in CURRENCIES and character not in SYMBOLS
    if character == "\ufffd":
        return True
    return category in ("Lu", "Ll", "Lt", "Lo") and not re.search("[A-Za-z]", unicodedata.normalize("NFKD", character))
