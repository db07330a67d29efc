"""E-mail messages (.eml): the subject and the words that their author wrote, without headers, quotations and attachments."""

from __future__ import annotations

import re
from collections import Counter
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from email.utils import parseaddr
from pathlib import Path

from llasa_cli.documents.document import Chapter, Document, clean
from llasa_cli.documents.html import read_html
from llasa_cli.errors import UsageError

MAX_BYTES = 64 << 20
_SIGNATURE = re.compile(r"^-- ?$.*", re.MULTILINE | re.DOTALL)
_ORIGINAL = re.compile(r"^(?:-{3,} ?(?:Original Message|Forwarded message) ?-{3,}|_{20,})$.*", re.MULTILINE | re.DOTALL)
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
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MB.", "Save it without attachments.")
    omitted: Counter[str] = Counter()
    try:
        message = message_from_bytes(path.read_bytes(), EmailMessage, policy=policy.default)
        subject, author = str(message["subject"] or ""), parseaddr(str(message["from"] or ""))
        body = message.get_body(("plain", "html"))
        text = _decoded(body) if body is not None else ""
        is_html = body is not None and body.get_content_subtype() == "html"
        omitted["attachments"] = sum(1 for _ in message.iter_attachments()) if message.is_multipart() else 0
    except (ValueError, LookupError, AttributeError, TypeError, AssertionError) as error:
        raise UsageError(
            f"{path} is damaged: its text can't be decoded.", "Save it again, or as plain text."
        ) from error
    if is_html:
        paragraphs = [block.text for block in read_html(text).blocks]
    else:
        paragraphs = _paragraphs(text.replace("\r\n", "\n"), omitted)
    if not paragraphs:
        raise UsageError(f"{path} holds no text.", "A message with words is needed.")
    title = clean(subject)
    counts = {kind: count for kind, count in omitted.items() if count}
    return Document(title, clean(author[0] or author[1]), "", (Chapter(title, tuple(paragraphs)),), omitted=counts)


def _decoded(body: MIMEPart) -> str:
    try:
        return str(body.get_content())
    except LookupError:  # Python has no codec for the stated encoding
        data = body.get_payload(decode=True)
        return data.decode("utf-8", "replace") if isinstance(data, bytes) else ""


def _paragraphs(text: str, omitted: Counter[str]) -> list[str]:
    """The paragraphs of the author, or of a message that is forwarded without a word."""
    own = _QUOTED.sub("\n\n", _ORIGINAL.sub("", _SIGNATURE.sub("", text)))
    if own.strip():
        omitted["quotations"] = len(_QUOTED.findall(text)) + len(_ORIGINAL.findall(text))
    else:
        own = re.sub(r"^>[> ]*", "", _FORWARDED.sub("", text), flags=re.MULTILINE)
    lines = [clean(line) for line in own.split("\n")]
    return [paragraph for paragraph in (part.strip() for part in "\n".join(lines).split("\n\n")) if paragraph]
