"""Markdown is read as words: none of its signs is spoken, none of its words is lost."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest

from llasa_cli.text.chunker import PARAGRAPH_PAUSE_S, chunk_text
from llasa_cli.text.incremental import read_sentences
from llasa_cli.text.markdown import read_markdown


def read(*parts: str) -> str:
    return "".join(read_markdown(parts)).strip()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("# A *fine* title #\nText", "A fine title.\n\nText"),
        ("## What now?", "What now?"),
        ("Term\n: Its text.\n: More.", "Term.\nIts text.\nMore."),
        ("A ==marked== word, H~2~O, x^2^ and a == b == c.", "A marked word, H2O, x^2 and a == b == c."),
        ("2*3*4 = 24, but `2*3` and 2*x*3.", "2*3*4 = 24, but 2*3 and 2x3."),
        ("An ++added++ word, C++ and D++.", "An added word, C++ and D++."),
        ("Off we go :rocket: at 10:30:45.", "Off we go  at 10:30:45."),
        ("{{< youtube abc >}}Hello {{ site.name }}{% raw %}there{% endraw %}.", "Hello there."),
        (":::tip Do this\nNow.\n:::", "Tip. Do this.\nNow."),
        ('!!! note "Do this"\n    Now.\n\n    Then.\n\nEnd.', "Note. Do this.\n\nNow.\n\nThen.\n\nEnd."),
        ('=== "Tab"\n\n    Text.\n\n??? tip\n    Hidden.', "Tab.\n\nText.\n\nTip.\n\nHidden."),
        ("A note^[in the line] and %%no%% words. ^block-1\n\nx^2^ is 2 ^3", "A note and  words.\n\nx^2 is 2 ^3"),
        (
            "![[a.png|90]]Seen ![[Page|there]], [small caps]{.smallcaps}, [a button](#b){ .md-button }.",
            "Seen there, small caps, a button.",
        ),
        ("[TOC]\n\n| Roses are red,\n| Violets are blue.\n\n*[HTML]: Hyper", "Roses are red,\nViolets are blue."),
        ("::: {.wide}\nNow.\n:::", "Now."),
        ("Energy is $E = mc^2$, $5 and $10.", "Energy is E = mc squared, $5 and $10."),
        ("It is\n\n$$\n\\frac{1}{2} \\le x\n$$\n\nhere.", "It is\n\n1 over 2 is at most x.\n\nhere."),
        ("Title\n=====\n\nText", "Title.\n\nText"),
        ("# Über uns {#about .big}", "Über uns."),
        ("# 標題\n\n# 제목", "標題。\n\n제목."),
        ("**Bold**, _it_, ***both***, ~~struck~~, snake_case, 2 * 3", "Bold, it, both, struck, snake_case, 2 * 3"),
        ('A [link *here*](http://a.b "Title") and ![a picture](x.png).', "A link here and a picture."),
        ("A [far link][1], [another][].\n\n[1]: http://a.b", "A far link, another."),
        ("[1]: http://a.b 'T'\n\nSee [here][1].", "See here."),
        ("[[Page|the words]] and [[Page]]", "the words and Page"),
        ("See https://www.example.org/a?b=c#d, or (http://x.y:80/).", "See example.org, or (x.y)."),
        ("<https://example.org/a> <me@example.org>", "example.org me@example.org"),
        ("参照https://example.cn/a。好", "参照example.cn。好"),
        ("Call `print(x)` and ``a`b``.", "Call print(x) and a`b."),
        ("Before\n\n```python\nx = 1\n\ny = 2\n```\n\nAfter", "Before\n\nAfter"),
        ("Before\n\n    code\n\nAfter", "Before\n\nAfter"),
        ("~~~\n```\n~~~\nAfter", "After"),
        ("- milk\n* eggs!\n+ bread:", "milk.\n\neggs!\n\nbread:"),
        ("- a\n\n- b\n  more\n\n  - c", "a.\n\nb\nmore.\n\nc."),
        ("- a\n- b\n\n- c", "a.\nb.\n\nc."),
        ("3. three\n4. four\n\nEnd", "3. three.\n4. four.\n\nEnd"),
        ("- [ ] to do\n- [x] done", "to do.\ndone."),
        ("| A | B |\n|:--|--:|\n| 1. | **2** |\n|   | x |\n\nEnd", "A, B.\n1, 2.\nx.\n\nEnd"),
        ("> One\n> two.\n>\n> Three.", "One\ntwo.\n\nThree."),
        ("> [!WARNING]\n> Hot.", "Warning. Hot."),
        ("Text[^1] and[^note].\n\n[^1]: One.\n[^note]: Two three.\n\nEnd", "Text and.\n\nEnd"),
        ("A <b>bold</b><br>line<!-- not this -->", "A bold\nline"),
        ("<!-- a\n\nb -->\n\nEnd", "End"),
        ("<div>\n<p>One &amp; two</p>\n</div>\n\n<script>\nx()\n\ny()\n</script>\n\nEnd", "One & two\n\nEnd"),
        ("---\ntitle: X\ndate: 1\n---\nText", "Text"),
        ("+++\ntitle = 1\n+++\nText", "Text"),
        ("---\n\nText\n\n---\n\nMore", "Text\n\nMore"),
        ("--- \nno: end", "no: end"),
        (r"\*not bold\* \# 1\. &copy; &lt;b&gt;", "*not bold* # 1. © <b>"),
        ("Say <|s_123|> now", "Say <|s_123|> now"),
        ('One [pause:1.5] two <break time="500ms"/> three', 'One [pause:1.5] two <break time="500ms"/> three'),
        ('One\n\n<break time="1s"/>\n\ntwo', 'One\n\n<break time="1s"/>\n\ntwo'),
        ("Two lines  \nof a verse\\\nhere", "Two lines\nof a verse\nhere"),
    ],
)
def test_signs_become_words_and_paragraphs(written: str, said: str) -> None:
    lines = [line.strip() for line in read(written).split("\n")]
    assert "\n".join(lines) == said


def arriving(pieces: Iterable[str]) -> Iterator[str]:
    """The output for a pipe that receives these pieces."""
    data = (piece.encode() for piece in pieces)
    return read_sentences(lambda _: next(data, b""), lambda: True)


WHOLE = """---
title: A
list: [1, 2]
---
# One

A plain paragraph. It has **two sentences. Or three** of them. See `a.b. C` too.
It goes on! And ends

A | B
--|--
1 | 2

- item one. More.
  wrapped

  own paragraph
- item two

```
code. Code.

code.
```

<!-- x. Y.

z -->

Setext. Title
-------------

1. one

2. two

> quote. Quote.
lazy end.

[far]: http://x.y

The *end*. Really [far][far]. Ok."""


def test_a_text_that_comes_in_pieces_has_the_same_words() -> None:
    generator = random.Random(0)
    whole = read(WHOLE).split()
    assert "code" not in whole
    for _ in range(200):
        cuts = sorted(generator.sample(range(1, len(WHOLE)), generator.randint(1, 30)))
        parts = arriving([WHOLE[begin:end] for begin, end in pairwise([0, *cuts, len(WHOLE)])])
        # A mark between "Setext." and its underline is the price of not waiting for the end of a paragraph.
        assert [word for word in read(*parts).split() if word != "."] == whole
    every = arriving(list(WHOLE))
    assert [word.strip(".") for word in read(*every).split()] == [word.strip(".") for word in whole]


def test_a_growing_pipe_is_spoken_before_the_paragraph_ends() -> None:
    taken: list[str] = []

    def pieces():
        for part in ("# Title\n\nFirst", " sentence. Next sentence. Se", "cond *one. An", "d* third.\n"):
            taken.append(part)
            yield part

    given = chunk_text(arriving(pieces()), markdown=True)
    assert next(given).text == "Title."
    assert len(taken) == 1
    assert next(given).text == "First sentence. Next sentence."
    assert len(taken) == 2
    assert [sentence for passage in given for sentence in passage.sentences] == ["Second one.", "And third."]


def test_headings_are_followed_by_a_pause_and_short_items_share_a_passage() -> None:
    given = list(chunk_text(["# Shopping\n\n- milk\n- eggs\n- bread\n\nDone."], markdown=True))
    assert [(passage.text, passage.pause_s) for passage in given] == [
        ("Shopping.", 0.0),
        ("milk. eggs. bread.", PARAGRAPH_PAUSE_S),
        ("Done.", PARAGRAPH_PAUSE_S),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "*" * 100_000,
        "[" * 20_000,
        "`a" * 50_000,
        "> " * 50_000,
        "<!-- " * 20_000,
        "x_a *b " * 20_000,
        "http://" * 30_000,
    ],
)
def test_hostile_markdown_is_read_through(text: str) -> None:
    """A quadratic rule would take many minutes here."""
    assert set(read(text)) <= set(text + " \n")


def test_a_long_markdown_file_takes_no_more_memory_than_a_page() -> None:
    def peak(blocks: int) -> int:
        tracemalloc.start()
        words = sum(len(part.split()) for part in read_markdown("A *paragraph* here.\n\n" for _ in range(blocks)))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert words == 3 * blocks
        return highest

    assert peak(50)  # imports
    assert peak(2000) < peak(200) + 10_000
