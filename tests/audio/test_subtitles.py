"""Subtitles: what players read, when each sentence is said, and a file that is complete or absent."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from llasa_cli.audio.side_file import SpokenPart
from llasa_cli.audio.subtitles import MAX_MS, MIN_MS, SubtitleFile, format_timestamp
from llasa_cli.audio.word_file import WordFile
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.text.spoken_words import WordTime

ENTRY = re.compile(r"(\d\d+):(\d\d):(\d\d)[,.](\d{3}) --> (\d\d+):(\d\d):(\d\d)[,.](\d{3})\n((?:.+\n)+)")


def entries(text: str) -> list[tuple[int, int, str]]:
    """(begin, end in ms, text) as a player reads them: by blank lines."""
    found = []
    for block in text.split("\n\n"):
        block = block.removeprefix("WEBVTT").strip("\n")
        if not block:
            continue
        match = ENTRY.fullmatch(re.sub(r"\A\d+\n", "", block) + "\n")
        assert match, block
        h, m, s, ms, h2, m2, s2, ms2 = map(int, match.groups()[:8])
        found.append((((h * 60 + m) * 60 + s) * 1000 + ms, ((h2 * 60 + m2) * 60 + s2) * 1000 + ms2, match[9].strip()))
    return found


def test_srt_is_exactly_what_players_expect(tmp_path: Path) -> None:
    with SubtitleFile(tmp_path / "a.srt") as subtitles:
        subtitles.add(SpokenPart(["One two.", "Thr fou."], 0.5, 2.5))
        subtitles.add(SpokenPart(["五。"], 3700, 3701.2345))
    assert (tmp_path / "a.srt").read_bytes() == (
        "1\n00:00:00,500 --> 00:00:01,500\nOne two.\n\n"
        "2\n00:00:01,500 --> 00:00:02,500\nThr fou.\n\n"
        "3\n01:01:40,000 --> 01:01:41,234\n五。\n\n"
    ).encode()
    assert os.listdir(tmp_path) == ["a.srt"]


def test_vtt_is_exactly_what_browsers_expect(tmp_path: Path) -> None:
    with SubtitleFile(tmp_path / "a.VTT") as subtitles:
        subtitles.add(SpokenPart(["Say <|s_1|> & --> go."], 0, 1))
    assert (tmp_path / "a.VTT").read_text(encoding="utf-8") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nSay &lt;|s_1|&gt; &amp; --&gt; go.\n\n"
    )


def test_sentences_share_the_time_by_their_spoken_length(tmp_path: Path) -> None:
    with SubtitleFile(tmp_path / "a.srt") as subtitles:
        subtitles.add(SpokenPart(["abcdefghij" * 3, "一二三四五六七八九十"], 10, 12))
    assert [entry[:2] for entry in entries((tmp_path / "a.srt").read_text())] == [(10000, 11000), (11000, 12000)]


@pytest.mark.parametrize("ending", ["srt", "vtt"])
def test_cues_never_overlap_and_last_as_long_as_they_may(tmp_path: Path, ending: str) -> None:
    generator = random.Random(1)
    words: list[str] = []
    with SubtitleFile(tmp_path / f"a.{ending}") as subtitles:
        at = 0.0
        for _ in range(300):
            end = at + generator.choice([0.1, 0.5, 3, 20])
            sentences = [f"{'x' * generator.randint(1, 60)} y{len(words)}" for _ in range(generator.randint(0, 4))]
            words += [word for sentence in sentences for word in sentence.split() if word[0] == "y"]
            subtitles.add(SpokenPart(sentences, at, end))
            at = end + generator.choice([0, 0.3, 2])
    found = entries((tmp_path / f"a.{ending}").read_text())
    assert all(MIN_MS <= end - begin <= MAX_MS for begin, end, _ in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    assert all(text.count("\n") <= 1 and max(map(len, text.split("\n"))) <= 42 for _, _, text in found)
    assert [word for _, _, text in found for word in text.split() if word[0] == "y"] == words


def test_times_that_make_no_sense_give_cues_in_order(tmp_path: Path) -> None:
    with SubtitleFile(tmp_path / "a.srt") as subtitles:
        for begin, end in ((0, 0), (5, 4), (1, 1.0001), (0, 9)):
            subtitles.add(SpokenPart(["A sentence of some length.", "Another one, which is not short."], begin, end))
    found = entries((tmp_path / "a.srt").read_text())
    assert all(begin < end for begin, end, _ in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))


def test_short_sentences_share_a_cue_with_their_neighbor(tmp_path: Path) -> None:
    with SubtitleFile(tmp_path / "a.srt") as subtitles:
        subtitles.add(SpokenPart(["No.", "Yes, of course I will."], 0, 2))
        subtitles.add(SpokenPart(["Oh."], 9, 9.3))
    assert entries((tmp_path / "a.srt").read_text()) == [(0, 2000, "No. Yes, of course I will."), (9000, 9800, "Oh.")]


def test_turns_of_two_voices_do_not_share_a_cue(tmp_path: Path) -> None:
    with SubtitleFile(tmp_path / "a.srt") as subtitles:
        for begin, text, voice in [(0, "No.", "Anna"), (0.9, "Why?", "Bob"), (1.8, "So.", "Bob"), (2.7, "Oh.", "")]:
            subtitles.add(SpokenPart([text], begin, begin + 0.4, voice=voice))
    assert [text for _, _, text in entries((tmp_path / "a.srt").read_text())] == ["No.", "Why? So.", "Oh."]


@pytest.mark.parametrize("ending", ["srt", "vtt"])
@pytest.mark.parametrize(
    "text",
    [
        "a\n\nb",
        "a\r\rb",
        "a\0\x1bb",
        "a \u2028\u2029\x85 b",
        "1\n00:00:00,000 --> 00:00:01,000\nno",
        "\ud800 x",
        "WEBVTT",
    ],
)
def test_no_text_is_mistaken_for_a_cue(tmp_path: Path, ending: str, text: str) -> None:
    path = tmp_path / f"a.{ending}"
    with SubtitleFile(path) as subtitles:
        subtitles.add(SpokenPart([text], 0, 2))
        subtitles.add(SpokenPart([" \n "], 2, 3))
        subtitles.add(SpokenPart(["After."], 3, 5))
    found = entries(path.read_text(encoding="utf-8").replace("&gt;", ">"))
    assert len(found) == 2
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", found[0][2])
    assert len(re.findall("-->", path.read_text(encoding="utf-8"))) == 2


def test_long_sentences_become_several_cues_of_two_lines_and_lose_nothing(tmp_path: Path) -> None:
    sentences = ["word " * 30 + "end.", "short one.", "漢字" * 40, "x" * 100, "a " + "x" * 100]
    with SubtitleFile(tmp_path / "a.srt") as subtitles:
        subtitles.add(SpokenPart(sentences, 0, 60))
    cues = entries((tmp_path / "a.srt").read_text(encoding="utf-8"))
    lines = [line for _, _, text in cues for line in text.split("\n")]
    assert "".join(lines).replace(" ", "") == "".join(sentences).replace(" ", "")
    assert all(len(line) <= (21 if line[0] == "漢" or line[0] == "字" else 42) for line in lines)
    assert all(end - begin <= MAX_MS for begin, end, _ in cues)
    first, second = cues[0][2].split("\n")
    assert abs(len(first) - len(second)) <= 6


@pytest.mark.parametrize("name", ["a.txt", "srt", "no/a.srt", "folder.srt"])
def test_a_path_that_can_not_be_written_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.srt").mkdir()
    with pytest.raises(UsageError):
        SubtitleFile(tmp_path / name)
    assert os.listdir(tmp_path) == ["folder.srt"]


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("old")
    with pytest.raises(RuntimeError), SubtitleFile(tmp_path / "a.srt") as subtitles:
        subtitles.add(SpokenPart(["Half."], 0, 1))
        raise RuntimeError
    assert os.listdir(tmp_path) == ["a.srt"]
    assert (tmp_path / "a.srt").read_text() == "old"


def test_without_a_sentence_there_is_no_file(tmp_path: Path) -> None:
    with SubtitleFile(tmp_path / "a.vtt") as subtitles:
        subtitles.add(SpokenPart([], 0, 1))
        subtitles.add(SpokenPart(["  "], 1, 2))
    assert os.listdir(tmp_path) == []


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.srt").write_text("old")
    (tmp_path / "link.srt").symlink_to("real.srt")
    with SubtitleFile(tmp_path / "link.srt") as subtitles:
        subtitles.add(SpokenPart(["New."], 0, 1))
    assert (tmp_path / "link.srt").is_symlink()
    assert "New." in (tmp_path / "real.srt").read_text()


@pytest.mark.parametrize("sentences", [10, 5000])
def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path: Path, sentences: int) -> None:
    """A limit on the file size fails like a full disk, in the middle or at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(LlasaError, match=r"a\.srt can't be written"), SubtitleFile(tmp_path / "a.srt") as subtitles:
            for number in range(sentences):
                subtitles.add(SpokenPart([f"Sentence {number}."], number, number + 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert os.listdir(tmp_path) == []


def test_a_book_of_subtitles_is_written_as_it_goes(tmp_path: Path) -> None:
    tracemalloc.start()
    with SubtitleFile(tmp_path / "book.vtt") as subtitles:
        for number in range(3_000):
            subtitles.add(SpokenPart(["A sentence of the book.", "And another one."], number * 2, number * 2 + 1.9))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    assert (tmp_path / "book.vtt").stat().st_size > 200_000
    assert (
        (tmp_path / "book.vtt")
        .read_text()
        .endswith("01:39:58.000 --> 01:39:59.900\nA sentence of the book. And another one.\n\n")
    )


def test_timestamps() -> None:
    assert format_timestamp(0, ",") == "00:00:00,000"
    assert format_timestamp(3_723_004, ".") == "01:02:03.004"
    assert format_timestamp(360_000_000, ",") == "100:00:00,000"


TIMES = [
    WordTime("Good", 0.1, 0.4),
    WordTime("evening,", 0.4, 0.9),
    WordTime("all.", 1.5, 1.9),
    WordTime("Bye!", 2.0, 2.2),
]
SENTENCES = ["Good evening, all.", "Bye!"]


@pytest.mark.parametrize(
    ("words_per_cue", "cues"),
    [
        (1, [(1100, 1400, "Good"), (1400, 1900, "evening,"), (2500, 3000, "all."), (3000, 3200, "Bye!")]),
        (2, [(1100, 1900, "Good evening,"), (2500, 3000, "all."), (3000, 3200, "Bye!")]),
        (9, [(1100, 3000, "Good evening, all."), (3000, 3200, "Bye!")]),
    ],
)
def test_cues_of_words_have_their_times_and_end_with_the_sentence(
    tmp_path: Path, words_per_cue: int, cues: list[tuple[int, int, str]]
) -> None:
    with SubtitleFile(tmp_path / "a.srt", words_per_cue) as subtitles:
        subtitles.add(SpokenPart(SENTENCES, 1.0, 3.5, TIMES))
    assert entries((tmp_path / "a.srt").read_text()) == cues


def test_cues_of_words_never_overlap(tmp_path: Path) -> None:
    same = [WordTime(f"w{number}", 0.5, 0.5) for number in range(5)]
    with SubtitleFile(tmp_path / "a.vtt", 1) as subtitles:
        subtitles.add(SpokenPart(["w0 w1 w2 w3 w4"], 0, 1, same))
        subtitles.add(SpokenPart(["漢字"], 1, 2, [WordTime("漢", 0, 0.5), WordTime("字", 0.5, 1)]))
    found = entries((tmp_path / "a.vtt").read_text(encoding="utf-8"))
    assert len(found) == 7
    assert all(begin < end for begin, end, _ in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))


def test_word_times_are_json_of_the_whole_sound(tmp_path: Path) -> None:
    estimated = [WordTime('"x"', 0.0, 0.5, True)]
    with WordFile(tmp_path / "a.json") as file:
        file.add(SpokenPart(SENTENCES, 1.0, 3.5, TIMES))
        file.add(SpokenPart([], 3.5, 4))
        file.add(SpokenPart(['"x"'], 4.0, 5.0, estimated))
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["estimated"] is True
    assert found["words"][2] == {"word": "all.", "begin_s": 2.5, "end_s": 2.9, "sentence": 0}
    assert found["words"][-1] == {"word": '"x"', "begin_s": 4.0, "end_s": 4.5, "sentence": 2, "estimated": True}
    assert [row["sentence"] for row in found["words"]] == [0, 0, 0, 1, 2]
