"""Money, with its sign or its code.

$3.50 -> three dollars and fifty cents;  CHF 50 -> fifty Swiss francs
"""

from __future__ import annotations

import math
import re

from llasa_cli.text.normalize import vocabulary
from llasa_cli.text.normalize.amounts import counted, is_before_noun
from llasa_cli.text.normalize.numbers import cardinal, decimal
from llasa_cli.text.normalize.token_class import after, before

SIGNS = "".join(vocabulary.CURRENCIES)


_SHARED_SCALE = re.compile(
    rf"\s?[-–—]\s?[{SIGNS}]\d[\d.,]{{0,12}}(?:[kKmMbB]n?|\s(?:thousand|million|billion|trillion))\b"
)
"""After an amount whose scale the next one gives."""


def say_money(match: re.Match[str]) -> str | None:
    sign = match["sign"] or match["sign_after"]
    one, many, small, smalls = vocabulary.CURRENCIES[sign]
    if match["prefix"]:
        if (sign == "$") == (match["prefix"] == "GH"):
            return None
        country = vocabulary.DOLLARS[match["prefix"]]
        one, many = f"{country} {one}".lstrip(), f"{country} {many}".lstrip()
        if match["prefix"] == "R":
            one, many = "real", "reais"
    amount = match["amount"] or match["amount_before"]
    if match["sign_after"] and re.fullmatch(r"\d+,\d\d", amount):
        amount = amount.replace(",", ".")
    whole, _, cents = amount.replace(",", "").partition(".")
    cash = re.match(
        r"\s(?:bills?|notes?|coins?|tickets?|stamps?|vouchers?|coupons?|fees?|fines?|bonus|discounts?|deposits?|prizes?|tolls?|donations?|surcharge|penalty|loans?|grants?|bonds?|invoices?|budget|deals?|settlement|mortgage|"
        r"refunds?|rewards?|bounty|salary|copay|deductible|threshold|gift cards?)\b",
        after(match, 14),
    )
    single = match["joint"] == "-" or is_before_noun(match) or cash is not None
    low = f"{decimal(match['low'].rstrip('-–—'))} to " if match["low"] else ""
    scale = match["scale"] or (vocabulary.SCALES[match["short_scale"].lower()] if match["short_scale"] else "")
    if match["named"]:
        return f" {low}{decimal(amount)} {scale}".rstrip() + match["named"]
    if not scale and not low and match["sign"] and _SHARED_SCALE.match(match.string, match.end()):
        return f" {decimal(amount)} "  # €1.5–€2bn
    if scale or len(cents) not in (0, 2):
        return f" {low}{decimal(amount)} {scale}".rstrip() + f" {one if single else many} "
    parts = []
    if int(whole or "0") or not cents:
        parts.append(f"{decimal(whole or '0')} {one if int(whole or '0') == 1 or single else many}")
    if cents and int(cents):
        is_one = int(cents) == 1 or (single and small != "penny")
        parts.append(f"{cardinal(int(cents))} {small if is_one else smalls}")
    return f" {low}{' and '.join(parts) or f'zero {many}'} "


def say_coded_money(match: re.Match[str]) -> str | None:
    """CHF 50 -> fifty Swiss francs; 2 million SEK -> two million Swedish kronor."""
    one, many = vocabulary.MONEY_CODES[match["code"] or match["code_after"]]
    amount, low = match["amount"] or match["amount_before"], match["low"] or match["low_before"]
    scale = match["scale"] or (vocabulary.SCALES[match["short_scale"].lower()] if match["short_scale"] else "")
    said = f" {decimal(low.rstrip('-–—'))} to" if low else ""
    whole, _, cents = amount.partition(".")
    small = next(
        (sign[2:] for sign in vocabulary.CURRENCIES.values() if sign[0] == one or one.endswith((" dollar",))), None
    )
    if small and len(cents) == 2 and not scale and int(whole.replace(",", "") or 0):
        and_cents = f" and {cardinal(int(cents))} {small[0] if cents == '01' else small[1]}" if int(cents) else ""
        return f"{said} {decimal(whole)} {one if whole == '1' else many}{and_cents} "
    single = (amount == "1" and not scale and not low) or is_before_noun(match)
    return f"{said} {decimal(amount)} {scale + ' ' if scale else ''}{one if single else many} "


GLUED_CODES = vocabulary.word_table(
    "N naira,R rand,P pesos,RM ringgit,Rp rupiah,Tk taka,Sh shillings,KSh Kenyan shillings,Kč Czech koruna,zl zlotys"
)
"""Letters before an amount: "N5,000"."""


def say_glued_money(match: re.Match[str]) -> str:
    """N5,000 -> five thousand naira; RM50 -> fifty ringgit."""
    whole, _, cents = match["glued_amount"].partition(".")
    amount = whole if cents == "00" else match["glued_amount"]
    scale = match["glued_scale"] or ""
    scale = vocabulary.SCALES.get(scale.lower(), scale)
    return f" {decimal(amount)} {scale + ' ' if scale else ''}{GLUED_CODES[match['glued']]} "


_RAND_BEFORE = re.compile(
    r"\b(?:pa(?:id|ys?)|spen[dt]s?|earn(?:s|ed)?|costs?|costing|charge[sd]?|owe[sd]?|worth|price(?:d)? (?:of|at|is)|fine of|fee of|budget of|save[ds]?|R\d[\d.,]* (?:to|and|or))\s"
    r"(?:only |just |about |up to |me |him |her |us |them ){0,2}$"
)
_RAND_AFTER = re.compile(
    r"\s(?:per|a|an|each|off|and|or|to|in|with|from|at|on|for|now|today|only|notes?|vouchers?|fines?|fees?)\b|[.,;!?)]|$"
)
_RAND_NEAR = re.compile(r"\b(?:is|was|as|at|for|of|to|about|over|under|than|only|just|from|around|by|and|or)\s$")


def say_rand(match: re.Match[str]) -> str | None:
    """They paid R100, or R49.99 -> rand; but the R100 chip."""
    whole, _, cents = match["rand"].partition(".")
    both = re.search(r"\b(?:between|from)\s$", before(match, 8)) and re.match(
        r"\s?(?:and|to|[-–])\s?R\d", after(match, 8)
    )
    placed = _RAND_NEAR.search(before(match, 8)) and _RAND_AFTER.match(match.string, match.end())
    if not cents and not both and not placed and not _RAND_BEFORE.search(before(match, 30)):
        return None
    return f" {cardinal(int(whole))} rand{f' and {cardinal(int(cents))} cents' if int(cents or 0) else ''} "


_BASIS = re.compile(
    r"\b(?:yields?|rates?|spreads?|Fed|ECB|BoE|RBI|hike[ds]?|bonds?|Treasur\w+|gilts?|Bunds?|margins?|basis)\b"
)
_BASES = re.compile(
    r"\b(?:DNA|RNA|fragments?|primers?|genes?|genom\w+|sequenc\w+|reads?|PCR|bands?|amplicons?|inserts?|upstream|downstream|ladder)\b"
)


def say_points(match: re.Match[str]) -> str | None:
    """The yield fell 3bp -> three basis points; a 500 bp fragment -> base pairs."""
    near = before(match, 60) + after(match, 40)
    name = "basis point" if _BASIS.search(near) else "base pair" if _BASES.search(near) else None
    single = match["amount"] == "1" or is_before_noun(match)
    return f" {decimal(match['amount'])} {name}{'' if single else 's'}" if name else None


def say_pence(match: re.Match[str]) -> str | None:
    """It cost 5p -> five pence; 50c each -> fifty cents; but 720p and seat 5c."""
    start, count = before(match, 40), int(match["pence"])
    priced = re.search(
        r"(?:\b(?:costs?|worth|only|just|pa(?:y|id)|charged?|up|down|off|for|at)(?: (?:an extra|about|only|just))?|[£¢]\d[\d.,]*\S?(?: (?:to|and|or)|,(?: or)?)|\d[pc¢],?(?: (?:to|and|or))?)\s$",
        start,
    )
    each = re.match(
        r"\s(?:each|apiece|off|coins?|pieces?|stamps?|a (?:litre|liter|mile|minute|bag|pint|day|share|kilo|unit)|per)\b",
        after(match, 14),
    )
    if (
        not (priced or each)
        or (count > 99)
        or (match["small"] == "c" and not each and not re.search(r"[$€¢]|\bcosts?\s$", start))
    ):
        return None
    one, many = ("penny", "pence") if match["small"] == "p" else ("cent", "cents")
    return f" {cardinal(count)} {one if count == 1 else many} "


def say_shillings(match: re.Match[str]) -> str | None:
    """£3 10s. 6d. -> three pounds ten shillings six pence; but a man in his 30s."""
    if not match["pence"] and not re.search(r"(?:£\d+|\dl\.)\s$", before(match, 10)):
        return None
    pence = f" {counted(int(match['pence']), 'pence').removesuffix('s')}" if match["pence"] else ""
    return f"{counted(int(match['shillings']), 'shilling')}{pence}"


_OLD_PRICE = re.compile(
    r"\b(?:costs?|pa(?:id|ys?)|priced?(?: at| of| was)?|sold (?:for|at)|charged?|worth)\s(?:only |just |about )?$"
)
_OLD_UNIT = re.compile(
    r"\s(?:an?\s(?:yard|pound|lb|dozen|week|bottle|pint|ticket|copy|seat|pair|day|ton|quart|head)\b|each\b|apiece\b)"
)


def say_old_money(match: re.Match[str]) -> str | None:
    """It cost 2/6 -> two and six; 10/- -> ten shillings; but 3/4 of it."""
    shillings, pence = int(match["shillings"]), int(match["pence"] or 0)
    if not match["pence"]:
        return f" {counted(shillings, 'shilling')}"
    fraction = shillings < pence and math.gcd(shillings, pence) == 1
    unit = _OLD_UNIT.match(match.string, match.end())
    priced = _OLD_PRICE.search(before(match, 24)) and pence in (0, 3, 4, 6, 9, 11) and not (fraction and pence < 6)
    if pence > 11 or not (
        (match["d"] and shillings < 20) or (unit and not fraction) or (priced and not after(match, 4).startswith(" of"))
    ):
        return None
    return f" {cardinal(shillings)} and {cardinal(pence)}"


def say_money_per(match: re.Match[str]) -> str | None:
    """$/kg -> dollars per kilogram."""
    each = match["unit"].lower()
    names = vocabulary.UNITS.get(each)
    each_name = vocabulary.SHORT_EACH.get(each) or (each if each in vocabulary.EACH else names[0] if names else None)
    return f"{vocabulary.CURRENCIES[match['sign']][1]} per {each_name}" if each_name else None
