"""Moves and scores of games.

12. Nxe5+ -> twelve, knight takes ee five check;  287/6 -> two hundred eighty seven for six;  odds of 7/2 -> seven to two
"""

from __future__ import annotations

import re

from llasa_cli.text.normalize.numbers import cardinal, pairs
from llasa_cli.text.normalize.token_class import TokenClass, after, before
from llasa_cli.text.normalize.vocabulary import LETTERS

_SUITS = dict(zip("♠♤♥♡♦♢♣♧", [suit for suit in ("spades", "hearts", "diamonds", "clubs") for _ in "12"], strict=True))
_RANKS = {"A": "ace", "K": "king", "Q": "queen", "J": "jack", "T": "ten"}
_PIECES = {"K": "king", "Q": "queen", "R": "rook", "B": "bishop", "N": "knight"}
_END_OF_MOVE = r"(?P<promotion>=[QRBN])?(?P<check>[+\#]{0,2})(?!\w)"
_CRICKET = re.compile(
    r"\b(?:overs|ov|wickets?|innings|stumps|declared|all out|(?:lead|led|trail(?:ed|ing)?) by|bowled|bowling|bowlers?|batting|batted|batsm[ae]n|not out|lbw|"
    r"run chase|first-class|T20|ODI|off (?:just |only )?\d+ balls)\b"
)
_LIMITED_OVERS = re.compile(r"\b(?:overs|ov|wickets?|innings|declared|all out)\b")
_ODDS = re.compile(r"\b(?:odds|priced at|backed at|bookies|bookmakers?|betting|favou?rites?)\b", re.IGNORECASE)
_OUTSIDER = re.compile(r"(?: on)?\s(?:shot|outsiders?|odds|fav\b|favou?rites?|on\b)")


def _move(match: re.Match[str]) -> str:
    """Nbd7 -> knight bee dee seven; exd5 -> ee takes dee five; e8=Q# -> ee eight queen checkmate."""
    groups = match.groupdict()
    piece = _PIECES.get(groups.get("piece") or "", "")
    squares = " ".join(cardinal(int(c)) if c.isdigit() else LETTERS[c] for c in groups.get("start") or "")
    target = f"{LETTERS[match['target'][0]]} {cardinal(int(match['target'][1]))}"
    said = [piece, squares, "takes" if groups.get("takes") else "", target]
    said += [_PIECES[match["promotion"][1]] if match["promotion"] else ""]
    said += [{"": "", "#": "checkmate", "++": "double check"}.get(match["check"], "check")]
    return " ".join(word for word in said if word) + " "


def _is_cricket(match: re.Match[str], words: re.Pattern[str] = _CRICKET) -> bool:
    return bool(words.search(before(match, 80)) or words.search(after(match, 80)))


def _score(match: re.Match[str]) -> str | None:
    """287/6 -> two hundred eighty seven for six; in a text about cricket 45/2 and 214-8 too; at odds of 100/1 -> to."""
    first, second = int(match["first"]), int(match["second"])
    if match["sign"] == "/" and (
        _ODDS.search(before(match, 60))
        or (
            first > second
            and second in (1, 2, 4, 5, 8)
            and before(match, 4).endswith(" at ")
            and after(match, 1) != ":"
        )
        or re.match(r"[.,]?\s(?:[Bb]est |[Tt]op )?odds\b", after(match, 14))
        or _OUTSIDER.match(after(match, 12))
    ):
        return f"{cardinal(first)} to {cardinal(second)} "
    if (
        match["sign"] == "/"
        and match["second"] == "1"
        and first > 13
        and not match["declared"]
        and not _is_cricket(match)
    ):
        return f"{cardinal(first)} to one "
    score = second < 11 and (first > second or first < 11) and len(match["second"]) < 3
    if match["sign"] == "-" and not (first > 19 and _is_cricket(match, _LIMITED_OVERS)):
        return None  # the goals of two teams
    figures = first < 11 and match["sign"] == "/"
    plain = first > 99 and second < 10 and match["sign"] == "/" and not re.match(r"\s?(?:[=%°]|Hz|mm)", after(match, 4))
    if not match["declared"] and not (plain and score) and not ((score or figures) and _is_cricket(match)):
        return None
    return f"{cardinal(first)} for {cardinal(second)}{' declared' if match['declared'] else ''} "


def _goals_and_points(match: re.Match[str]) -> str | None:
    """Geelong 12.8 (80) -> twelve eight, eighty; in Gaelic football 2-14 (20). The total shows that it is a score."""
    goals, points, total = (int(match[name]) for name in ("goals", "points", "total"))
    is_score = goals * (6 if match["joint"] == "." else 3) + points == total
    return f"{cardinal(goals)} {cardinal(points)}, {cardinal(total)}" if is_score else None


_SQUARE_BEFORE = re.compile(
    r"(?:\b(?:on|to|at|square|pawn|played|plays|takes|from|bishop|knight|queen|rook|king)|[a-h][1-8](?:,| and| or))\s$|[a-h][1-8][-–/]$"
)
_STITCHES = {
    stitch: re.compile(
        rf"(?<!\w)(?:{other}[1-9]\d?|[kp]\dtog|yo|ssk|sl ?\d|rows?|rnds?|rib|sts|cast on)(?!\w)", re.IGNORECASE
    )
    for stitch, other in (("k", "p"), ("p", "k"), ("y", "[kp]"))
}
"""What stands near a stitch in a knitting pattern."""


def _stitch(match: re.Match[str]) -> str | None:
    """k2, p2, k2tog -> knit two, purl two, knit two together; but the K2 and a P2 in other texts."""
    near = _STITCHES[match[0][0].lower()]
    if not match["together"] and not (near.search(before(match, 24)) or near.search(after(match, 24))):
        return None
    if not match["stitch"]:
        return "yarn over"
    name = "knit" if match["stitch"] in "Kk" else "purl"
    return f"{name} {cardinal(int(match['count']))}{' together' if match['together'] else ''} "


def _boundaries(match: re.Match[str]) -> str | None:
    """Kohli 122* (110b, 12x4, 3x6) -> one hundred ten balls, twelve fours, three sixes."""
    if not re.search(r"[(,]\s?$", before(match, 2)) or not (_is_cricket(match) or "*" in before(match, 40)):
        return None
    name = "ball" if match["balls"] else "four" if match["each"] == "4" else "sixe" if match["count"] != "1" else "six"
    count = match["balls"] or match["count"]
    return f"{cardinal(int(count))} {name}{'' if count == '1' else 's'} "


def _not_out(match: re.Match[str]) -> str | None:
    return (
        f"{cardinal(int(match['runs']))} not out "
        if _is_cricket(match) or re.match(r"\s?\(\d+b?\b", after(match, 6))
        else None
    )


_BASEBALL_BEFORE = re.compile(
    r"\b(?:hit|hits|hitting|batting|bats|batted|averag(?:e|ing)|BA|AVG|OBP|SLG|OPS|slugging|career|slashed|slashing)(?: (?:of|was|at|is))?:?\s(?:[\d./ ]{0,12})$"
)
_BASEBALL_AFTER = re.compile(r"\s(?:hitter|batter|average|batting|ball\b|record|clip|OBP|slugging|winning)")


def _batting_average(match: re.Match[str]) -> str | None:
    """She hit .325 -> three twenty five."""
    known = _BASEBALL_BEFORE.search(before(match, 40)) or _BASEBALL_AFTER.match(match.string, match.end())
    average = match["average"]
    said = f"{LETTERS['o']} {pairs(average[1:])}" if average[0] == "0" else pairs(average)
    return f" {said} " if known else None


_MOVE = r"(?:[KQRBN][a-h]?[1-8]?x?[a-h][1-8]|(?:[a-h]x)?[a-h][1-8]|O-O|0-0)"
_CASTLING = re.compile(r"(?:(?<![\d:])\d{1,3}(?:\.{1,3}|…)\s?|\b(?:[KQRBN][a-h]?[1-8]?x?[a-h][1-8]|[a-h][1-8])[+]?\s)$")
_CARD = TokenClass("card", r"(?P<rank>10|[2-9AKQJT])(?P<suit>[♠♤♥♡♦♢♣♧])", lambda m: f"{_RANKS.get(m['rank']) or cardinal(int(m['rank']))} of {_SUITS[m['suit']]} ")  # fmt: skip
GAME_NUMBER_CLASSES = [
    _CARD,
    TokenClass("score", r"(?P<goals>\d{1,2})(?P<joint>[.-])(?P<points>\d{1,2})\s?\((?P<total>\d{1,3})\)", _goals_and_points),
    TokenClass("chess", rf"(?P<number>\d{{1,3}})(?:\.{{1,3}}|…)\s?(?={_MOVE}(?![\w'’]))", lambda m: f"{', ' if re.search('[a-h][1-8O0][+#]?[ ]$', before(m, 5)) else ''}{cardinal(int(m['number']))}, "),
    TokenClass("score", r"(?P<first>\d{1,3})(?P<sign>[/-])(?P<second>\d{1,3})(?P<declared>d\b|\sdec\b\.?)?(?![\w/-]|[.,]\d)", _score),
    TokenClass("chess", r"0-0(?P<long>-0)?(?![\w-])", lambda m: f"castles {'queenside' if m['long'] else 'kingside'} " if _CASTLING.search(before(m, 10)) else None),
    TokenClass("score", r"\.(?P<average>\d{3})(?!\w|\.\d)", _batting_average),
    TokenClass("score", r"(?P<runs>\d{1,3})\*(?!\w)", _not_out),
    TokenClass("score", r"(?P<balls>\d{1,3})b(?=[,;)\s])|(?P<count>\d{1,2})x(?P<each>[46])(?=[,;)])", _boundaries),
]  # fmt: skip
GAME_WORD_CLASSES = [
    _CARD,
    TokenClass("chess", r"b4(?!\w)", lambda m: "bee four " if _SQUARE_BEFORE.search(before(m, 14)) else None),
    TokenClass("stitch", r"(?P<stitch>[KkPp])(?P<count>[1-9]\d?)(?P<together>tog)?(?!\w)|yo(?=[,;*])", _stitch),
    TokenClass("chess", rf"(?P<piece>[KQRBN])(?P<start>[a-h]?[1-8]?)(?P<takes>x?)(?P<target>[a-h][1-8]){_END_OF_MOVE}", _move),
    TokenClass("chess", rf"(?P<start>[a-h])(?P<takes>x)(?P<target>[a-h][1-8]){_END_OF_MOVE}", _move),
    TokenClass("chess", rf"(?P<target>[a-h][1-8])(?==[QRBN]|[+\#](?!\w)){_END_OF_MOVE}", _move),
    TokenClass("score", r"(?<=\d[ ])ov\b\.?", lambda m: "overs"),
]  # fmt: skip
