"""Sentence boundaries in the scripts that the models speak, in a text whose language is unknown.

The rules are our own: a text may mix languages, and a text that arrives in pieces must be cut as the whole would be, so the
rules must know which boundary nothing that follows can undo. docs/benchmarks.md compares them with seven libraries.

Known misses: names with a mark in them ("Yahoo!"), rare abbreviations, lists in one line, marks with a space before them,
"5 a.m. Mr. Lee", spaced points after a full stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, pairwise

from llasa_cli.text.normalize import vocabulary
from llasa_cli.text.normalize.measures import NUMBERED_SONG
from llasa_cli.text.unicode import CJK_START, is_spaceless

_CJK = chr(CJK_START)
_HARD = "。！？｡।॥۔؟։።፧။༎។៕᙮"
"""Marks that only end sentences, whether a space follows or not."""
_CLOSERS = "\"'”’“‘»«›‹)\\]}」』）】》〉〕"
_HARD_CLOSERS = "\"'”’»›)\\]}」』）】》〉〕"
_ITEM = r"\n(?=[ \t]*(?:[-*•‣▪]|\d{1,3}[.)]|[a-zA-Z]\))[ \t]+\S)"
_NOTE = r"(?:\[\d{1,3}\]|[⁰¹²³⁴-⁹]{1,3}|(?:(?<=[a-z)\"”’][.!?])|(?<=[.!?][\"”’)]))\d{1,3}(?=\s))*"
"""The number of a note after a full stop: "He won.1 Then", "[12]", or raised."""
_END = re.compile(
    rf"""(?:
      (?P<hard>[{_HARD}][{_HARD}.!?…]*)
    | (?P<dots>\.{{2,}}(?![!?])|…+(?![!?])|(?<!\S)\.(?:[ \u00a0]\.)+)
    | (?P<call>[.!?…]*[!?‽⁇⁈⁉][.!?…]*(?:[ ][.!?…]+)*)
    | (?P<stop>(?<![\u0531-\u0587])\.)  # in Armenian it is a colon
    | (?P<other>(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e]|(?<=[\u0531-\u0587]):)  # Greek questions, Armenian ends
    )
    (?P<closers>(?(hard)[{_HARD_CLOSERS}]*|[{_CLOSERS}]*{_NOTE}))
    | (?P<paragraph>\n\s*\n|\u2029)
    | (?P<item>{_ITEM})
    | (?P<line>\n)""",
    re.VERBOSE,
)
_BACK = 200
"""Characters of the sentence that are looked at before a mark."""
_AHEAD = 40
_OPENERS = "•⁃‣▪\"'“‘„‚«»‹›¿¡([{—–-*_ \t\r\n\u00a0\u202f"
_WORD = re.compile(r"[^\W\d_]+")
_SPACED_CLOSER = re.compile(r"[\s\u00a0\u202f]?[»›](?=\s|\Z|[.,;:!?…])")
_DOTS = re.compile(r"…|\.\.|\. \.")
_PARAGRAPH = re.compile(rf"\n\s*\n|\u2029|{_ITEM}")
_DASH = re.compile(r"\s*[—–-]\s*")
_SAID = re.compile(r"[^\s。！？，、：「“”」]{1,6}?(?:说|說|问|問|道|喊|叫|答|笑)(?:道|着|著)?[。！？，：,]")
_SAID_AHEAD = 10
_SAID_IN_KOREAN = re.compile(r"\s[^.!?\"“”\n]{0,24}(?:물었|말했|외쳤|대답했|소리쳤|속삭였|했)(?:다|습니다|어요)")
_QUOTING = "とっ、，,"
_ROMAN = re.compile(r"[IVXLC]+")
_NUMBER_NEXT = re.compile(r"\d|(?:[IVXLC]{2,}|[ivx]{2,})(?![^\W\d_])|[IVX][,;:)]|#\d|[$€£]")
_INITIALS = re.compile(r"[^\W\d_](?:\.[^\W\d_]{1,2})*")
_NUMBERING = re.compile(r"(?:\d{1,3}|[A-Z])(?:\.(?:\d{1,3}|[A-Za-z]))+")
_CHESS_MOVE = re.compile(r"(?:[KQRBN][a-h]?[1-8]?x?[a-h][1-8]|O-O|0-0)(?![\w'’])")
_LEGAL = re.compile(r"(?:\bPub|\bFed|\bFed\. R|\bCiv|\bCrim|\b(?:Civ|Crim)\. P)$")
"""Within "Fed. R. Civ. P. 12" and "Pub. L.", where no sentence ends."""
_AFTER_LETTER = re.compile(r"(?:^|\W)[^\W\d_]\.\s?$")
"""The text before the second short word of "p. ex."."""
_CONTRACTED = frozenset("t s d m ll re ve".split())


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TITLES = _words(
    """skt mr mrs ms messrs dr dres prof profs mme mlle mgr sr sra srta sres dra sig sigg sig.ra sig.na dott dott.ssa prof.ssa
    avv geom rag dhr mevr mej drs exmo exma ilmo profa д-р проф акад гр г-н г-жа тов доц πρ डॉ श्री κ κα δρ"""
)
"""A name follows these, in upper or lower case."""
_CAPITAL_TITLES = _words(
    """pvt det ofc st ste mt gt cllr gen col capt lt sgt cpl maj adm cmdr rev hon gov sen rep pres supt fr hr hrn frl ing dipl lic arch me pr
    sec ud uds vd vds d dña dn ир m mm av sok cad"""
) | frozenset(vocabulary.GIVEN_NAMES)
"""Titles only with a capital: "5 ms" and "the col." are other words."""
_AFTER_TITLES = _words("ir ing med phil jur rer nat pol oec h.c habil dent")
"""Titles only after another one ("Dr. med. Meyer"): elsewhere they are words, "ir" in Spanish and "med" in Danish."""
_NEVER_LAST = _words(
    """vs incl excl e.g i.e cf viz al attn pls btwn a.k.a
    z.b d.h bzw ca evtl ggf inkl exkl vgl u.a v.a o.ä i.d.r z.t s.o s.u insb bspw sog zzgl abzgl bes jew geb gest
    p.ex p.ej p.es env c.-à-d av apr bd boul fg
    aprox avda ej
    d.w.z bijv o.a m.b.t t.a.v i.p.v n.a.v m.n t.o.v z.o.z
    t.ex bl.a d.v.s s.k dvs f.eks fx mht kl inkl
    napr sq fl cu вул див стор журн вид чл укр наук np m.in tzn tzw ul św
    např tzv tj
    т.е т.к т.н напр ул им пл пер стр рис гл св тыс млн млрд
    esim ts ns ee mio mrd
    örn bkz"""
)
"""An explanation, a name or a number follows."""
_BEFORE_NUMBERS = (frozenset(vocabulary.BEFORE_NUMBERS) - _words("cat d km mi")) | _words(
    """n° № nrs arts abb bd kap s seite ziff abs lin anm febr mär okt dez déc janv févr avr juil ene abr ago dic gen mag giu
    mm rev ss bap bapt bur rs kr cir ct evid lug set ott pág págs pag pagg cap núm num tél blz hfdst str sid č čís nº см кв рис т стр"""
)
"""Abbreviations only before a number: "No. 5", but "No. I won't."."""
_MONTHS_CUT = _words(
    "jan feb febr mar mär apr jun jul aug sep sept set oct okt ott nov dec dez dic gen ene abr ago dic mag giu lug"
)
_SOMETIMES_LAST = _words(
    """etc inc ltd co corp jr sr dept est approx min hr a.m p.m usw usf u.s.w st b.c a.d c.e b.c.e ft lb lbs oz hrs mins secs хв сек год грн га град од кб ecc enz osv jne itd itp atd apod vb vd jl
    std sek jh jhd gmbh ph.d m.d b.a m.a bros assn univ uu al str стр ave blvd rd hab cie ltda s.a s.l s.r.l n.v b.v др пр руб коп гг вв н.э г ст e.v u.v.m m.m o.k"""
)
"""The sentence continues if the next word begins with a small letter."""
_SHORTENED = (frozenset(vocabulary.ABBREVIATIONS) - _SOMETIMES_LAST - _NEVER_LAST) | _words(
    "bur inv ser lic cert dev mo dist div gal qt vol ref info fwd hwy sq ed ff plz"
)
"""English abbreviations after which a small letter continues the sentence."""
_DIRECTION = re.compile(r"(?:[NS]\.?[EW]|[NSEW])\b")
_WEEKDAYS = _words("Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun")
_UNITS = _words(
    "in ft lb lbs oz min mins hr hrs sec secs ms km cm mm m kg g l yd yds mi gal qt pt qts pts doz gals tsp tbsp pkg yr yrs wk wks mo mos"
)
"""Units after a number, where the sentence continues with a small letter or another number: "5 ft. 3 in. tall"."""
_SHORT_FORMS: frozenset[str] = frozenset().union(
    *(_TITLES, _CAPITAL_TITLES, _AFTER_TITLES, _NEVER_LAST, _BEFORE_NUMBERS, _SOMETIMES_LAST, _SHORTENED, _UNITS),
    *(vocabulary.BIBLE_BOOKS, vocabulary.AFTER_ORDINALS),
)
_STARTERS = _words(
    """The He She It We They I You But And Then This That These Those There His Her My Our Their Its In On At As A An If
    When What Who How Why Where So No Yes Now For Not Or Do Does Did Is Are Was
    Were Can Could Would Should Has Have Had
    Der Die Das Er Sie Es Wir Ich Ein Eine Aber Und Dann Dies Diese Doch Danach
    Il Elle Ils Elles Nous Vous Je Un Une Mais Et Puis Ce Cette C On
    Él Ella Ellos Ellas Pero Y Luego Una Lei Lui Ma Poi Ele Ela Mas Depois
    Hij Zij Wij Het Maar En Han Hun Men Och Det Så Hän On Он Она Оно Они Это Мы Но И Затем Потом"""
)
"""Words that begin no name: after initials or "U.S." they begin a sentence."""
_BEFORE_ORDINALS = _words(
    """am im der die das den dem des vom zum zur beim ab bis seit ein eine einen einem einer eines jeder jede jedes jeden
    dieser diese dieses diesen diesem unser unsere mein meine sein seine seinen ihr ihre ihren und de het den det"""
)
"""German and its neighbours write "am 3. Mai", "der 2. Weltkrieg"."""
_MONTHS = _words(
    """januar februar märz april mai juni juli august september oktober november dezember jänner january february march
    may june july october december"""
)


_CONTINUES = [
    (re.compile(word), re.compile(before), re.compile(following))
    for word, before, following in (
        (rf"(?i:{'|'.join(vocabulary.BIBLE_BOOKS)})", "", r"\d{1,3}:\d"),
        (r"b|d|m|bapt?|bur", r"(?<!\s[ap]\.)$", r"(?:(?:abt|bef|aft|ca?)\.?\s)?\d"),
        (r"Co", "", rf"(?:{vocabulary.COUNTIES})\b"),
        (r"(?i:dep|arr)", "", r"[A-Z]{3}\b"),
        (r"(?i:nr)", "", ""),
        (r"c", "", r"B\.?C|A\.?D|C\.?E"),
        (r"(?i:vit|rm|bldg|apt|ste|fig|app|sec|pt|vol|term)", "", r"[A-HJ-Z](?![\w'’])"),
        (r"sat", "", "fat"),
        (r"v|d|def", r"[A-Z][\w.]*(?:\([a-z]{1,2}\))?$", r"(?![a-z\d])\w"),  # Roe v. Wade
        (r"Ft", "", r"(?![a-z\d])\w"),
        (r"INT|EXT", "", r"[A-Z]{2}"),
        (r"Cat|A\.D", "", r"\d"),
        (r"(?i:pp?)", "", r"[ivx]{1,6}\b"),
        (r"(?i:no)", "", r"[A-Z]{1,4}-?\d"),
        (r".*", "", "[&@=]"),
    )
]
"""Words before a full stop, with the text before and after them, that no sentence ends with."""


def sentence_ends(text: str, growing: bool = False, column: int = 0) -> Iterator[int]:
    """Yield the positions at which a new sentence begins.

    Args:
        text: A text of any length.
        column: The length of the line so far, if the text begins inside a line (see `column_after`).
        growing: More text may follow. A boundary that it could still undo is not given, nor any after it, so a text that
            arrives in pieces is cut as the whole would be.
    """
    begin = 0
    for found in _END.finditer(text):
        if found["paragraph"] or found["item"]:
            end: int | None = found.end()
        elif found["line"]:
            end = _line_end(found, begin, growing, column)
        else:
            end = _end_of(found, begin, growing)
        if end is None:
            return
        if end > begin:
            yield end
            begin = end


def split_sentences(text: str) -> list[str]:
    """Cut a text into sentences, at their marks, at blank lines, before the items of a list and after headings."""
    return list(sentences_in(text))


def column_after(text: str, column: int = 0) -> int:
    """The length of the last line of a text that began at a column."""
    _, newline, last = text.rpartition("\n")
    return len(last.strip()) + (0 if newline else column)


def sentences_in(text: str, column: int = 0) -> Iterator[str]:
    """Yield the sentences of `split_sentences`, each in one line."""
    for begin, end in pairwise(chain([0], sentence_ends(text, column=column), [len(text)])):
        sentence = join_lines(text[begin:end])
        if sentence:
            yield sentence


_HYPHENATED = re.compile(r"([^\W\d_]+)([-‐\u00ad])[ \t]*\n[ \t]*([^\W\d_]+)")
_NUMBER_LINES = re.compile(r"(\d[-–])[ \t]*\n[ \t]*(\d)")
_CJK_LINES = re.compile(rf"(?<=[{_CJK}-\uabff\uf900-\U0003ffff])[ \t]*\n\s*(?=[{_CJK}-\uabff\uf900-\U0003ffff])")


def join_lines(text: str) -> str:
    """Wrapped lines -> one line. A word that was hyphenated becomes whole, and Chinese and Japanese get no space."""
    if "\n" in text:
        text = _NUMBER_LINES.sub(r"\1\2", _CJK_LINES.sub("", _HYPHENATED.sub(_rejoined, text)))
    return " ".join(text.split())


def _rejoined(match: re.Match[str]) -> str:
    """nega-/tive -> negative; well-/known keeps its hyphen."""
    from llasa_cli.text.lexicon import is_word

    first, hyphen, second = match.groups()
    if not second[0].islower() or (len(first) == 1 and first.isupper()):  # X-/ray
        return f"{first}-{second}"
    whole = is_word((first + second).lower()) or hyphen == "\u00ad"
    compound = len(first) > 1 and is_word(first.lower()) and is_word(second)
    return first + second if whole or not compound else f"{first}-{second}"


_MARKS = frozenset(".!?…:;,‽؛،" + _HARD + "！？；：、，—–-")


def full_stop(character: str) -> str:
    """The full stop of a character's script."""
    return "。" if is_spaceless(character) else "।" if "\u0900" <= character <= "\u0dff" else "."


_OPEN_END = re.compile(rf"[\s,;:،؛，、；：–—-]+([{_HARD_CLOSERS}]*)\Z")


def closed(text: str, is_cut: bool = False) -> str:
    """End the text of a chunk as a sentence ends: models say part of a text twice that ends with a comma.

    A comma, semicolon, colon or dash becomes a full stop. A text that was cut out of a sentence (`is_cut`) gets one even
    where it has no mark.
    """
    text = text.rstrip()
    found = _OPEN_END.search(text)
    if found and found.start():
        return text[: found.start()] + full_stop(text[found.start() - 1]) + found[1]
    return ended(text) if is_cut and not "\u0e00" <= text[-1:] <= "\u0eff" else text  # Thai and Lao have no mark


def ended(text: str) -> str:
    """Add a full stop to a text without a mark at its end."""
    bare = text.rstrip().rstrip(_CLOSERS.replace("\\", ""))
    if not bare or bare[-1] in _MARKS:
        return text
    return text.rstrip() + full_stop(bare[-1])


def _line_end(found: re.Match[str], begin: int, growing: bool, column: int) -> int | None:
    """The boundary at a line end: 0 where the sentence continues in the next line, None if only more text can tell.

    A sentence that begins late in a long line continues in the next one. A heading without a mark is a sentence of its own. So is a line of Chinese or Japanese without a mark, unless it was
    wrapped: then the text has marks, and the line is as long as the next.
    """
    text, end = found.string, found.end()
    sentence = text[max(begin, found.start() - _BACK) : found.start()]
    earlier, _, line = sentence.rpartition("\n")
    line = line.strip()
    if not line or line[-1] in _MARKS or line[-1] in _CLOSERS:
        return 0
    next_end = text.find("\n", end, end + 2 * _BACK)
    following = text[end : next_end if next_end >= 0 else end + 2 * _BACK].strip()
    unsure = growing and next_end < 0 and len(text) - end < 2 * _BACK
    if not following:
        return None if unsure else 0
    if len(line) <= _LONGEST_HEADING and (_AMOUNT_LINE.match(line) or _LABELED_LINE.match(line)):
        like = _AMOUNT_LINE if _AMOUNT_LINE.match(line) else _LABELED_LINE
        if like.match(following) and len(following) <= _LONGEST_HEADING:
            return None if unsure else end
        if unsure:
            return None
    if is_spaceless(line[-1]) and is_spaceless(following[0]):
        return _cjk_line_end(end, line, following, unsure, wrapped=bool(earlier.strip()))
    begin_of_line = text.rfind("\n", 0, found.start()) + 1
    before = len(text[begin_of_line:begin].strip()) + (0 if begin_of_line else column)
    if before and before + len(line) > _LONGEST_HEADING:
        return 0
    if earlier.strip() or len(line) > _LONGEST_HEADING or not line.lstrip(_OPENERS + "#")[:1].isupper():
        return 0
    first = following.lstrip(_OPENERS)[:1]
    if not (first.isupper() or first.isdigit()):
        return None if unsure and not first else 0
    if line.isupper() or _is_title(line) or len(following) >= 1.5 * len(line) + 10:
        return end
    return None if unsure else 0


def _cjk_line_end(end: int, line: str, following: str, unsure: bool, wrapped: bool) -> int | None:
    """`_line_end` between two lines of Chinese or Japanese. `wrapped`: so was the line before."""
    if len(following) > len(line) + 2:
        return end
    if unsure:
        return None
    return 0 if wrapped or len(line) >= _WRAPPED or set(line + following) & set("。！？，、；：") else end


def _is_title(line: str) -> bool:
    """Whether the words of a line begin with capitals, as those of a heading do."""
    words = [word for word in line.split() if word[0].isalpha() and word.lower() not in _SMALL_TITLE_WORDS]
    return (
        bool(words) and all(word[0].isupper() for word in words) and line.split()[-1].lower() not in _SMALL_TITLE_WORDS
    )


_LONGEST_HEADING = 60
_AMOUNT_LINE = re.compile(r"(?:\d|[¼-¾⅐-⅞])[\d.,/⁄¼-¾⅐-⅞–-]*\s+\S")
_LABELED_LINE = re.compile(r"[^\W\d_][\w .'’()-]{0,30}:\s\S")
"""Short lines that are each a whole, if the next one begins so too: "2 cups flour", "Tel: 555-0123"."""
_WRAPPED = 20
"""The length from which on a line of Chinese or Japanese counts as wrapped, even without a mark."""
_SMALL_TITLE_WORDS = _words(
    "a an the and or but nor of in on at to for from by with as vs der die das und von le la les de du et el los y"
)


def _end_of(found: re.Match[str], begin: int, growing: bool) -> int | None:
    """The boundary at a mark; 0 if there is none, None if only more of the text can tell."""
    text, end = found.string, found.end()
    if growing and end == len(text):
        return None
    if found["hard"]:
        return _hard_end(found, begin, growing)
    if not _may_end(found):
        return 0
    before = text[max(begin, found.start() - _BACK) : found.start()]
    quote_open = "«" in before or "‹" in before
    bracket_open = before.rfind("(") > before.rfind(")") or before.rfind("[") > before.rfind("]")
    closer = _SPACED_CLOSER.match(text, end) if quote_open else None
    if closer:
        end = closer.end()
        if growing and end == len(text):
            return None
    ahead = text[end : end + _AHEAD]
    quoted = bool(found["closers"] or closer)
    stop = found["stop"] and not quoted
    growing = growing and len(ahead) < _AHEAD
    paragraph = _PARAGRAPH.search(ahead)
    if paragraph:  # the text behind it does not matter
        ahead, growing = ahead[: paragraph.start()], False
    careful = quote_open or bracket_open or not before[-1:].strip()
    if stop and _is_plain(before) and not (careful and (bracket_open or (growing and not ahead.strip()))):
        return end
    following = ahead.lstrip(_OPENERS)
    if not following:
        return None if growing else 0  # the end of the text or paragraph is a boundary anyway
    if bracket_open and not quoted and (following[0].islower() or following[0].isdigit()):
        return 0
    if stop:
        return _stop_end(end, before, following, growing)
    small = following[:1].islower()
    if found["call"] == "!" and (re.match(r"\s?[=×≈]", ahead) or (small and re.search(r"(?<!\w)[nkmr]$", before))):
        return 0  # 5! = 120
    # Direct speech continues: "Really?" he asked. — ¿Qué? —dijo Juan. So does an afterthought: Well... maybe.
    if small and (found["dots"] or quoted or _DASH.match(ahead) or _DOTS.search(found[0])):
        return 0
    if quoted and "가" <= following[:1] <= "힣":
        if _SAID_IN_KOREAN.match(ahead):
            return 0
        if growing and not re.search(r"[.!?\n]", ahead):
            return None
    if found["stop"]:
        return _stop_end(end, before, following, growing)
    return end


def _may_end(found: re.Match[str]) -> bool:
    """Whether a European mark is followed by a space, by the end, or by a script without spaces."""
    text, begin, end = found.string, found.start(), found.end()
    after = text[end : end + 1]
    if not after or after.isspace():
        return True
    if found["call"] and after in "¿¡":
        return True
    if found["closers"] and "가" <= after <= "힣":
        return False  # a particle: “...?”라고
    return bool(found["call"] or found["stop"]) and begin > 0 and after >= _CJK <= text[begin - 1]


def _hard_end(found: re.Match[str], begin: int, growing: bool) -> int | None:
    text, end = found.string, found.end()
    closers = found["closers"]
    before = text[max(begin, found.start() - _BACK) : found.start()]
    if before.count("《") > before.count("》"):
        return 0  # in the title of a book
    if closers[:1] in ('"', "'") and not before.count(closers[0]) % 2:
        return found.start("closers")  # it opens the next sentence
    if not closers:
        return end
    if text[end : end + 1] in tuple(_QUOTING) or text[end : end + 1] == "の":
        return 0
    ahead = text[end : end + _SAID_AHEAD]
    if _SAID.match(ahead):
        return 0
    if growing and len(ahead) < _SAID_AHEAD and not re.search(rf"[{_HARD}，：,\s]", ahead):
        return None
    return end


_MEASURED = re.compile(r"(\d+)([a-z]{1,4})")
"""An amount and its unit without a space: "30min"."""


def _last_word(before: str) -> tuple[str, str]:
    """The word before a full stop, and the text before that word."""
    rest, _, token = before.rpartition(" ")
    if "\n" in token or "\t" in token or "\u00a0" in token or "\u202f" in token:
        split = max(token.rfind(blank) for blank in "\n\t\u00a0\u202f")
        rest, token = f"{rest} {token[:split]}", token[split + 1 :]
    token = token.lstrip("\"'“‘„‚«»‹›¿¡([{—–-*_")
    for sign in "'’-–/(":
        head, _, tail = token.rpartition(sign)
        if head and tail and not (sign in "'’" and tail in _CONTRACTED) and token.lower() not in _TITLES | _NEVER_LAST:
            token = tail
    measured = _MEASURED.fullmatch(token)
    return (measured[2], f"{rest} {measured[1]}") if measured else (token, rest)


def _is_plain(before: str) -> bool:
    """Whether the word before a full stop is an ordinary one, so that the text after the stop does not matter."""
    token, rest = _last_word(before)
    small = token.lower()
    return not (
        (len(token) < 4 and _AFTER_LETTER.search(rest))
        or small in _SHORT_FORMS
        or token in ("Ft", "Cat", "sat", "feat")
        or token in vocabulary.STATES
        or _LEGAL.search(before)
        or small == "es"
        or token in _WEEKDAYS
        or token.isdigit()
        or _INITIALS.fullmatch(token)
        or _ROMAN.fullmatch(token)
        or "." in token
        or (len(token) < 4 and token.isupper())
    )


def _stop_end(end: int, before: str, following: str, unsure: bool) -> int | None:
    """The boundary at a full stop after a word that may be an abbreviation.

    Args:
        end: Position after the full stop.
        before: The sentence up to the full stop.
        following: The text after it, from its first letter or digit.
        unsure: More text may follow `following`.
    """
    token, rest = _last_word(before)
    small, first = token.lower(), following[:1]
    word = _WORD.match(following)
    if unsure and (not first or (word and word.end() == len(following))):
        return None
    starts = word is not None and word[0] in _STARTERS and following[word.end() : word.end() + 1] != "."
    at_start = not rest.strip(_OPENERS + "#")
    if small in _UNITS and re.search(r"\d[\s-]?[A-Za-z]+$", before) and not NUMBERED_SONG.search(f"{rest} "):
        goes_on = first.isdigit() or first.islower() or _DIRECTION.match(following) or first == "="
        return 0 if goes_on else end
    if small in _TITLES or (small in _CAPITAL_TITLES and token[:1].isupper() and len(token) > 1):
        return end if starts and small in ("st", "dr", "mt", "av") and not at_start else 0
    if small in _NEVER_LAST:
        return end if starts and small in ("incl", "excl", "mio", "mrd", "млн", "млрд", "тыс") else 0
    if token.isdigit():
        return _number_end(end, token, rest, at_start, following, word)
    if small in _BEFORE_NUMBERS and (len(token) > 1 or token.islower()) and _NUMBER_NEXT.match(following):
        return 0
    if token in ("feat", "ft") and (first.isupper() or first.isdigit()) and not starts:
        return 0
    if _LEGAL.search(before) and re.match(r"[A-Z][a-z]{0,4}\.|\d", following):
        return 0
    if token in vocabulary.STATES and re.search(r"[A-Z][\w.'’-]+,$", rest) and (first.islower() or first == ","):
        return 0
    if any(
        pattern.fullmatch(token) and start.search(rest) and ahead.match(following)
        for pattern, start, ahead in _CONTINUES
    ):
        return 0
    if small in vocabulary.AFTER_ORDINALS and re.search(r"\d(?:st|nd|rd|th)$", rest):
        return end if starts else 0
    if token in _WEEKDAYS and (
        first.isdigit() or (word and word[0][:3].lower() in _MONTHS_CUT and word[0].lower() in _MONTHS | _MONTHS_CUT)
    ):
        return 0
    if small in _SHORTENED and token[:1].isupper() and first.isupper():
        return end if starts else 0
    if small in _AFTER_TITLES and rest.endswith("."):
        return 0
    if (small == "es" and rest.endswith("ad")) or (token == "г" and not rest.rstrip()[-1:].isdigit()):
        return 0  # Italian "for example", Russian "town"
    if small in _MONTHS_CUT and first.islower() and (token[0].isupper() or rest.rstrip()[-1:].isdigit()):
        return 0
    if at_start and "." in token and _NUMBERING.fullmatch(token):
        return 0
    if at_start and (_ROMAN.fullmatch(token) or len(token) == 1):
        return 0
    if first.islower():
        if len(token) < 4 and _AFTER_LETTER.search(rest):
            return 0
        shortened = (
            small in _SOMETIMES_LAST
            or small in _SHORTENED
            or (small == "no" and re.match(r"of (?!(?:course|them|it|us|you)\b)", following))
        )
        shortened = shortened or token in _WEEKDAYS or "." in token or len(token) == 1
        shortened = shortened or bool(_ROMAN.fullmatch(token)) or (len(token) < 4 and token.isupper())
        return 0 if shortened and token != "I" else end
    if small in ("a.m", "p.m") and word and len(word[0]) > 1 and word[0].isupper():
        return 0  # "p.m. PDT"
    if small in _SOMETIMES_LAST:
        if small in ("ave", "blvd", "rd", "st", "dr") and _DIRECTION.match(following):
            return 0
        return end
    if _INITIALS.fullmatch(token):
        return _initial_end(end, token, rest, following, word, starts)
    return end


def _number_end(end: int, number: str, rest: str, at_start: bool, following: str, word: re.Match[str] | None) -> int:
    """ "3." is an ordinal, the number of a list item, or the end of a sentence."""
    if at_start and len(number) < 4:
        return 0
    if len(number) > 2:
        return end
    if following[:1].islower() or (word and word[0].lower() in _MONTHS) or _CHESS_MOVE.match(following):
        return 0
    *_, earlier, last = ["", "", *rest.lower().split()[-2:]]
    return 0 if last in _BEFORE_ORDINALS and earlier != "i" and word else end


def _initial_end(end: int, token: str, rest: str, following: str, word: re.Match[str] | None, starts: bool) -> int:
    """The boundary after "J.", "U.S." or "b.", where the next word begins with a capital."""
    if starts:
        return end
    next_is_initial = word is not None and len(word[0]) <= 2 and following[word.end() : word.end() + 1] == "."
    if token[:1].isupper() or next_is_initial:
        return 0
    earlier = rest.rstrip()
    if token == "m" and earlier.endswith((" a.", " p.")):
        return end
    in_a_row = earlier.endswith(".") and len(earlier.split()[-1]) <= 3
    return 0 if in_a_row else end
