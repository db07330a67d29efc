"""`llasa serve` with its real clients: the openai package over HTTP and a Wyoming client, against a running server."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
openai = pytest.importorskip("openai")

import httpx as plain_httpx  # noqa: E402

from llasa_cli.errors import UsageError  # noqa: E402
from llasa_cli.serve.encoders import MEDIA_TYPES, Encoder  # noqa: E402
from llasa_cli.serve.service import Audio, Done, Event, Failed, QueueFull, ShuttingDown, SpeechService, Spoken  # noqa: E402
from llasa_cli.serve.voices import VoiceStore  # noqa: E402
from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions  # noqa: E402
from llasa_cli.synthesis.batched import SynthesisRequest  # noqa: E402
from llasa_cli.synthesis.synthesizer import Synthesizer  # noqa: E402
from llasa_cli.voices.library import check_name  # noqa: E402
from tests.serve.conftest import KEY, Running  # noqa: E402

SHORT = {"max_seconds": 0.4, "guidance": 1.0}
"""The random model rarely ends by itself."""
http = plain_httpx.Client(timeout=60)


def client_of(server: Running, key: str = KEY) -> Any:
    return client_at(server.url, key)


@lru_cache
def client_at(url: str, key: str) -> Any:
    """A client for several tests: each one reads all certificates."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def speak(server: Running, text: str = "Hello there.", **options: Any) -> Any:
    body = SHORT | {"seed": 5} | options.pop("extra", {})
    settings = {"model": server.model, "voice": "heart", "input": text, "response_format": "wav"} | options
    return client_of(server).audio.speech.create(**settings, extra_body=body)


def decoded(data: bytes) -> np.ndarray:
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    return samples


def test_a_response_has_the_samples_of_say(server: Running, synthesizer: Synthesizer) -> None:
    sampling = SamplingRequest(temperature=0, **SHORT)
    said = synthesizer.synthesize("Hello there.", SpeechOptions(sampling=sampling, seed=7, speaker="heart", retries=0))
    served = decoded(speak(server, extra={"temperature": 0, "seed": 7}).content)
    assert len(served) == len(said)
    assert np.abs(served - said).max() < 2 / 32768


@pytest.mark.parametrize("name", sorted(MEDIA_TYPES))
def test_every_format_is_streamed_to_a_file(server: Running, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{name}"
    options = {"model": server.model, "voice": "bella", "input": "Hello.", "response_format": name}
    with client_of(server).audio.speech.with_streaming_response.create(
        **options, extra_body=SHORT | {"seed": 5}
    ) as response:
        assert response.headers["content-type"] == MEDIA_TYPES[name]
        response.stream_to_file(path)
    assert path.stat().st_size > 200


def test_a_streamed_chunk_has_the_length_of_a_whole_one(server: Running) -> None:
    once = {"seed": 3, "retries": 0}  # a streamed chunk can't be generated again
    whole = decoded(speak(server, extra=once).content)
    streamed = decoded(speak(server, extra=once | {"stream": True}).content)
    assert len(streamed) == len(whole)


def test_events_end_with_the_checks_of_each_chunk(server: Running) -> None:
    body = SHORT | {"model": server.model, "voice": "heart", "input": "One. Two.", "stream_format": "sse", "seed": 5}
    with http.stream("POST", f"{server.url}/v1/audio/speech", json=body, headers=server.headers) as made:
        lines = [line for line in made.iter_lines() if line]
    assert made.headers["x-llasa-seed"] == "5"
    assert all(line.startswith("data: ") for line in lines)
    assert '"speech.audio.delta"' in lines[0]
    assert '"speech.audio.done"' in lines[-1]
    assert '"problems"' in lines[-1]


def test_the_best_of_several_takes_is_sent_with_all_scores(server: Running, synthesizer: Synthesizer) -> None:
    body = {"model": server.model, "voice": "heart", "input": "Hello there.", "response_format": "f32", "seed": 5}
    body |= SHORT | {"best_of": 4, "retries": 0, "stream": True}
    with http.stream(
        "POST", f"{server.url}/v1/audio/speech", json=body | {"stream_format": "sse"}, headers=server.headers
    ) as made:
        events = [json.loads(line[6:]) for line in made.iter_lines() if line.startswith("data: ")]
    (chunk,) = events[-1]["chunks"]
    takes = chunk["candidates"]
    assert [take["seed"] for take in takes] == [5, 6, 7, 8]
    (chosen,) = [take for take in takes if take["chosen"]]
    assert chunk["chosen_because"]
    assert chunk["seed"] == chosen["seed"]
    fewest = min(len(take["problems"]) for take in takes)
    rivals = [take["scores"]["likelihood"] for take in takes if len(take["problems"]) == fewest]
    assert chosen["scores"]["likelihood"] == max(rivals)
    sampling = SamplingRequest(**SHORT)
    options = SpeechOptions(sampling=sampling, seed=chosen["seed"], speaker="heart", retries=0)
    sound = np.concatenate([np.frombuffer(base64.b64decode(e["audio"]), "<f4") for e in events if "audio" in e])
    assert np.array_equal(sound, synthesizer.synthesize("Hello there.", options))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"voice": "nobody"}, openai.BadRequestError, "no voice"),
        ({"voice": "../../etc/passwd"}, openai.BadRequestError, "no voice"),
        ({"model": "other"}, openai.NotFoundError, "does not exist"),
        ({"input": "a" * 2001}, openai.BadRequestError, "at most 2,000"),
        ({"input": "..."}, openai.BadRequestError, "nothing to say"),
        ({"input": "[voice:bella] Hello."}, openai.BadRequestError, "has one voice"),
        ({"response_format": "xyz"}, openai.BadRequestError, "response_format"),
        ({"speed": 9}, openai.BadRequestError, "speed"),
        ({"extra": {"temperature": -1}}, openai.BadRequestError, "temperature"),
        ({"extra": {"best_of": 0}}, openai.BadRequestError, "best_of"),
        ({"extra": {"best_of": 33}}, openai.BadRequestError, "best_of"),
        ({"extra": {"best_of": 2, "candidate": 3}}, openai.BadRequestError, "no take 3 of 2"),
        ({"extra": {"good_enough": 1}}, openai.BadRequestError, "best-of"),
        ({"extra": {"choose_by": ["likelihood"]}}, openai.BadRequestError, "without best_of"),
        ({"extra": {"best_of": 2, "choose_by": ["beauty"]}}, openai.BadRequestError, "choose_by"),
        ({"extra": {"best_of": 2, "choose_by": ["words"]}}, openai.BadRequestError, "Start it with --asr"),
        ({"extra": {"style": {"mood": "calm"}}}, openai.BadRequestError, "no style fields"),
        ({"extra": {"style": "calm"}}, openai.BadRequestError, "style"),
        ({"extra": {"verify": True}}, openai.BadRequestError, "Start it with --asr"),
        ({"extra": {"best_of": 2, "choose_by": ["likeness"]}}, openai.BadRequestError, "--speaker-model"),
    ],
)
def test_a_wrong_request_is_an_error_of_the_client(
    server: Running, options: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        speak(server, **options)


def test_a_wrong_key_is_refused(server: Running) -> None:
    with pytest.raises(openai.AuthenticationError):
        client_of(server, "wrong").models.list()
    assert http.get(f"{server.url}/health").status_code == 200


def test_models_and_voices_are_listed(server: Running) -> None:
    assert [model.id for model in client_of(server).models.list()] == [server.model]
    voices = http.get(f"{server.url}/v1/audio/voices", headers=server.headers).json()["voices"]
    heart = {"id": "heart", "name": "heart", "kind": "speaker", "default": True, "about": ""}
    assert heart in voices
    assert heart | {"id": "bella", "name": "bella", "default": False, "about": "woman, American"} in voices
    models = http.get(f"{server.url}/v1/audio/models", headers=server.headers).json()["models"]
    assert [model["id"] for model in models] == [server.model]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"input": "Hi.", "voice": "heart", "model": "tts-1"}, id="Open WebUI"),
        pytest.param(
            {"input": "Hi.", "response_format": "mp3", "voice": "heart", "speed": 1, "model": "tts-1"}, id="SillyTavern"
        ),
        pytest.param({"input": "Hi.", "model": "tts-1", "voice": "heart", "backend": "other"}, id="LibreChat"),
        pytest.param({"input": "Hi.", "model": "tts-1"}, id="LibreChat without voices"),
    ],
)
def test_requests_as_other_programs_send_them_are_spoken(server: Running, body: dict[str, Any]) -> None:
    made = http.post(f"{server.url}/v1/audio/speech", json=body | SHORT, headers=server.headers)
    assert made.status_code == 200, made.text
    assert made.headers["content-type"] == "audio/mpeg"
    assert len(decoded(made.content))


def test_the_document_of_the_interface_states_the_limits_of_a_voice(server: Running) -> None:
    schemas = http.get(f"{server.url}/openapi.json").json()["components"]["schemas"]
    form = next(schema for name, schema in schemas.items() if name.startswith("Body_add_voice"))
    assert set(form["required"]) == {"file", "text"}
    name = re.compile(form["properties"]["name"]["pattern"])
    assert form["properties"]["name"]["anyOf"][0]["maxLength"] == 64
    names = [
        "kim-2",
        "a",
        "Kim Lee",
        "v1.2",
        "",
        ".",
        "a/b",
        "..",
        "-x",
        "a b ",
        "con fuse",
        "a  b",
        "a\n",
        "con",
        "NUL",
    ]
    for text in [*names, "Com1", "com10", "lpt9.x", "console", "a.json", "a.JSON", "a.jsonl"]:
        try:
            check_name(text)
            is_accepted = True
        except UsageError:
            is_accepted = False
        assert bool(name.search(text)) == is_accepted, text
    for schema in (form, schemas["InlineVoice"]):
        words = re.compile(schema["properties"]["text"]["pattern"])
        assert [bool(words.search(text)) for text in ("Hello.", "\u4f60", " ", "\t\n", "\x1f\x85")] == [
            True,
            True,
            False,
            False,
            False,
        ]


def test_a_bad_form_prints_nothing(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    headers = server.headers | {"Content-Type": "multipart/form-data; boundary=x"}
    data = b"--y\r\n\r\n"
    assert http.post(f"{server.url}/v1/audio/voices", content=data, headers=headers).status_code == 400
    assert caplog.records == []


def clip() -> bytes:
    """Four seconds of noise bursts in the rhythm of syllables."""
    generator = np.random.default_rng(0)
    time_s = np.arange(4 * 16_000) / 16_000
    samples = 0.2 * generator.standard_normal(len(time_s)) * (np.sin(2 * np.pi * 2 * time_s) > 0)
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


TRANSCRIPT = "The gardener planted three rows."


def test_a_voice_is_made_of_a_clip_used_and_removed(server: Running) -> None:
    headers = server.headers
    form = {"name": "guest", "text": TRANSCRIPT}
    made = http.post(f"{server.url}/v1/audio/voices", data=form, files={"file": clip()}, headers=headers)
    assert made.status_code == 200, made.text
    assert len(speak(server, voice="guest").content) > 44
    inline = {"audio": base64.b64encode(clip()).decode(), "text": TRANSCRIPT}
    assert len(speak(server, voice="heart", extra={"voice": inline}).content) > 44
    assert http.delete(f"{server.url}/v1/audio/voices/guest", headers=headers).status_code == 200
    with pytest.raises(openai.BadRequestError):
        speak(server, voice="guest")


@pytest.mark.parametrize("data", [b"", b"no audio", b"RIFF" + bytes(100)])
def test_a_bad_clip_is_an_error_of_the_client(server: Running, data: bytes) -> None:
    form = {"name": "bad", "text": TRANSCRIPT}
    made = http.post(f"{server.url}/v1/audio/voices", data=form, files={"file": data}, headers=server.headers)
    assert made.status_code in (400, 413)
    assert "/tmp" not in made.text


def test_many_clients_are_served_together(server: Running) -> None:
    errors: list[BaseException] = []

    def one(number: int) -> None:
        try:
            assert len(decoded(speak(server, f"Number {number}.").content))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert server.is_idle(), "the last response is complete a moment before its request is counted as done"


def test_a_client_that_leaves_frees_its_slot(server: Running) -> None:
    body = {"model": server.model, "voice": "heart", "input": "Hello. " * 200, "response_format": "wav"} | SHORT
    with http.stream("POST", f"{server.url}/v1/audio/speech", json=body, headers=server.headers) as made:
        next(made.iter_bytes())
    assert server.is_idle()


def test_metrics_are_in_the_format_of_prometheus(server: Running) -> None:
    text = http.get(f"{server.url}/metrics", headers=server.headers).text
    assert "# TYPE llasa_requests_total counter" in text
    assert float(next(line for line in text.splitlines() if line.startswith("llasa_requests_total")).split()[1]) > 0


def test_the_page_needs_no_other_host(server: Running) -> None:
    page = http.get(server.url + "/").text
    assert "<title>llasa</title>" in page
    assert "http://" not in page
    assert "https://" not in page


# --- the service itself ---


def events_of(service: SpeechService, text: str, streamed: bool = False, **sampling: Any) -> list[Event]:
    found: list[Event] = []
    over = threading.Event()

    def emit(event: Event) -> None:
        found.append(event)
        if isinstance(event, Done | Failed):
            over.set()

    options = SpeechOptions(sampling=SamplingRequest(**SHORT | sampling), seed=1, speaker="heart", retries=0)
    service.submit(SynthesisRequest(None, text, options), emit, streamed)
    assert over.wait(60)
    return found


def test_a_sentence_does_not_wait_for_a_book(synthesizer: Synthesizer) -> None:
    service = SpeechService(synthesizer, slots=2)
    book = threading.Thread(target=events_of, args=(service, "A long sentence about nothing. " * 400), daemon=True)
    book.start()
    time.sleep(0.1)
    assert isinstance(events_of(service, "Short.")[-1], Done)
    assert book.is_alive()
    service.stop(0)


@pytest.mark.parametrize("devices", [1, 2])
def test_under_load_samples_are_those_of_a_single_text(random_checkpoint: Path, devices: int) -> None:
    """Also with sampling: the kernels give a sequence the same bits beside others."""
    options = ModelOptions(model=str(random_checkpoint), dtype="int8")
    loaded = [Synthesizer.load(options) for _ in range(devices)]
    service = SpeechService(loaded, slots=3)
    texts = [f"Number {number}. And this is the other half of it." for number in range(6)]
    with ThreadPoolExecutor(len(texts)) as pool:
        found = list(pool.map(lambda text: events_of(service, text, temperature=0.8), texts))
    speech = SpeechOptions(sampling=SamplingRequest(**SHORT, temperature=0.8), seed=1, speaker="heart", retries=0)
    for text, events in zip(texts, found, strict=True):
        served = np.concatenate([event.samples for event in events if isinstance(event, Audio)])
        assert np.array_equal(served, loaded[0].synthesize(text, speech))
    service.stop(0)


def samples_of(events: list[Event]) -> np.ndarray:
    return np.concatenate([event.samples for event in events if isinstance(event, Audio)])


def test_under_load_a_stream_has_the_samples_that_it_has_alone(random_checkpoint: Path) -> None:
    """In windows, whose places depend on the codes alone: 250 codes have several."""
    service = SpeechService(Synthesizer.load(ModelOptions(model=str(random_checkpoint), dtype="int8")), slots=3)
    texts = [f"Number {number}." for number in range(4)]
    speak_one = partial(events_of, service, streamed=True, temperature=0.8, max_seconds=5.0)
    with ThreadPoolExecutor(len(texts)) as pool:
        beside = [samples_of(events) for events in pool.map(speak_one, texts)]
    for text, samples in zip(texts, beside, strict=True):
        alone = speak_one(text)
        assert np.array_equal(samples_of(alone), samples)
        (spoken,) = (event.utterance for event in alone if isinstance(event, Spoken))
        assert spoken.streamed
        assert len(samples) == len(spoken.codes) * service.synthesizer.codec.samples_per_code
    service.stop(0)


def test_a_full_queue_is_refused(synthesizer: Synthesizer) -> None:
    service = SpeechService(synthesizer, slots=1, max_jobs=1)
    options = SpeechOptions(sampling=SamplingRequest(**SHORT), seed=1, speaker="heart")
    service.submit(SynthesisRequest(None, "A first text. " * 20, options), lambda event: None)
    with pytest.raises(QueueFull):
        service.submit(SynthesisRequest(None, "A second text.", options), lambda event: None)
    service.stop(0)


def test_stopping_lets_requests_finish(synthesizer: Synthesizer) -> None:
    service = SpeechService(synthesizer, slots=2)
    found: list[Event] = []
    options = SpeechOptions(sampling=SamplingRequest(**SHORT), seed=1, speaker="heart", retries=0)
    service.submit(SynthesisRequest(None, "Hello there.", options), found.append)
    service.stop(30)
    assert isinstance(found[-1], Done)


def test_stopping_cuts_off_at_the_deadline(synthesizer: Synthesizer) -> None:
    service = SpeechService(synthesizer, slots=1)
    found: list[Event] = []
    options = SpeechOptions(sampling=SamplingRequest(**SHORT), seed=1, speaker="heart", retries=0)
    service.submit(SynthesisRequest(None, "Hello there. " * 200, options), found.append)
    service.stop(0)
    assert isinstance(found[-1], Failed)
    assert isinstance(found[-1].error, ShuttingDown)


# --- formats ---


@pytest.mark.parametrize("speed", [0.4, 0.75, 1.5])
def test_speed_changes_the_duration_and_not_the_pitch(speed: float) -> None:
    samples = (0.3 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 16_000)).astype(np.float32)
    encoder = Encoder("wav", 16_000, speed)
    made = decoded(b"".join(encoder.encode(piece) for piece in np.split(samples, 8)) + encoder.finish())
    assert len(made) == pytest.approx(len(samples) / speed, rel=0.02)
    spectrum = np.abs(np.fft.rfft(made))
    assert np.argmax(spectrum) * 16_000 / len(made) == pytest.approx(440, rel=0.02)


# --- Wyoming ---


@pytest.fixture
def wyoming_port(synthesizer: Synthesizer) -> Iterator[int]:
    """A Wyoming server in a thread; texts have at most 60 characters."""
    pytest.importorskip("wyoming")
    from llasa_cli.serve.wyoming import serve_wyoming

    service = SpeechService(synthesizer, slots=2)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    loop = asyncio.new_event_loop()
    serving = loop.create_task(serve_wyoming("127.0.0.1", port, service, VoiceStore(synthesizer), ["en"], 60))

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)

    thread = threading.Thread(target=run)
    thread.start()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.02)
    yield port
    loop.call_soon_threadsafe(serving.cancel)
    thread.join(timeout=20)
    service.stop(0)


def talk(port: int, events: list[Any], until: str) -> list[Any]:
    """Send events and return the answers up to the first one of a type."""
    from wyoming.client import AsyncTcpClient

    async def exchange() -> list[Any]:
        found: list[Any] = []
        async with AsyncTcpClient("127.0.0.1", port) as client:
            for event in events:
                await client.write_event(event.event())
            while not found or found[-1].type != until:
                found.append(await asyncio.wait_for(client.read_event(), 60))
        return found

    return asyncio.run(exchange())


def heard(events: list[Any]) -> int:
    """Bytes of sound."""
    from wyoming.audio import AudioChunk

    return sum(len(AudioChunk.from_event(event).audio) for event in events if AudioChunk.is_type(event.type))


def test_a_wyoming_client_hears_speech(wyoming_port: int) -> None:
    from wyoming.error import Error
    from wyoming.info import Describe, Info
    from wyoming.tts import Synthesize, SynthesizeVoice

    (described,) = talk(wyoming_port, [Describe()], "info")
    voices = {voice.name: voice.description for voice in Info.from_event(described).tts[0].voices}
    assert (voices["heart"], voices["bella"]) == ("heart", "bella (woman, American)")
    events = talk(wyoming_port, [Synthesize("Hi.", voice=SynthesizeVoice(name="heart"))], "audio-stop")
    assert events[0].type == "audio-start"
    assert heard(events) >= 640  # a code, at any seed
    events = talk(wyoming_port, [Synthesize("[voice:bella] Hi.")], "error")
    assert heard(events) == 0
    assert Error.from_event(events[-1]).text.startswith("A request has one voice")


def test_home_assistant_streams_a_text_and_hears_it_once(wyoming_port: int) -> None:
    """It also sends the whole text, for servers that don't stream, and waits for the end of its stream."""
    from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice

    voice = SynthesizeVoice(name="heart")
    parts = [SynthesizeChunk("Hi. "), SynthesizeChunk("Ho.")]
    events = talk(
        wyoming_port,
        [SynthesizeStart(voice=voice), *parts, Synthesize("Hi. Ho.", voice=voice), SynthesizeStop()],
        "synthesize-stopped",
    )
    assert [event.type for event in events if event.type != "audio-chunk"] == [
        "audio-start",
        "audio-stop",
        "synthesize-stopped",
    ]
    assert heard(events) > 640


@pytest.mark.parametrize("text", ["Hi. " * 30, "[voice:bella] Hi. Ho.", "Hi. [voice:bella] Ho"])
def test_home_assistant_does_not_wait_for_a_stream_that_fails(wyoming_port: int, text: str) -> None:
    from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop

    chunks = [SynthesizeChunk(part) for part in (text[:40], text[40:])]
    events = talk(wyoming_port, [SynthesizeStart(), *chunks, Synthesize(text), SynthesizeStop()], "synthesize-stopped")
    kinds = [event.type for event in events if event.type != "audio-chunk"]
    assert kinds == ["audio-start", "audio-stop", "error", "synthesize-stopped"]
