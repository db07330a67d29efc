"""Amounts in general: numbers, scales, counts, and the words around them that decide between singular and plural.

a $20 bill -> a twenty dollar bill;  1.5k -> one point five thousand;  seat 12A -> a place, no measure
"""

from __future__ import annotations

import re

from llasa_cli.text.normalize.numbers import LONGEST_NUMBER, cardinal, decimal, digits, ordinal
from llasa_cli.text.normalize.token_class import TokenClass, after, before
from llasa_cli.text.normalize.vocabulary import LOCATORS, SCALES

AMOUNT = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\w)\.\d+)"
LONG_SCALES = r"hundred|lakh\scrore|thousand|million|billion|trillion|lakh|crore"
_NOUN = re.compile(
    r"\s(?!(?:a|an|the|and|or|but|nor|than|to|of|off|in|on|at|for|from|by|with|per|each|every|as|if|is|was|are|were|be|"
    r"will|would|has|had|may|more|less|up|down|over|under|into|about|after|before|when|while|that|which|who|I(?!-)|he|she|"
    r"we|you|they|it|so|not|because|could|should|would|does|did|isn|wasn|says?|said|draws?|costs?|x|plus|minus|equals)\b)[A-Za-z]"
)
_ARTICLE = re.compile(
    r"(?:\b(?:an?|the|this|its|my|your|his|her|our|their)|(?<!\bit)(?<!hat)(?<!\bhe)(?<!\bshe)(?<!ere)(?<!\bwho)(?<!\blet)['’]s"
    r"|\w-year,)\s$",
    re.IGNORECASE,
)
"""Before "$44 billion plan": the, its, Musk's, five-year; but "it's $20 cash"."""
_AMOUNT_AND_NOUN = re.compile(r"\s\d[\d,.]{0,12}\s?[A-Za-z]{1,5}\s[a-z]{3}")
_AFTER_AMOUNT = re.compile(
    r"(?<=\s)\d[\d,.]*\s?[A-Za-z]{1,3}\s$|(?<=\s)(?:\d[\d,.]*\s?(?:″|[a-z]{1,2})?\s?[-–x×]\s?){1,2}$"
)
_FEW_LETTERS = re.compile(
    r"(?:run|race|prs?|time|pace|loop|trail|finisher|runner|course|training|pb|tv|tvs|video|monitor|display|screen|resolution|uhd|footage|walk)\b",
    re.IGNORECASE,
)
_RACE = re.compile(
    r"\b(?:ran|run|runs|running|finished|first|local|charity|Turkey Trot) (?:an? |the |my |her |his )?(?:first )?$"
)
_COUNTED = re.compile(
    r"\s(?:followers|users|views|people|likes|dollars|subscribers|downloads|members)\b", re.IGNORECASE
)


_MILLIONS_BEFORE = re.compile(
    r"\b(?:costs?|earn(?:s|ed)?|made|raised?|sold for|worth|pa(?:id|y|ys)|spen[dt]|valued at|invest(?:s|ed)?|fined|lost|won|budget of|revenues? of|profits? of|"
    r"loss of|losses of|sales of|population of|fees? of|fine of|debts? of|deal of|turnover of|city of|(?:revenues?|profits?|sales|turnover|losses|income|population)"
    r" (?:rose|fell|grew|dropped|climbed|jumped|increased|went up|was|is|were|are|reached|hit|stood at|of)(?: to| by)?)\s(?:\w+\s){0,2}(?:\d[\d.]*m\s(?:from|to)\s)?$",
    re.IGNORECASE,
)
_MILLIONS_AFTER = re.compile(
    r"\s(?:[a-z]+\s)?(?:viewers|voters|workers|patients|households|homes|jobs|copies|children|adults|customers|players|students|streams|hits|visitors|tourists|passengers|"
    r"residents|inhabitants|refugees|cases|deaths|tonnes|tons|barrels|euros|pounds|rupees|yen|pesos|records|rows|tokens|parameters|params|cars|vehicles|units|"
    r"households|families|women|men|Christians|Muslims|[A-Z][a-z]+(?:cans|ians|eans|tons|ons|ese))\b"
    r"|\s(?:loss|profit|deal|budget|fund|contract|fine|bid|investment|population|grant|loan|bonus|settlement|lawsuit|mansion|in (?:sales|revenues?|profits?|funding|damages|debt|cash|tax)"
    r"|(?:were|was|have been) (?:sold|paid|spent|raised))\b"
)
_LENGTHS = re.compile(
    r"\s(?:of (?:rope|cable|wire|pipe|fabric|fence|road|track|string|tape|thread|cloth)|long|high|deep|wide|tall|away|apart|below|above|thick)\b"
)
"""Words around "1.3m" that make it a number of people or of money, or a length."""


def _is_millions(match: re.Match[str]) -> bool:
    if _COUNTED.match(match.string, match.end()) or _MILLIONS_AFTER.match(match.string, match.end()):
        return True
    start = before(match, 60)
    return (
        bool(_MILLIONS_BEFORE.search(start))
        and not start.endswith("the ")
        and not _LENGTHS.match(match.string, match.end())
    )


def is_before_noun(match: re.Match[str]) -> bool:
    """a $20 bill, a 6 ft. man, $20-a-month; not "It costs $20 to enter", nor "a $20 or more"."""
    text, end = match.string, match.end()
    if text.startswith("-", end) and text[end + 1 : end + 2].isalpha():
        return True
    if _AMOUNT_AND_NOUN.match(text, end) and _ARTICLE.search(before(match, 9)):
        return True  # a 3.7V 2600mAh battery
    start = _AFTER_AMOUNT.sub("", before(match, 24))
    return bool(_ARTICLE.search(start[-9:]) and _NOUN.match(text, end))


def is_place(match: re.Match[str]) -> bool:
    """Whether the word before names a place with a number: seat 12A."""
    word = re.search(r"([A-Za-z]+)\.?\s#?$", before(match, 20))
    return before(match, 1) == "#" or (word is not None and word[1].lower() in LOCATORS)


def counted(count: int, name: str) -> str:
    return f"{cardinal(count)} {name}{'' if count == 1 else 's'}"


def say_scaled(match: re.Match[str]) -> str | None:
    """10k, 5M users, 3B people; but a 4K screen and Flat 3B."""
    amount, scale = match[1], match[2]
    if len(scale) == 1 and is_place(match):
        return None
    if scale == "M" and before(match, 1) == "(" and after(match, 1) == ")" and len(amount) == 2:
        return f" {cardinal(int(amount))} em "  # (28M), a man of 28
    if scale in "kK":
        following = after(match, 14)
        if amount in ("3", "5", "8", "10", "15", "20", "50", "100") and _RACE.search(before(match, 24)):
            return f" {decimal(amount)} kay "
        if (
            _FEW_LETTERS.match(following.lstrip())
            or re.match(r"\s(?:@|in|at)\s\d\d?:\d\d", following)
            or (scale == "K" and amount in "48" and not _COUNTED.match(following))
        ):
            return f" {decimal(amount)} kay "
    if scale == "m" and not _is_millions(match):
        return None  # meters
    return f" {decimal(amount)} {SCALES[scale.lower()]} "


def say_ordinal(match: re.Match[str]) -> str:
    number = match[1].replace(",", "")
    return ordinal(int(number)) if len(number) <= LONGEST_NUMBER else digits(number)


def _number(match: re.Match[str]) -> str:
    """1,234.5, and Chapter 01, which is chapter one."""
    numbered = re.fullmatch("0+([1-9])", match[0]) and is_place(match)
    return f" {decimal(match[0].lstrip('0') if numbered else match[0])} "


def say_about(match: re.Match[str]) -> str:
    return " about "


NUMBER = TokenClass("number", AMOUNT, _number)
"""Numbers that no other class has read."""
