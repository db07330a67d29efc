"""Addresses of pages, mail and files, and options of commands.

bob@example.com -> bob at example dot com;  /etc/hosts -> slash etc slash hosts
"""

from __future__ import annotations

import re

from llasa_cli.text.lexicon import is_spelled, is_word
from llasa_cli.text.normalize.letters import spell
from llasa_cli.text.normalize.numbers import decimal
from llasa_cli.text.normalize.token_class import TokenClass, after, before
from llasa_cli.text.normalize.vocabulary import COMMANDS, LETTERS, NEAR_OPTIONS, word_table


def _option(match: re.Match[str]) -> str | None:
    """`git commit -m` -> dash em; --all -> dash dash all. Elsewhere a dash is punctuation."""
    words = re.findall(r"[\w.]+|`", before(match, 80))
    following = re.match(r"['\"’”`]?\s(?:flags?|options?|switch|arguments?|parameters?)\b", after(match, 14))
    quoted = re.search(r"[\"'‘“`]$", before(match, 1)) and re.match(r"[\"'’”`]", after(match, 1))
    name, is_long = match["name"], match["dashes"] == "--"
    clues = (
        COMMANDS if not is_long and (len(name) > 2 or (len(name) > 1 and is_word(name))) else COMMANDS | NEAR_OPTIONS
    )
    first = is_long and name.islower() and not before(match).strip()
    if not (following or quoted or first or any(word.lower() in clues or word == "`" for word in words)):
        return None
    if len(name) < 4 and (not is_word(name) or len(name) < 3):
        said = " ".join(decimal(run) if run.isdigit() else spell(run) for run in re.findall(r"[A-Za-z]+|\d+", name))
    else:
        said = name.replace("-", " ")
    return f"{'dash dash' if is_long else 'dash'} {said}"


_URL_SIGNS = word_table(
    ". dot,/ slash,@ at,- dash,: colon,\\ backslash,& and,= equals,~ tilde,+ plus,? question mark,# hash,% percent"
)


def _address(match: re.Match[str]) -> str | None:
    """bob@example.com -> bob at example dot com; /etc/hosts -> slash etc slash hosts."""
    if re.fullmatch(r"(?i:https?://)?t\.co/\w{6,14}", match["address"]):
        return " "  # the short form of a link in a post says nothing
    parts = re.fullmatch(r"(?P<first>[a-z]*)\.(?P<second>[A-Z]{4,6})", match["address"])
    if parts and is_word(parts["second"].lower()) and (not parts["first"] or is_word(parts["first"])):
        return None  # the end of a sentence: presidency.MAKE
    written = (
        re.sub(r"^(?i:(?:https?|s?ftp|ssh|git|wss?|file)://)?(?i:www\.)?", "", match["address"]).rstrip("/") or match[0]
    )
    written = written.lower() if written.isupper() else written
    said = []
    for part in re.findall(r"[A-Za-z]+|\d+|[^\w\s]", written):
        if part.isdigit():
            said.append(decimal(part))
        elif not part.isalpha():
            said.append(_URL_SIGNS.get(part, ""))
        elif len(part) == 1:
            said.append(LETTERS[part.lower()])
        elif not re.search("[aeiouyAEIOUY]", part) or (part.isupper() and is_spelled(part)):
            said.append(spell(part.lower()))
        else:
            said.append(part)
    return f" {' '.join(word for word in said if word)}{match['end']} "


_END = r"(?P<end>(?=[.,;:!?)\]\"”'’>]*(?:\s|$)|[(\[]|:\d))"
ADDRESS_CLASSES = [
    TokenClass("address", rf"(?<![\w.-])(?P<address>(?:localhost|[a-z][\w-]{{0,63}}(?:\.[\w-]{{1,63}}){{1,5}}):\d{{2,5}}(?:/[\w./?=&%-]{{0,200}}\w)?){_END}", _address),
    TokenClass("option", r"""(?<![^\s`"'(\[])(?P<dashes>--?)(?P<name>[A-Za-z][\w-]*)""", _option),
    TokenClass("address", rf"(?P<address>(?i:[a-z][a-z\d+.-]{{1,11}}://|www\.)[^\s<>\"“”]{{1,300}}?){_END}", _address),
    TokenClass("address", rf"(?<![\w.+@-])(?P<address>[\w.+-]{{1,64}}@[\w-]{{1,63}}(?:\.[\w-]{{1,63}}){{1,8}}(?::[\w./-]{{1,200}}\w)?){_END}", _address),
    TokenClass("address", rf"(?<![\w/~.¢%])(?P<address>(?:~|\.{{1,2}})?/(?:[\w.-]{{1,64}}/){{0,12}}\.?[A-Za-z_][\w-]{{0,64}}(?:\.\w{{1,12}}){{0,4}}/?(?:\?[\w=&%.+-]{{1,200}})?){_END}", _address),
    TokenClass("address", rf"(?<![\w/~.¢%])(?P<address>(?:~|\.{{1,2}})?/[A-Za-z_.][\w.-]{{0,63}}/(?:[\w.-]{{1,64}}/){{0,11}}\d[\w-]{{0,64}}(?:\.\w{{1,12}}){{0,4}}/?){_END}", _address),
    TokenClass("address", rf"(?P<address>[A-Z]:\\[\w\\.-]{{0,200}}\w){_END}", _address),
    TokenClass("address", rf"(?<![\w.-])(?P<address>[\w-]{{0,63}}\w(?:\.(?:[a-z][a-z0-9-]{{1,63}}|[ch](?!\w)|[A-Z]{{2,6}}(?![a-z]))){{1,8}}(?:/[\w./?=&%#-]{{0,200}}\w/?)?){_END}", _address),
    TokenClass("address", rf"(?<![\w.])(?P<address>\.(?:[A-Z]{{2,6}}|[a-z]{{2,5}}|[a-z]{{2,12}}(?:rc|ignore|config|profile|history|lock)|env\.[a-z]{{2,10}})\b(?!\.\w)){_END}", _address),
]  # fmt: skip
