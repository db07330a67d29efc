"""Marked-up text is recognized and read as its words, however it arrives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

import pytest

from llasa_cli.errors import UsageError
from llasa_cli.text.chunker import chunk_text
from llasa_cli.text.incremental import read_sentences
from llasa_cli.text.markup import FORMATS, read_markup, sniff

PAGE = (
    "<!DOCTYPE html><html><head><title>T</title><style>p{color:red}</style><script>var a=1;</script></head>"
    "<body><h1>Head</h1><p>Hello <b>world</b>.</p></body></html>"
)
SRT = "1\n00:00:01,000 --> 00:00:03,500\nHello there.\n\n2\n00:00:04,000 --> 00:00:06,000\n<i>How are\nyou?</i>\n"
VTT = "WEBVTT - A title\n\nNOTE\na note\n\nintro\n00:01.000 --> 00:03.500 align:start\n<v Ann>Hello &amp; welcome.\n"
LICENSE = (
    "The Project Gutenberg EBook of Nights, by A. Writer\n\nThis eBook is for the use of anyone.\n\nTitle: Nights\n\n"
    "*** START OF THIS PROJECT GUTENBERG EBOOK NIGHTS ***\n\n\nProduced by Jane Doe and the Online\nTeam at http://www.pgdp.net\n\n\n"
)
LICENSE_END = (
    "\n\nEnd of Project Gutenberg's Nights\n\n*** END OF THIS PROJECT GUTENBERG EBOOK NIGHTS ***\n\n***** This file\n"
)
WIKI = (
    '<div id="mw-navigation"><h2>Menu</h2></div><main><h1>Barn</h1><a class="mw-jump-link" href="#x">Jump</a><p>A barn is a building.'
    '<sup id="cite_ref-1"><a href="#cite_note-1">[1]</a></sup><sup class="noprint">[<a href="/c">citation needed</a>]</sup></p>'
    '<div role="navigation">Contents</div><h2>History<span class="mw-editsection">[<a href="e">edit</a>]</span></h2><p>It evolved.</p>'
    '<h2>Notes</h2><ol><li id="cite_note-1"><b><a href="#cite_ref-1">^</a></b> Smith, p. 5.</li><li>After it, page 5.</li></ol></main>'
)
SITE = (
    '<a class="skip-link" href="#m">Skip</a><form role="search"><label>Search</label></form><div id="cookie-banner"><p>We use cookies.</p>'
    '</div><div class="breadcrumbs">Home</div><header><h1>Title</h1></header><p>By Jane.</p><p>Text.</p><div class="share"><a href="t">Tweet</a>'
    '</div><dialog>Popup</dialog><details><summary>Details.</summary>More.</details><footer class="site-footer">© 2026</footer>'
)
PAPER = (
    '<html><body><aside>Links.</aside><main><h1>Title</h1><article><p>Text.</p><aside>Tip.</aside><div class="pullquote">Text.</div>'
    '<section id="social-history"><h2 id="social">Social</h2><p>Text.</p></section></article></main><aside><p>Ad</p></aside>'
    "<footer>© 2026</footer><article>More.</article></body></html>"
)
HANDBOOK = (
    '<h1>Handbook</h1><h2>Contents</h2><ul><li><a href="#a">One</a><ul><li><a href="#c">In</a></li></ul></li></ul><table><tr><td>'
    '<a href="#a">CHAPTER I.</a></td><td>One</td></tr><tr><td>Two</td><td><a href="#page12">12</a></td></tr></table><p>See <a href="#a">part a</a>.</p>'
    '<table><tr><td>A</td><td><a href="#a">1</a></td></tr></table><h2 id="a"><a href="#a">One</a></h2><p>Text.<sup><a href="#n">12</a></sup></p>'
    '<p><a href="#top">Back to top</a></p><h2><a href="#c">Two</a></h2><p>Text.</p>'
)
OFFICE = (
    "<table><tr><td><p>Year</p></td><td><div><p>Sales</p></div></td></tr><tr><td><p>2020.</p></td>\n<td>\n<p>$5</p>\n</td></tr></table>"
    "<table><tr><td><h1>Digest</h1><p>Hi Anna.</p><p>The news</p></td></tr><tr><td>One<p>Two</p>three</td></tr></table>"
)
OWL = (
    '<p>Owls (<i>Tyto</i>; <span class="IPA">/x/</span>) fly (<span class="ipa">/y/</span>).</p><figure><img alt="owl"><figcaption>An owl</figcaption>'
    '</figure><img alt="A hen"><p>Hens <a href="/x">unsubscribe</a>. <a href="/x">Unsubscribe</a></p><div id="p-lang" class="mw-portlet">Deutsch</div><p><a href="/y">Read more →</a></p>'
    '<div class="section" id="comments"><h2>Comments</h2><p>Text.</p></div><div id="comments">First!</div><h3>Now<a href="#n">¶</a></h3>'
)
MATHS = (
    '<p>It is <math alttext="E=mc^2"><mi>E</mi></math>, <span class="katex"><math><semantics><mi>x</mi><annotation encoding="application/x-tex">x^2'
    '</annotation></semantics></math><i aria-hidden="true">x2</i></span>, <span style="display: none"><math alttext="y"><mi>y</mi></math></span>'
    '<img alt="{\\displaystyle y^{2}}"> or \\(z^2\\). <math><mi>q</mi></math> So.</p>'
)
WORD = (
    '<p>It ended.<a href="#_ftn1" name="_ftnref1"><span class=MsoFootnoteReference>[1]</span></a> He won.</p><p>So.</p><div>'
    '<p class=MsoFootnoteText><a href="#_ftnref1" name="_ftn1">[1]</a> A note.</p></div><div class="footnotes"><p>Another.</p></div>'
)


@pytest.mark.parametrize(
    ("text_format", "written", "words"),
    [
        ("html", PAGE, "Head. Hello world."),
        ("html", "<p>Hello <b>world</b>, it&#39;s &quot;nice&quot; &amp; done.</p>", 'Hello world, it\'s "nice" & done.'),
        ("html", "One<br>two<br/>three", "One two three"),
        ("html", "<ul><li>milk</li><li>eggs!</li></ul><p>End</p>", "milk. eggs! End"),
        ("html", "<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table>", "A, B. 1, 2."),
        ("html", "<table><tr><td> A </td>\n<td><b>B</b> </td></tr></table>", "A, B."),
        ("html", "<table><tr><th>A<th>B<tr><td>1<td>2</table><ul><li>one<li>two</ul>", "A, B. 1, 2. one. two."),
        ("html", "<div>Not <!-- this --> that<script>x()</script></div>", "Not that"),
        ("html", '<p>A <a href="http://x.y/z">link</a> and <img src="p.png" alt="a picture">.</p>', "A link and a picture ."),
        ("html", "<p>He won.<sup>[1]</sup> Then m<sup>2</sup></p>", "He won.¹ Then m²"),
        ("html", '<p>A word<sup><a href="#1">1</a></sup> here, the 4<sup>th</sup></p>', "A word here, the 4th"),
        ("html", WIKI, "Barn. A barn is a building. History. It evolved. Notes. After it, page 5."),
        ("html", SITE, "Title. By Jane. Text. Details. More."),
        ("html", '<p>One<span class="pagenum">[12]</span> two, see <a href="#page5">5</a>.</p>', "One two, see 5."),
        ("html", WORD, "It ended. He won. So."),
        ("html", "<ol start=3><li>Open<li>Go in<ul><li>milk</ul><ol type=a><li>x<li>y</ol></ol><p>So.", "3. Open. 4. Go in milk. a. x. b. y. So."),
        ("html", "<ol type=I><li><p>A b.</p><p>C.</p><li value=9>D<li></ol>", "I. A b. C. IX. D."),
        ("html", "<ol reversed><li>A<ol reversed><li>x</ol><li>B</ol><ol reversed start=9><li>C</ol>", "2. A 1. x. 1. B. 9. C."),
        ("html", "<ol reversed><li>A<ol reversed><li>B", "1. A 1. B"),
        ("html", "<ol class=list-unstyled><li>A</ol><ol style='list-style: none'><li>B</ol><ol><li>1. C<li>2) D</ol>", "A. B. 1. C. 2) D."),
        ("html", '<ol style="list-style-type: lower-roman"><li hidden>A</li><li></li><li>B</li></ol><li>C</li>', "ii. B. C."),
        ("html", OFFICE, "Year, Sales. 2020. $5. Digest. Hi Anna. The news One Two three."),
        ("html", OWL, "Owls (Tyto) fly. An owl. A hen Hens unsubscribe. Comments. Text. Now."),
        ("html", MATHS, "It is E = mc squared, x squared, y squared or z squared. So."),
        ("html", "<div class=masthead>Blog</div><div class='highlight-sh'><pre>x</pre></div><p class=highlight>So.</p><div class=footer>©</div>", "So."),
        ("html", PAPER, "Title. Text. Tip. Social. Text. More."),
        ("html", "<html><aside>Links.</aside><p>Text.</p><blockquote>Q<footer>Bob</footer></blockquote></html>", "Text. Q Bob"),
        ("html", f"<html><pre>{LICENSE}</pre><p>It was [5] dark.</p><pre>{LICENSE_END}</pre>", "It was [5] dark."),
        ("plain", f"{LICENSE}It was _very_ dark.\n\n[Illustration]\n\nHe\nslept.{LICENSE_END}", "It was very dark. He slept."),
        ("plain", "A word.[A] [B]\n\n[Footnote A: See the\n\nlast page.]\n\n[Illustration: _The cat_]\n\n[Pg 12] On.", "A word. [B] The cat On."),
        ("plain", "_The door opens. He\ncomes in._ Use snake_case and ¯\\_(ツ)_/¯.", "The door opens. He comes in. Use snake_case and ¯\\_(ツ)_/¯."),
        ("plain", "Project Gutenberg is a library. It has books.", "Project Gutenberg is a library. It has books."),
        ("html", "<nav><ul><li>Home</li></ul></nav><p>Text</p><button>Send</button><noscript>No</noscript>", "Text"),
        ("html", "<div hidden><div>a</div>b</div><p aria-hidden=true>c<p>d<i style='display: none'>e</i></p>", "d"),
        ("html", "<div hidden/><p>Text<img hidden alt=x><br hidden> goes on</p>", "Text goes on"),
        ("html", "<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>字<pre><code>x = 1</code></pre><pre>a poem</pre>", "漢字 a poem"),
        ("html", '<p>One <break time="1s"/> two</p>', 'One <break time="1s"/> two'),
        (
            "ssml",
            '<speak>Hello <emphasis level="strong">big</emphasis> <lang xml:lang="de">world</lang>.</speak>',
            "Hello big world.",
        ),
        ("ssml", '<?xml version="1.0"?>\n<speak><s>One</s><s>Two</s><break time="1s"/></speak>', 'One. Two. <break time="1s"/>'),
        ("ssml", '<speak>The <sub alias="World Wide Web Consortium">W3C</sub> met.</speak>', "The World Wide Web Consortium met."),
        ("ssml", "<speak><p>Tom &amp; Ann</p></speak>", "Tom & Ann"),
        ("ssml", "<speak><p><![CDATA[a < b]]></p></speak>", "a < b"),
        ("ssml", '<speak><say-as interpret-as="characters">WC2</say-as> is <say-as interpret-as="ordinal">12</say-as></speak>', "W C 2 is 12th"),
        ("ssml", '<speak>Call <say-as interpret-as="telephone">555-01</say-as>.</speak>', "Call 5 5 5 0 1 ."),
        ("plain", "12/03/2024, 14:05 - Bob: ok\n12/03/2024, 14:06 - Anna: see you\n", "Bob: ok Anna: see you"),
        ("plain", "[12/03/24, 14:05:12] Bob: ok\n[12/03/24, 2:06:00 PM] Anna: see you\n", "Bob: ok Anna: see you"),
        ("plain", "[14:05] <bob> hi all\n<anna> hey 5 < 6\n", "bob: hi all anna: hey 5 < 6"),
        ("plain", "00:00:12 Speaker 1: Hello.\nSpeaker 2 (00:15): Hi.\n", "Speaker 1: Hello. Speaker 2: Hi."),
        ("plain", "Speaker 1  0:03\nHello there everyone.\n", "Speaker 1 Hello there everyone."),
        (
            "plain",
            "diff --git a/f b/f\nindex 83db48f..bf2a0c1 100644\n--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@ def f\n-old\n+new.\n same\n",
            "Removed: old. Added: new. same",
        ),
        ("plain", "- one\n+ two\n--- a dash\n", "- one + two --- a dash"),
        ("plain", r"We \textbf{add \emph{5}\%}, see Table~\ref{t} \cite[p. 3]{k}.", "We add 5%, see Table."),
        ("plain", "\\section{Method}\n\\begin{itemize}\n\\item One.\n\\end{itemize}\nC:\\item\\text{", "Method. - One. C:\\item\\text{"),
        ("plain", "+----+---+\n| A  | B |\n+----+---+\n| Bob | 5 |\n+====+===+\n", "A, B. Bob, 5."),
        ("plain", "┌────┬───┐\n│ A  │ B │\n├────┼───┤\n│ Bob │ 5 │\n└────┴───┘\n", "A, B. Bob, 5."),
        ("plain", "Name\tAge\nBob\t5\n1.\tMix\n", "Name, Age Bob, 5 1. Mix"),
        ("plain", "the end\n\n- 12 -\n\nof it\n\nPage 3 of 10\n\nmore", "the end of it more"),
        ("plain", "> On Monday:\n> > hello\n> x > 5\n\nMine.", "On Monday: hello x > 5 Mine."),
        ("plain", "The area is $A = \\pi r^2$, it costs $5 or $10.", "The area is A = pi r squared, it costs $5 or $10."),
        ("srt", SRT, "Hello there. How are you?"),
        ("srt", VTT, "Hello & welcome."),
        ("srt", "1\n00:00:01,000 --> 00:00:02,000\n{\\an8}- Go!\n\n2\n00:00:02,000 --> 00:00:03,000\n42\n", "Go! 42"),
        ("srt", "1\n0:00:01,0 --> 0:00:02,0\n[door slams]\n- (SIGHS) MARY: I see (not him).\n(laughs)\n[pause:1] So\n♪ La ♪\nSubtitles by Ann\nSynced and corrected by Bob\nwww.OpenSubtitles.org\n", "MARY: I see (not him). [pause:1] So La"),
        ("srt", "1\n00:00:01,000 --> 00:00:02,000\nHi.\n2\n00:00:03,000 --> 00:00:04,000\nBye.\n42\n", "Hi. Bye. 42"),
        ("srt", "1\n00:00:01,000 --> 00:00:02,000\n>> ANN: 1 < 2 and 3 > 2.\n<c.a>Yes</c> <00:00:01.500><ruby>漢<rt>kan</rt></ruby>\n", "ANN: 1 < 2 and 3 > 2. Yes 漢"),
        ("srt", "{1}{1}23.976\n{10}{25}Hello there.\n{30}{60}{y:i}How are|you?\n", "Hello there. How are you?"),
        ("srt", "[Script Info]\n\n[Events]\nDialogue: 0,1,2,D,,0,0,0,,{\\p1}m 0 0 l 9 0{\\p0}Hi\nDialogue: 0,3,4,D,,0,0,0,,{\\an7\\p1}m 0\n", "Hi"),
        ("srt", "0:00:01.000,0:00:03.000\nHello there.\n\n0:00:04.000,0:00:05.000\nBye.\n", "Hello there. Bye."),
        (
            "srt",
            "[Script Info]\nTitle: x\n\n[V4+ Styles]\nStyle: Default,Arial\n\n[Events]\nFormat: Layer, Start, Text\n"
            "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\i1}Hello, you,\\Nthere{\\i0}.\nComment: 0,,,,,,,,,no\n",
            "Hello, you, there.",
        ),
        ("markdown", "### Steps\n\n1. **Open** the door\n2. Go _in_\n\n> A quote", "Steps. 1. Open the door. 2. Go in. A quote"),
        ("markdown", "Sure! See [the page](https://x.y/z).", "Sure! See the page."),
        ("markdown", "Text\n\n```python\nx = 1\n```\n\nEnd", "Text End"),
        ("plain", "==== important ====", "important"),
        ("plain", "[ar:Ann]\n[00:12.50]Hello\n[00:15.20][00:40.10]there <00:41.10>you", "Hello there you"),
        ("plain", "The cafÃ© isnâ€™t Â£5 â€” Ã\x89, Âge, “MANHÔ, “Ô", "The café isn’t £5 — É, Âge, “MANHÔ, “Ô"),
        ("plain", "Title\n=====\nText", "Title Text"),
        ("plain", "<<quoted>> words", "quoted words"),
        ("plain", "AT&amp;T &mdash; it&#39;s", "AT&T — it's"),
        ("plain", "Chapter 1 ........ 5", "Chapter 1, 5"),
        ("plain", "Soup .... 5\nBread .... 3\nWine .... 12", "Soup, 5 Bread, 3 Wine, 12"),
        ("plain", "A\nPreface ..... v\n1 One . . . . . 1\n1.1 A title that\ngoes on ___________ 3\n2 End …… 10\nOne\nB", "A One B"),
        ("plain", "Contents\n\nOne\t1\nTwo   12\nThree\t30\n\nIt was.", "It was."),
        ("plain", "CONTENTS\n\n CHAPTER I.   The Pool\n CHAPTER II.  Tears\n PREFACE\n\n\n\nCHAPTER I.\nThe Pool\n\nAnn", "CHAPTER I. The Pool Ann"),
        ("plain", "Contents\nPART ONE\nI. Boy\nII. Man\nPART TWO\nI. Girl\nPART ONE\nI. Boy", "PART ONE I. Boy"),
        ("plain", "Contents\n1 screwdriver\n2 screws\n4 bolts", "Contents 1 screwdriver 2 screws 4 bolts"),
        ("plain", "It works [1, 2], [5]-[7] in [0, 1] as [12].\n\nREFERENCES\n\n[1] A. B,\nin C.\n[2] D.\n[3] E.\n\nThe end.", "It works in [0, 1] as. The end."),
        ("plain", "Take [0, 1] and a[2].\n\nReferences\n\n[1] A.\n[2] B.", "Take [0, 1] and a[2]. References [1] A. [2] B."),
        ("plain", "a\nb\nc\nd\ne    5\n\nf\ng\nh\ni\nj   10\nk", "a b c d e f g h i j k"),
        ("plain", "Apples   5\nPears   10\nFigs   15", "Apples 5 Pears 10 Figs 15"),
        ("plain", "It was dark.[1] See [2]\nand a[3].\n\n[1] So to\nsay.\n\n[2] B.\n\nThe end.", "It was dark. See [2] and a[3]. [2] B. The end."),
        ("plain", "One.\n12\n\f\n13\nTwo.\n\nPage 2\n\n\fIn 5 days.\n14\n", "One. Two. In 5 days. 14"),
        ("markdown", "# A\n\n![Plot](p.png){width=50%} as shown [@doe99, p. 3; @roe] by [@bob](x.y).", "A. Plot as shown by @bob."),
        ("html", HANDBOOK, "Handbook. See part a. A. One. Text. Two. Text."),
        ("markdown", "# A\n\n## Table of Contents\n\n1. [One](#one)\n   - [`in`](#in)\n2. [Two](#two), and\n\n## One\n\n[More](#two)", "A. 2. Two, and. One. More"),
        ("plain", "\x1b[1mBold\x1b[0m hello \x1b[31mred\x1b[0m.", "Bold hello red."),
        ("plain", "A \x1b]8;;http://x.y\x07link\x1b]8;;\x07.", "A link."),
        ("plain", "┌──┐\n│ a │\n└──┘", "a"),
        ("plain", "2 * 3 * 4, snake_case, a < b, x > y, Q&A, 1. one", "2 * 3 * 4, snake_case, a < b, x > y, Q&A, 1. one"),
        ("plain", "- milk\n- eggs", "- milk - eggs"),
        ("plain", "#hashtag and C# and #1", "#hashtag and C# and #1"),
        ("plain", "Tom & Ann <tom@x.org>", "Tom & Ann <tom@x.org>"),
        ("plain", "Say <|s_123|> [pause:1] now", "Say <|s_123|> [pause:1] now"),
    ],
)  # fmt: skip
def test_each_format_is_recognized_and_read_as_its_words(text_format: str, written: str, words: str) -> None:
    assert sniff(written.replace("\x1b", "")) == text_format
    assert said(read_markup([written])) == words
    assert said(read_markup([written], text_format)) == words
    if text_format != "plain":
        assert said(read_markup(list(written), text_format)) == words, "torn at every character"
        assert said(read_markup(arriving(written))) == words, "in a pipe"


def said(parts: Iterator[str]) -> str:
    return " ".join("".join(parts).split())


def arriving(text: str) -> Iterator[str]:
    """The parts that a pipe gives when it gets a text character by character."""
    data = iter([bytes([byte]) for byte in text.encode()] + [b""])
    return read_sentences(lambda _: next(data), lambda: True)


def test_markdown_that_begins_late_is_recognized_where_it_begins() -> None:
    parts = iter(["Sure! Here are the steps.\n\n", "## One\n\n", "**Open** it.\n\n"])
    read = read_markup(parts)
    assert next(read).strip() == "Sure! Here are the steps."
    assert said(read) == "One. Open it."


def test_a_document_in_latex_is_refused_with_the_line_that_converts_it() -> None:
    with pytest.raises(UsageError, match="is LaTeX"):
        list(read_markup(["% draft\n\\documentclass{article}\n"]))
    assert "".join(read_markup(["\\documentclass{article}"], "plain")) == "\\documentclass{article}"


def test_a_plain_part_is_given_before_the_next_is_asked_for() -> None:
    taken: list[int] = []

    def parts() -> Iterator[str]:
        for number in range(3):
            taken.append(number)
            yield f"Sentence {number}. "

    read = read_markup(parts())
    assert next(read) == "Sentence 0. "
    assert taken == [0]


def test_a_terminal_code_torn_between_parts_is_removed() -> None:
    assert said(read_markup(["A \x1b", "[3", "1mred\x1b[", "0m end."])) == "A red end."


@pytest.mark.parametrize(
    "text", ["<" * 50_000, "&" * 50_000, "<p>" * 30_000, "=" * 100_000, "1\n" * 30_000, "**a" * 30_000]
)
def test_hostile_markup_is_read_through(text: str) -> None:
    for text_format in FORMATS:
        if text_format != "markdown" and not (text_format == "auto" and sniff(text) == "markdown"):
            with suppress(UsageError):
                list(read_markup([text], text_format))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of auto, plain"):
        read_markup([], "rtf")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('<speak>A. <voice name="Ann">B. <voice name="Bob">C.</voice> D.</voice> E.</speak>',
         [("A.", "", 1), ("B.", "Ann", 1), ("C.", "Bob", 1), ("D.", "Ann", 1), ("E.", "", 1)]),
        ('<speak><p><voice name="Ann">A.</voice></p><p>B.</p></speak>', [("A.", "Ann", 1), ("B.", "", 1)]),
        ('<speak>A. <prosody rate="80%">B. <prosody rate="fast">C.</prosody></prosody> D.</speak>',
         [("A.", "", 1), ("B.", "", 0.8), ("C.", "", 1), ("D.", "", 1)]),
        ('<speak><prosody rate="-20%">A.</prosody><prosody rate="1.5">B.</prosody></speak>', [("A.", "", 0.8), ("B.", "", 1.5)]),
        ('<speak><prosody pitch="high">A.</prosody></speak>', [("A.", "", 1)]),
    ],
)  # fmt: skip
def test_ssml_chooses_voices_and_speeds(written: str, expected: list[tuple[str, str, float]]) -> None:
    chunks = chunk_text(read_markup([written]), 100)
    assert [(chunk.text, chunk.voice, chunk.speed) for chunk in chunks] == expected


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("<speak>\n  <audio src='x'/></speak>", "Line 2, column 3: <audio> is not read"),
        ("<speak><b>A</b></speak>", "Line 1, column 8: <b> is not read"),
        ("<speak><sub>A</sub></speak>", "<sub> has no alias"),
        ("<speak><voice>A</voice></speak>", "<voice> has no name"),
        ('<speak><prosody rate="400%">A</prosody></speak>', 'rate="400%"> is out of range'),
        ('<speak><prosody rate="quick">A</prosody></speak>', 'rate="quick"> is not a rate'),
        ('<speak><say-as interpret-as="song">A</say-as></speak>', 'interpret-as="song"> is not known'),
        ("<speak><p>A</speak>", "</speak> closes nothing; <p> is open"),
        ("<speak><p>A</p>", "<speak> is not closed"),
    ],
)
def test_ssml_that_is_not_understood_is_refused_with_its_place(written: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        list(read_markup([written], "ssml"))
