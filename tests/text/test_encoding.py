"""Encodings of short files are found, and files that are not text are named for what they are."""

from __future__ import annotations

import io
import unicodedata
import zipfile
from contextlib import suppress

import pytest

from llasa_cli.errors import UsageError
from llasa_cli.text.encoding import detect_encoding, open_text
from llasa_cli.text.incremental import read_sentences


def read(data: bytes) -> tuple[str, str]:
    """-> (text, warning)"""
    encoding = detect_encoding(lambda: io.BytesIO(data), "list.txt")
    with open_text(lambda: io.BytesIO(data), encoding) as file:
        return file.read(), encoding.warning


@pytest.mark.parametrize(
    ("text", "encoding", "label"),
    [
        ("It was late – very late. “Stop,” he said, it’s 5.", "cp1252", "Windows-1252"),
        ("He said it’s late.", "cp1252", "Windows-1252"),
        ("It costs £5.", "cp1252", "Windows-1252"),
        ("L’été dernier, nous sommes allés à la mer. Où êtes-vous ?", "cp1252", "Windows-1252"),
        ("Die Straße führt über den Fluss.", "cp1252", "Windows-1252"),
        ("DIE STRASSE FÜHRT ÜBER DIE BRÜCKE.", "cp1252", "Windows-1252"),
        ("¿Dónde está el niño? ¡Qué bonito!", "cp1252", "Windows-1252"),
        ("På gaden bor der en pige. Hun er så glad for øl og æbler.", "cp1252", "Windows-1252"),
        ("We met at the café.", "latin-1", "Windows-1252"),
        ("Zażółć gęślą jaźń. Dzień dobry, jak się masz?", "cp1250", "Windows-1250"),
        ("Příliš žluťoučký kůň úpěl.", "cp1250", "Windows-1250"),
        ("Příliš žluťoučký kůň úpěl.", "iso8859_2", "ISO 8859-2"),
        ("Bugün hava çok güzel, değil mi? İyi akşamlar.", "cp1254", "Windows-1254"),
        ("Добрый день, как дела? Сегодня хорошая погода.", "cp1251", "Windows-1251"),
        ("Добрый день, как дела? Сегодня хорошая погода.", "koi8_r", "KOI8-R"),
        ("Добрый день, как дела?", "cp866", "866"),
        ("Учора я їздив до Києва.", "koi8_u", "KOI8-U"),
        ("Добрый день, как дела? Сегодня хорошая погода.", "iso8859_5", "ISO 8859-5"),
        ("Добрый день, как дела? Сегодня хорошая погода.", "mac_cyrillic", "Mac Cyrillic"),
        ("אתמול נסעתי לירושלים. מזג האוויר היה יפה.", "cp1255", "Windows-1255"),
        ("ذهبت أمس إلى القاهرة. كان الطقس جميلا.", "cp1256", "Windows-1256"),
        ("เมื่อวานฉันไปกรุงเทพ อากาศดีมาก", "cp874", "Windows-874"),
        ("Wczoraj pojechałem do Łodzi, powiedział żołnierz.", "cp852", "code page 852"),
        ("Cela coûte 5 €, c’est déjà l’été à Paris.".replace("’", "'"), "iso8859_15", "ISO 8859-15"),
        ("昨日、東京へ行きました。", "iso2022_jp", "ISO-2022-JP"),
        ("Καλημέρα, τι κάνετε;", "cp1253", "Windows-1253"),
        ("L’été dernier, nous sommes allés à la mer.", "mac_roman", "Mac Roman"),
        ("Die Straße führt über den Fluß.", "cp850", "850"),
        ("Le cœur a ses raisons.", "iso8859_15", "ISO 8859-15"),
        ("今天天气很好，我们去公园散步。", "gb18030", "GBK"),
        ("今天天氣很好，我們去公園散步。", "big5", "Big5"),
        ("今日はとても良い天気です。散歩に行きましょう。", "cp932", "Shift JIS"),
        ("今日はとても良い天気です。散歩に行きましょう。", "euc_jp", "EUC-JP"),
        ("오늘은 날씨가 아주 좋습니다. 공원에 갑시다.", "cp949", "EUC-KR"),
        ("오늘은 날씨가 아주 좋습니다. 공원에 갑시다.", "iso2022_kr", "ISO-2022-KR"),
        ("오늘은 날씨가 아주 좋습니다. 공원에 갑시다.", "johab", "Johab"),
        ("今天天气很好，我们去公园散步。", "hz", "HZ"),
        ("Wczoraj pojechałem do Łodzi, powiedział żołnierz.", "mac_latin2", "Mac Central European"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy.", "mac_latin2", "Mac Central European"),
        ("Árvíztűrő tükörfúrógép, jó napot kívánok.", "mac_latin2", "Mac Central European"),
        ("Bugün hava çok güzel, değil mi? İyi akşamlar.", "mac_turkish", "Mac Turkish"),
    ],
)
def test_a_code_page_is_recognized_in_one_line(text: str, encoding: str, label: str) -> None:
    found, warning = read(f"{text}\n".encode(encoding))
    assert found == f"{text}\n"
    assert label in warning


@pytest.mark.parametrize(
    "text", ["Hôm nay trời đẹp quá. Chúng ta đi dạo công viên nhé.", "Tiếng Việt là ngôn ngữ chính thức."]
)
def test_vietnamese_in_windows_1258_is_read_with_its_tones(text: str) -> None:
    data = b"".join(_in_1258(letter) for letter in text)
    found, warning = read(data)
    assert unicodedata.normalize("NFC", found) == text
    assert "Vietnamese" in warning


def _in_1258(letter: str) -> bytes:
    """A letter as Windows writes it: with a tone after it if there is no sign for both."""
    for form in (letter, unicodedata.normalize("NFD", letter)):
        with suppress(UnicodeEncodeError):
            return form.encode("cp1258")
    base, tone = next(
        (letter_of, tone)
        for tone in "\u0300\u0301\u0303\u0309\u0323"
        for letter_of in "âêôăơưÂÊÔĂƠƯ"
        if unicodedata.normalize("NFC", letter_of + tone) == letter
    )
    return (base + tone).encode("cp1258")


@pytest.mark.parametrize("codec", ["cp1252", "cp1251", "cp1250"])
def test_lines_of_another_code_page_are_read_in_a_file_that_is_utf_8(codec: str) -> None:
    line = {
        "cp1252": "L’été dernier, à la mer.",
        "cp1251": "Добрый день, как дела?",
        "cp1250": "Příliš žluťoučký kůň.",
    }[codec]
    data = "“Über” 日本, naïve.\n".encode() * 9 + f"{line}\nplain\n{line}\n".encode(codec)
    found, warning = read(data)
    assert found.endswith(f"naïve.\n{line}\nplain\n{line}\n")
    assert "with lines that are not" in warning
    assert "".join(read_sentences(io.BytesIO(data).read1)).rstrip().endswith(line)


@pytest.mark.parametrize(
    "text", ["cafe\u0301", "L'ete\u0301 ~{de~} \x1b$)C a", "see ~{x} and ~{y~}, ~{ab cd~}", "a~{!!~}b"]
)
def test_ascii_is_not_taken_for_an_east_asian_text(text: str) -> None:
    assert read(text.encode()) == (text, "")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_without_a_warning(encoding: str) -> None:
    assert read("Hé, 日本 – yes.\n".encode(encoding)) == ("Hé, 日本 – yes.\n", "")
    assert read(b"plain\n") == ("plain\n", "")


def test_utf_16_without_a_byte_order_mark_is_recognized() -> None:
    texts = (
        *(
            "Hello there, friend.\n",
            "Вчера я поехал в Москву. Погода была хорошая.\n",
            "昨日、東京へ行きました。「また」と言った。",
        ),
        *("어제 서울에 갔습니다.\n", "昨天我去了北京。天气很好，我们去公园。", "Χθες πήγα στην Αθήνα.\n" * 99),
    )
    for encoding in ("utf-16-le", "utf-16-be"):
        for written in texts:
            text, warning = read(written.encode(encoding))
            assert text == written
            assert "UTF-16" in warning


def test_damaged_utf_8_is_not_taken_for_a_code_page() -> None:
    data = "über".encode() * 9 + b"\xe9"
    assert detect_encoding(lambda: io.BytesIO(data), "x").is_damaged


@pytest.mark.parametrize("text", ["We met at the cafés. Voilà", "We met at the caf\u00e0", "It costs 5 €"])
def test_utf_8_that_ends_inside_a_letter_is_not_taken_for_a_code_page(text: str) -> None:
    found, warning = read(text.encode()[:-1])
    assert found.startswith(text[:-1])
    assert "cut short" in warning


def test_characters_are_not_cut_between_blocks() -> None:
    line = "日本 und 東京\n".encode()
    assert detect_encoding(lambda: io.BytesIO(line * 200_000), "x").name == "utf-8"


def zipped(name: str, content: str = "x") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "kind", "command"),
    [
        (zipped("xl/workbook.xml"), "an Excel workbook", "libreoffice"),
        (zipped("word/document.xml"), "a Word document", "pandoc"),
        (zipped("mimetype", "application/epub+zip"), "an EPUB book", "pandoc"),
        (zipped("mimetype", "application/vnd.oasis.opendocument.spreadsheet"), "an OpenDocument spreadsheet", "libre"),
        (zipped("a.txt"), "a ZIP archive", "unzip"),
        (b"%PDF-1.7\n", "a PDF document", "pdftotext"),
        (b"{\\rtf1 x}", "an RTF document", "libreoffice"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "an old Office document", "libreoffice"),
        (b"\x1f\x8b\x08", "compressed", "gunzip"),
        (b"PAR1\0", "a Parquet table", "pandas"),
        (b"RIFF\0\0\0\0WAVE", "audio", ""),
        (bytes(range(256)) * 200, "zero bytes", ""),
    ],
)
def test_a_file_that_is_not_text_is_named_with_the_command_that_converts_it(
    data: bytes, kind: str, command: str
) -> None:
    with pytest.raises(UsageError) as refused:
        read(data)
    assert kind in refused.value.message
    assert command in refused.value.hint
