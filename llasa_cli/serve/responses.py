"""The body of a response: the encoded sound of a job, or OpenAI's events, while the speech is generated."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, cast

from fastapi import Request

from llasa_cli.serve.api_errors import ApiError, Disconnected
from llasa_cli.serve.encoders import Encoder
from llasa_cli.serve.limits import Truncated
from llasa_cli.serve.service import Audio, Done, Event, EventQueue, Failed, Note, SpeechJob, Spoken
from llasa_cli.synthesis.utterance import Utterance
from llasa_cli.text.unicode import whole_characters

T = TypeVar("T")

PING_S = 10.0
"""An event stream sends a comment after this time without an event, so that clients can tell waiting from a dead connection."""


def check_headers(job: SpeechJob) -> dict[str, str]:
    """Headers with the checks of the chunks that were generated before the response begins."""
    spoken = [utterance for utterance in job.utterances if utterance.text]
    if not spoken:
        return {}
    problems = "; ".join(problem for utterance in spoken for problem in utterance.problems)
    return {
        "X-Llasa-Attempts": ", ".join(str(utterance.attempts) for utterance in spoken),
        "X-Llasa-Problems": problems.encode("ascii", "replace").decode(),
    }


async def unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client disconnects.

    Raises:
        Disconnected: The client has disconnected.
    """

    async def wait_for_end() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(wait_for_end())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return cast(T, tasks[0].result())
        raise Disconnected
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def encoded(job: SpeechJob, events: EventQueue, encoder: Encoder) -> AsyncIterator[bytes]:
    """The encoded sound of a job, piece by piece.

    Raises:
        ApiError: The job failed.
    """
    event: Event | None = None
    while not isinstance(event, Done):
        event = await events.get()
        if isinstance(event, Failed):
            raise ApiError.of(event.error)
        data = _encode(event, job, encoder)
        if data or isinstance(event, Done):
            yield data


def _encode(event: Event, job: SpeechJob, encoder: Encoder) -> bytes:
    """The bytes that an event completes."""
    if isinstance(event, Audio):
        job.consumed(len(event.samples))
        return encoder.encode(event.samples)
    return encoder.finish() if isinstance(event, Done) else b""


async def response_body(job: SpeechJob, first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of `encoded`, of which the first is known.

    Raises:
        Truncated: The job failed.
    """
    try:
        yield first
        async for data in rest:
            yield data
    except ApiError as error:
        raise Truncated(str(error)) from error
    finally:
        job.cancel()


async def server_sent_events(
    job: SpeechJob,
    events: EventQueue,
    encoder: Encoder,
    seed: int | None,
    has_chunk_events: bool,
    on_first_sound: Callable[[], None],
) -> AsyncIterator[str]:
    """OpenAI's events `speech.audio.delta` and `speech.audio.done`, and one with the checks of each chunk."""
    has_sound = False
    try:
        while True:
            try:
                event = await asyncio.wait_for(events.get(), PING_S)
            except asyncio.TimeoutError:
                yield ": waiting\n\n"
                continue
            data = _encode(event, job, encoder)
            if data:
                if not has_sound:
                    on_first_sound()
                has_sound = True
                yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
            if isinstance(event, Spoken) and has_chunk_events:
                yield _event({"type": "llasa.chunk", **event.utterance.to_short_row()})
            elif isinstance(event, Note) and has_chunk_events:
                yield _event({"type": "llasa.note", "text": whole_characters(event.text)})
            elif isinstance(event, Failed):
                yield _event({"type": "error", "error": ApiError.of(event.error).content()})
                return
            elif isinstance(event, Done):
                chunks = [_summary(utterance) for utterance in event.utterances if utterance.text]
                yield _event({"type": "speech.audio.done", "seed": seed, "count": event.chunks, "chunks": chunks})
                return
    finally:
        job.cancel()


def _summary(utterance: Utterance) -> dict[str, Any]:
    return {
        "text": utterance.text,
        "seconds": round(utterance.seconds, 3),
        "seed": utterance.seed,
        "attempts": utterance.attempts,
        "problems": utterance.problems,
    } | (
        {"candidates": utterance.candidates, "chosen_because": utterance.chosen_because} if utterance.candidates else {}
    )


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
