"""Training text: WordNet's glosses and example sentences, fragments of them, and everyday sentences from templates.

In: the WordNet 3.0 data files (Debian's `wordnet-base`, WordNet licence: any use, with attribution).
Out: `sentences(count, seed)`, a list of short English lines without digits, abbreviations or acronyms, so that
what flite reads is exactly what is spelled. Lines of the evaluation set are never among them.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

WORDNET = Path("/usr/share/wordnet")
HELD_OUT = tuple(Path(__file__).parents[1] / "heart" / name for name in ("held_out.txt", "short.txt"))
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_ALLOWED = re.compile(r"[A-Za-z' ,;?!-]+\.?")

_PEOPLE = """the teacher|my brother|her sister|the old man|the young woman|our neighbor|a doctor|the driver|my mother|his father|
the children|the students|a farmer|the captain|the nurse|their friends|the boy|the girl|the baker|a stranger|my uncle|the manager|
the artist|two workers|the police officer|a tall man|the singer|the king|the queen|everyone|nobody|she|he|they|we|the cook|the guests|
her husband|his wife|the lawyer|a soldier|the judge|a little boy|the whole family|my best friend|the team|the crowd|the writer""".replace(
    "\n", ""
).split("|")
_THINGS = """the door|a letter|the red car|her book|the kitchen table|an old house|the window|a cup of tea|the money|the picture|
a long story|the garden|the bread|some water|the music|a new coat|the box|the road|their dinner|a small boat|the lamp|the key|
the paper|an apple|the phone|the radio|a heavy bag|the green bottle|the clock|the horse|the dog|a white cat|the bird|the train ticket|
a warm blanket|the field|the fence|the river|a wooden chair|the wall|the floor|the bridge|a glass of milk|the soup|the map|the ship|
a bright light|the computer|a question|the answer|the problem|the secret|a blue dress|the hat|the shoes|the cake|some flowers""".replace(
    "\n", ""
).split("|")
_PAST = """opened|closed|found|lost|carried|bought|sold|painted|cleaned|watched|remembered|forgot|noticed|left|took|brought|saw|wanted|
needed|liked|loved|hated|fixed|broke|moved|dropped|held|kept|showed|described|touched|pushed|pulled|covered|filled|washed|counted|
checked|borrowed|returned|gave away|looked at|asked for|waited for|paid for|talked about|thought about|heard about|picked up|put down""".replace(
    "\n", ""
).split("|")
_PLACE = """in the morning|near the river|on the table|under the bridge|at the station|behind the house|after dinner|before the storm|
last night|every day|on the way home|in the city|by the sea|at school|in the middle of the road|across the street|next to the church|
during the winter|in the early spring|late in the afternoon|at the end of the week|in front of the store|without a word|for a long time|
in the dark|with great care|on the second floor|at the corner|over the hill|around the lake|from the window|in the small village|
on a cold day|in the hot sun|at noon|since last year|along the beach|outside the hospital|inside the theater|between the trees""".replace(
    "\n", ""
).split("|")
_ADJECTIVE = """happy|sad|tired|ready|late|early|cold|warm|hot|dry|wet|clean|dirty|quiet|loud|empty|full|heavy|light|open|closed|new|old|
strong|weak|rich|poor|easy|hard|simple|strange|clear|dark|bright|soft|sharp|sweet|fresh|broken|safe|dangerous|beautiful|ugly|cheap|
expensive|important|famous|angry|afraid|hungry|thirsty|sick|healthy|busy|free|possible|different|wonderful|terrible|perfect""".replace(
    "\n", ""
).split("|")
_SUBJECT = """the weather|the water|this room|the soup|the road|our house|the sky|the night|the music|the city|this problem|the answer|
the work|the train|the food|the sea|the river|the garden|the wind|his voice|her face|the street|the sun|the moon|the snow|the rain|
the story|the game|the price|the summer|the winter|the hotel|my room|your coffee|the milk|the bread|that idea|the plan|the view""".replace(
    "\n", ""
).split("|")
_NUMBER = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
]
_MONTH = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAY = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_UNIT = [
    "dollars",
    "years",
    "minutes",
    "hours",
    "days",
    "weeks",
    "months",
    "miles",
    "people",
    "books",
    "percent",
    "pounds",
    "feet",
    "degrees",
    "times",
    "cents",
    "meters",
    "pages",
]
_ORDINAL = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
]
_BASE = """go|come|stay|leave|sit down|stand up|work|play|sing|dance|read|write|sleep|eat|drink|drive|walk|run|swim|help us|tell the truth|
wait here|open the door|close the window|turn off the light|call me|answer the phone|make a cake|buy some bread|find a job|pay the bill|
wash the dishes|clean the house|feed the dog|take a walk|catch the bus|learn to read|listen to the radio|watch the news""".replace(
    "\n", ""
).split("|")
_GREETING = """hello|good morning|good evening|thank you very much|please|excuse me|yes|no|well|oh|all right|good night|welcome|
of course|I am sorry|how are you|see you tomorrow|never mind|come on|look|listen|goodbye|thanks|okay|sure|wait|help""".replace(
    "\n", ""
).split("|")


def _number(random_: random.Random) -> str:
    kind = random_.random()
    if kind < 0.4:
        return random_.choice(_NUMBER)
    if kind < 0.7:
        return f"{random_.choice(_NUMBER[19:])} {random_.choice(_NUMBER[:9])}"
    if kind < 0.9:
        return f"{random_.choice(_NUMBER[:9])} hundred {random_.choice(['', 'and '])}{random_.choice(_NUMBER)}"
    return f"{random_.choice(_NUMBER)} {random_.choice(['thousand', 'million'])}"


def _template(random_: random.Random) -> str:
    pick = random_.choice
    return pick(
        [
            lambda: f"{pick(_PEOPLE)} {pick(_PAST)} {pick(_THINGS)} {pick(_PLACE)}",
            lambda: f"{pick(_PEOPLE)} {pick(_PAST)} {pick(_THINGS)}",
            lambda: f"{pick(_PLACE)}, {pick(_PEOPLE)} {pick(_PAST)} {pick(_THINGS)}",
            lambda: (
                f"{pick(_SUBJECT)} {pick(['is', 'was', 'will be', 'seems', 'looked'])} {pick(['very ', 'too ', 'quite ', ''])}{pick(_ADJECTIVE)} {pick(_PLACE)}"
            ),
            lambda: f"{pick(_SUBJECT)} was {pick(_ADJECTIVE)} and {pick(_ADJECTIVE)}",
            lambda: (
                f"{pick(['please ', 'now ', 'you should ', 'we must ', 'do not ', 'let us ', 'I want to ', 'they had to ', 'it is time to ', ''])}{pick(_BASE)} {pick(_PLACE)}"
            ),
            lambda: (
                f"{pick(['can you', 'will they', 'did she', 'why did he', 'when will you', 'how can we', 'would you'])} {pick(_BASE)}?"
            ),
            lambda: f"{pick(['where is', 'what happened to', 'who took', 'have you seen'])} {pick(_THINGS)}?",
            lambda: f"it costs {_number(random_)} {pick(_UNIT)}",
            lambda: f"{pick(_PEOPLE)} waited {_number(random_)} {pick(_UNIT)} {pick(_PLACE)}",
            lambda: (
                f"on {pick(_DAY)}, {pick(_MONTH)} {pick(['', 'twenty ', 'the '])}{pick(_ORDINAL)}, {pick(_PEOPLE)} {pick(_PAST)} {pick(_THINGS)}"
            ),
            lambda: f"the year {pick(['nineteen', 'eighteen', 'twenty', 'two thousand'])} {pick(_NUMBER)}",
            lambda: f"{_number(random_)} {pick(['plus', 'minus', 'and', 'point', 'times'])} {_number(random_)}",
            lambda: f"{pick(_GREETING)}",
            lambda: f"{pick(_GREETING)}, {pick(_GREETING)}",
            lambda: f"{pick(_PEOPLE)} said that {pick(_SUBJECT)} was {pick(_ADJECTIVE)}",
            lambda: f"{pick(_PEOPLE)} {pick(_PAST)} {pick(_THINGS)} and {pick(_PAST)} {pick(_THINGS)}",
            lambda: f"if {pick(_SUBJECT)} is {pick(_ADJECTIVE)}, {pick(_PEOPLE)} will {pick(_BASE)}",
            lambda: f"{pick(_ADJECTIVE)} {pick(['days', 'people', 'hands', 'streets', 'nights', 'books', 'words'])}",
            lambda: f"{pick(_THINGS)} and {pick(_THINGS)}",
        ]
    )()


def _wordnet() -> tuple[list[str], list[str]]:
    """(example sentences and short glosses, single words), cleaned."""
    lines: list[str] = []
    words: set[str] = set()
    for part in ("noun", "verb", "adj", "adv"):
        for line in (WORDNET / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split(" ")
            for lemma in fields[4 : 4 + 2 * int(fields[3], 16) : 2]:
                if lemma.isalpha() and lemma.islower():
                    words.add(lemma)
            lines += re.findall(r'"([^"]+)"', gloss)
            lines.append(re.sub(r"\([^)]*\)", "", gloss.split(";")[0].split('"')[0]).strip())
    return [line for line in map(clean, lines) if line], sorted(words)


def clean(line: str) -> str | None:
    """`line` if flite reads exactly what it spells and it is one short breath, else None."""
    line = re.sub(r"\s+", " ", line.replace("--", ", ").replace("`", "'")).strip(" ,;-'")
    words = _WORD.findall(line)
    if not words or len(words) > 16 or len(line) > 90 or not _ALLOWED.fullmatch(line):
        return None
    if any(len(word) > 1 and word[1:] != word[1:].lower() for word in words):
        return None  # acronyms
    if any(word.lower() in {"st", "mr", "mrs", "dr", "jr", "vs", "etc", "ie", "eg"} for word in words):
        return None
    if any(len(word) == 1 and word not in "aIOo" for word in words):
        return None
    return line


def normal_form(line: str) -> str:
    """Lower-case words only: what decides whether a line is the same as a held-out one."""
    return " ".join(_WORD.findall(line.lower()))


def sentences(count: int, seed: int) -> list[str]:
    """`count` different lines, shuffled; a third each of WordNet lines, templates, and fragments and words."""
    random_ = random.Random(seed)
    lines, words = _wordnet()
    held_out = {normal_form(line) for file in HELD_OUT for line in file.read_text(encoding="utf-8").splitlines()}
    chosen: dict[str, str] = {}
    random_.shuffle(lines)
    lines_iterator = iter(lines)
    while len(chosen) < count:
        kind = random_.random()
        if kind < 0.45:
            line = next(lines_iterator, None) or _template(random_)
        elif kind < 0.70:
            line = _template(random_)
        elif kind < 0.85:
            fragment = random_.choice(lines).rstrip(".").split(" ")
            length = random_.randint(1, 5)
            start = random_.randrange(max(1, len(fragment) - length + 1))
            line = " ".join(fragment[start : start + length]).strip(" ,;-'")
        else:
            line = " ".join(random_.choice(words) for _ in range(random_.choice([1, 1, 2, 3])))
        cleaned = clean(line)
        if cleaned is None:
            continue
        key = normal_form(cleaned)
        if key and key not in held_out and key not in chosen:
            if random_.random() < 0.6 and cleaned[-1].isalpha() and kind < 0.7:
                cleaned += "."
            chosen[key] = cleaned
    result = list(chosen.values())
    random_.shuffle(result)
    return result
