"""The Wyoming protocol, which Home Assistant's voice pipeline speaks.

Events: `describe` is answered with `info`; `synthesize`, and streaming text (`synthesize-start`, `synthesize-chunk`,
`synthesize-stop`), with `audio-start`, `audio-chunk`s and `audio-stop`.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from functools import partial
from typing import Any

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event as WyomingEvent
from wyoming.info import Attribution, Describe, Info, TtsProgram, TtsVoice
from wyoming.server import AsyncEventHandler, AsyncServer
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped

from llasa_cli import __version__
from llasa_cli.audio.chunk import to_pcm16
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.prompt import Reference
from llasa_cli.serve.service import Audio, Done, Event, EventQueue, Failed, JobQueue, Spoken
from llasa_cli.serve.voices import VoiceStore
from llasa_cli.settings import LARGEST_SEED, SpeechOptions
from llasa_cli.synthesis.batched import SynthesisRequest
from llasa_cli.text.dialogue import has_voices
from llasa_cli.text.sentences import sentence_ends

_CHECK_S = 0.5
"""The interval at which the connection to the client is checked."""
_ATTRIBUTION = Attribution(name="llasa", url="https://arxiv.org/abs/2502.04128")


async def serve_wyoming(
    host: str,
    port: int,
    service: JobQueue,
    voices: VoiceStore,
    languages: list[str],
    max_characters: int = 100_000,
) -> None:
    """Answer clients until the task is cancelled.

    Args:
        max_characters: The longest text; a longer one is answered with an error.
    """
    server = AsyncServer.from_uri(f"tcp://{host}:{port}")
    await server.run(
        partial(_Handler, service=service, voices=voices, languages=languages, max_characters=max_characters)
    )


class _Handler(AsyncEventHandler):
    """One connection."""

    def __init__(
        self, *arguments: Any, service: JobQueue, voices: VoiceStore, languages: list[str], max_characters: int
    ) -> None:
        super().__init__(*arguments)
        self._service, self._voices, self._languages = service, voices, languages
        self._max_characters = max_characters
        self._text: str | None = None
        """The part of a streamed text that has arrived and was not spoken yet; None outside of one."""
        self._has_failed = False
        """Whether the streamed text failed: the rest of it is not spoken, and its end is still confirmed."""
        self._voice: Any = None
        self._length = 0
        """Characters of the text so far."""
        self._first_voice: Reference | None = None
        """The voice of the first utterance, if the others take theirs from it."""
        self._has_started = False

    async def handle_event(self, event: WyomingEvent) -> bool:
        try:
            if Describe.is_type(event.type):
                await self.write_event((await self._info()).event())
            elif Synthesize.is_type(event.type):
                if self._text is None:  # inside a streamed text it repeats the whole for older servers
                    request = Synthesize.from_event(event)
                    self._voice = request.voice
                    await self._speak(request.text)
                    await self._stop()
            elif SynthesizeStart.is_type(event.type):
                self._text, self._voice = "", SynthesizeStart.from_event(event).voice
                self._has_failed = False
            elif SynthesizeChunk.is_type(event.type) and self._text is not None:
                if not self._has_failed:
                    await self._add(SynthesizeChunk.from_event(event).text)
            elif SynthesizeStop.is_type(event.type) and self._text is not None:
                await self._finish()
        except LlasaError as error:
            await self._fail(error)
        return True

    async def _finish(self) -> None:
        """Speak the rest of a streamed text, and confirm its end: Home Assistant waits for that."""
        rest, self._text = self._text or "", None
        try:
            if not self._has_failed:
                await self._speak(rest)
                await self._stop()
        except LlasaError as error:
            await self._fail(error)
        await self.write_event(SynthesizeStopped().event())

    async def _fail(self, error: LlasaError) -> None:
        self._has_failed = True
        await self._stop()
        await self.write_event(Error(text=str(error), code=type(error).__name__).event())

    async def _add(self, text: str) -> None:
        """Speak the sentences that are complete."""
        assert self._text is not None
        self._text += text
        end = max((end for end in sentence_ends(self._text) if end < len(self._text)), default=0)
        if end:
            sentences, self._text = self._text[:end], self._text[end:]
            await self._speak(sentences)

    async def _speak(self, text: str) -> None:
        self._length += len(text)
        if self._length > self._max_characters:
            raise UsageError(f"The text is longer than {self._max_characters:,} characters.")
        if has_voices(text):
            raise UsageError("A request has one voice: [voice:NAME] can't change it.")
        if not any(character.isalnum() for character in text):
            return
        events = EventQueue()
        name = (self._voice.speaker or self._voice.name) if self._voice is not None else None
        speaker, reference = await asyncio.to_thread(self._voices.find, name)
        options = SpeechOptions(seed=secrets.randbelow(LARGEST_SEED), speaker=speaker)

        request = SynthesisRequest(None, text, options, reference or self._first_voice, continues=self._has_started)
        job = await asyncio.to_thread(self._service.submit, request, events.emit, True)
        rate = self._service.synthesizer.sampling_rate
        try:
            while True:
                event = await self._next(events)
                if isinstance(event, Spoken) and event.utterance.is_voice:
                    self._first_voice = Reference(event.utterance.text, event.utterance.codes)
                if isinstance(event, Done | Failed):
                    break
                if not isinstance(event, Audio):
                    continue
                if not self._has_started:
                    self._has_started = True
                    await self.write_event(AudioStart(rate=rate, width=2, channels=1).event())
                await self.write_event(
                    AudioChunk(rate=rate, width=2, channels=1, audio=to_pcm16(event.samples)).event()
                )
                job.consumed(len(event.samples))
            if isinstance(event, Failed):
                raise event.error
        finally:
            job.cancel()

    async def _next(self, events: EventQueue) -> Event:
        """The next event of a request.

        Raises:
            ConnectionError: The client has disconnected.
        """
        while True:
            with suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(events.get(), _CHECK_S)
            if self.reader.at_eof():
                raise ConnectionResetError("the client has disconnected")

    async def _stop(self) -> None:
        self._length, self._first_voice = 0, None
        if not self._has_started:
            rate = self._service.synthesizer.sampling_rate
            await self.write_event(AudioStart(rate=rate, width=2, channels=1).event())
        self._has_started = False
        await self.write_event(AudioStop().event())

    async def _info(self) -> Info:
        found = await asyncio.to_thread(self._voices.describe) or [{"name": "default", "about": ""}]
        voices = [
            TtsVoice(
                name=voice["name"],
                description=f"{voice['name']} ({voice['about']})" if voice["about"] else voice["name"],
                attribution=_ATTRIBUTION,
                installed=True,
                version=__version__,
                languages=self._languages or ["en"],
            )
            for voice in found
        ]
        program = TtsProgram(
            name="llasa",
            description="Text to speech with Llasa",
            attribution=_ATTRIBUTION,
            installed=True,
            version=__version__,
            voices=voices,
            supports_synthesize_streaming=True,
        )
        return Info(tts=[program])
