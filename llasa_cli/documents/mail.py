"""E-mail messages (.eml, .mbox, pages saved as .mhtml): the subject and the words that their author wrote, without headers,
quotations, signatures and attachments. Each message of a mailbox is a chapter."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from email.utils import parseaddr
from pathlib import Path

from llasa_cli.documents.document import Chapter, Document, clean
from llasa_cli.documents.html import read_html
from llasa_cli.errors import UsageError

MAX_BYTES = 64 << 20
_SIGNATURE = re.compile(r"^-- ?$.*", re.MULTILINE | re.DOTALL)
_ORIGINAL = re.compile(
    r"^(?:-{3,} ?(?:Original Message|Forwarded message) ?-{3,}|_{20,}"
    r"|\*?(?:From|Von|De|Da|Van|Från):\*? [^\n]+\n\*?(?:Sent|Date|Gesendet|Datum|Envoyé|Enviado|Data|Inviato|Verzonden|Skickat)[^\n:]{0,3}:"
    r"[^\n]*)$.*",
    re.MULTILINE | re.DOTALL,
)
"""The message that is answered, below a line or, as Outlook writes it, below its headers."""
_PHONE = re.compile(
    r"^(?:Sent from my|Get Outlook for|Von meinem|Envoyé de mon|Enviado desde mi|Inviato da)\b[^\n]{0,60}\s*\Z",
    re.MULTILINE,
)
_PGP = re.compile(
    r"^-----BEGIN PGP SIGNED MESSAGE-----\n(?:[^\n]+\n)*|^-----BEGIN PGP SIGNATURE-----\n.*?(?:^-----END PGP SIGNATURE-----$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_FORWARDED = re.compile(r"^(?:-{3,}[^\n]*-{3,}|_{20,})[ \t]*\n(?:[ \t]*(?:[A-Z][\w-]*:[^\n]*)?\n)*", re.MULTILINE)
"""The line that begins a forwarded message, and its headers."""
_WROTE = r"(?:^(?:On|Am|Le|El|Il|Op|Em) [^\n]*\n)?^(?!>)[^\n]*\b(?:wrote|writes|schrieb|écrit|escribió|scritto|schreef|escreveu)\b[^\n]{0,60}:[ \t]*\n\s*"
_QUOTED = re.compile(rf"(?:{_WROTE})?(?:^>[^\n]*(?:\n|\Z))+", re.MULTILINE)
"""Lines with the sign of a quotation, and the line before them that says who wrote it."""


def read_email(path: Path) -> Document:
    """Read a message: its subject is the heading.

    Raises:
        UsageError: It is too large, can't be decoded, or has no text.
    """
    omitted: Counter[str] = Counter()
    try:
        message = message_from_bytes(_contents(path), EmailMessage, policy=policy.default)
        chapter, author = _read_message(message, omitted)
    except _ERRORS as error:
        raise _damaged(path) from error
    if not chapter.paragraphs:
        raise UsageError(f"{path} holds no text.", "A message with words is needed.")
    return Document(chapter.title, author, "", (chapter,), omitted=_counts(omitted))


def read_mailbox(path: Path) -> Document:
    """Read the messages of a mailbox (.mbox); those without text are left out.

    Raises:
        UsageError: It is too large, can't be decoded, or has no text.
    """
    omitted: Counter[str] = Counter()
    chapters = []
    try:
        for data in re.split(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\n]*\d{4}\r?\n", _contents(path)):
            message = message_from_bytes(re.sub(rb"(?m)^>(>*From )", rb"\1", data), EmailMessage, policy=policy.default)
            chapter, _ = _read_message(message, omitted)
            if chapter.paragraphs:
                chapters.append(chapter)
            elif data.strip():
                omitted["messages without text"] += 1
    except _ERRORS as error:
        raise _damaged(path) from error
    if not chapters:
        raise UsageError(f"{path} holds no text.", "A message with words is needed.")
    return Document("", "", "", tuple(chapters), omitted=_counts(omitted))


_ERRORS = (ValueError, LookupError, AttributeError, TypeError, AssertionError)
"""What Python's parser raises for damaged messages."""


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path} is damaged: its text can't be decoded.", "Save it again, or as plain text.")


def _contents(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MB.", "Save it without attachments.")
    return path.read_bytes()


def _counts(omitted: Counter[str]) -> dict[str, int]:
    return {kind: count for kind, count in omitted.items() if count}


def _read_message(message: EmailMessage, omitted: Counter[str]) -> tuple[Chapter, str]:
    """A message as a chapter, and its author; a page that a browser saved has none."""
    title, author = clean(str(message["subject"] or "")), parseaddr(str(message["from"] or ""))
    is_page = message["Snapshot-Content-Location"] is not None
    paragraphs: list[str] = []
    for kind in ("plain", "html"):
        body = message.get_body((kind,))
        if body is not None and not paragraphs:
            text = _decoded(body)
            paragraphs = (
                _paragraphs(text.replace("\r\n", "\n"), omitted) if kind == "plain" else _of_html(text, omitted)
            )
    if message.is_multipart() and not is_page:
        omitted["attachments"] += sum(1 for _ in message.iter_attachments())
    return Chapter(title, tuple(paragraphs)), "" if is_page else clean(author[0] or author[1])


def _of_html(text: str, omitted: Counter[str]) -> list[str]:
    """The paragraphs of the author; of a message that is only a quotation, the quotation."""
    page = read_html(text)
    if not page.blocks:
        page = read_html(re.sub(r"\b(?:class|type)\s*=", "data-x=", text))  # what marks a quotation
    omitted["quotations"] += page.omitted["quotations"]
    return _paragraphs("\n\n".join(block.text for block in page.blocks), omitted)


def _decoded(body: MIMEPart) -> str:
    """The text of a part; without a stated encoding, or with one that Python has no codec for, as UTF-8 or Windows-1252."""
    with suppress(LookupError):
        if body.get_content_charset():
            return str(body.get_content())
    data = body.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _paragraphs(text: str, omitted: Counter[str]) -> list[str]:
    """The paragraphs of the author, or of a message that is forwarded without a word."""
    text = _PGP.sub("", text)
    own = _PHONE.sub("", _QUOTED.sub("\n\n", _ORIGINAL.sub("", _SIGNATURE.sub("", text))))
    if own.strip():
        omitted["quotations"] += len(_QUOTED.findall(text)) + len(_ORIGINAL.findall(text))
    else:
        own = re.sub(r"^>[> ]*", "", _FORWARDED.sub("", text), flags=re.MULTILINE)
    lines = [clean(line) for line in own.split("\n")]
    return [paragraph for paragraph in (part.strip() for part in "\n".join(lines).split("\n\n")) if paragraph]
