"""Screenplays in Fountain are read as their scenes, actions and turns."""

from __future__ import annotations

import pytest

from llasa_cli.text.dialogue import read_dialogue
from llasa_cli.text.markup import read_markup


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("Title:\n\t_**Brick & Steel**_\nCredit: by\nAuthor: Jane Doe\nDraft date: 1/2/12\nContact:\n\tNext\n\nHe sat.", "Brick & Steel by Jane Doe He sat."),
        ("EXT. BRICK'S PATIO - DAY #1A#\n\nHe sat.", "Exterior. Brick's Patio, Day. He sat."),
        ("int./ext. the car -- Night\n\nI/E LAB\n\n.A DREAM\n\n...and so on.", "Interior, Exterior. the car, Night. Interior, Exterior. Lab. A Dream. ...and so on."),
        ("O'NEIL (V.O.) (CONT'D) ^\n(beer raised)\nTo us.\n(beat)\n~And _them_.", "O'Neil: To us. And them."),
        ("@McCLANE\nHi.\n\nR2 D2\nBeep.", "McCLANE: Hi. R2 D2: Beep."),
        ("FADE IN:\n\nCUT TO:\n\n> Burn to white.\n\n> THE END <\n\nFADE OUT.", "THE END"),
        ("# Act\n\n## Scene\n\n= They meet.\n\n===\n\nHe [[a\n\nnote]]sat /* not\n\n this */down.", "He sat down."),
        ("!SCANNING...\nWhere?\n\nSTOP!\n\nHe *says* 5 * 3, \\*so\\*, a_b.", "SCANNING... Where? STOP! He says 5 * 3, *so*, a_b."),
    ],
)  # fmt: skip
def test_a_screenplay_is_read_as_it_is_heard(written: str, words: str) -> None:
    for parts in ([written], list(written)):
        assert " ".join("".join(read_markup(parts, "fountain")).split()) == words


def test_a_cast_speaks_the_turns_of_a_screenplay() -> None:
    parts = read_markup(["ANNA\nHello.\n\nShe leaves.\n\nBOB (O.S.)\nHi.\n"], "fountain")
    found = "".join(read_dialogue(parts, str.lower, ("anna", "bob")))
    assert [found.count(name) for name in ("voice:anna", "voice:bob", "voice:\ufdd1", "Anna")] == [1, 1, 2, 0]


@pytest.mark.parametrize(
    "text",
    [
        "/*" * 50_000,
        "[[" * 50_000,
        "A\n" * 50_000,
        "*" * 100_000,
        "INT. " + "-" * 50_000,
        "(" * 50_000,
        "A(" * 20_000 + "\nb",
    ],
)
def test_a_hostile_screenplay_is_read_through(text: str) -> None:
    list(read_markup([text], "fountain"))
