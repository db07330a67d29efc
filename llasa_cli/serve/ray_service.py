"""`llasa serve --ray`: the model runs in the replicas of a Ray Serve deployment, on the machines of a Ray cluster.

    service = RayService("auto", "llasa-8880", checkpoint, config, replicas=4)        used as a `SpeechService`

Ray Serve starts the replicas, starts another one in place of one that has died, and chooses one for each request. This process
keeps the ports, the key, the limits, the saved voices and the audio formats; Ray Serve's own HTTP server is not started.
Each replica runs a `SpeechService`.

A request that loses its replica is continued by another one after its last complete chunk; if sound of an incomplete chunk
was sent already, it fails. A request whose client reads slowly is taken from its replica, and continued when the client has
caught up, so that its sound fills no memory.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llasa_cli.batch.ray_backend import connect_ray, for_other_machines, interruptible
from llasa_cli.checkpoint.resolve import Checkpoint
from llasa_cli.errors import LlasaError, ModelError, UsageError
from llasa_cli.memory import share_arenas
from llasa_cli.prompt import PromptFormat, Reference
from llasa_cli.serve.service import (
    MAX_BUFFERED_S,
    Audio,
    Done,
    Event,
    EventQueue,
    Failed,
    JobQueue,
    Note,
    SpeechJob,
    SpeechService,
    Spoken,
)
from llasa_cli.settings import ModelOptions, VerifierOptions
from llasa_cli.synthesis.batched import SynthesisRequest
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.wording import first_line

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.text.respelling import Lexicon

_POLL_S = 0.1
_ACCEPT_S = 2.0
"""The time that a request waits for a replica before its response begins. A later error is reported inside the response."""
_MOST_LOSSES = 3
"""The number of times in a row that a request may lose its replica without a complete chunk in between."""
_STATUS_S = 2.0
"""The interval at which the replicas are counted."""


@dataclass(frozen=True)
class ReplicaConfig:
    """The model and the options that each replica loads.

    Attributes:
        slots: See `SpeechService`.
        max_jobs: Requests of the whole server; Ray Serve may give all of them to one replica.
    """

    models: ModelOptions
    verifiers: VerifierOptions
    lexicon: Lexicon
    slots: int | None
    max_jobs: int


class SpeechReplica:
    """The replica that Ray Serve runs on the machines of the cluster."""

    def __init__(self, config: ReplicaConfig) -> None:
        import torch

        from llasa_cli.synthesis.verifiers import load_verifiers

        share_arenas()
        synthesizer = Synthesizer.load(config.models)
        synthesizer.codec.wait()
        synthesizer.lexicon = config.lexicon
        if synthesizer.model.is_small:
            torch.set_num_threads(1)  # whatever Ray has set; see `device.limit_threads`
        self._service = SpeechService(synthesizer, config.slots, config.max_jobs, load_verifiers(config.verifiers))
        self._service.warm_up()

    async def speak(
        self, request: SynthesisRequest, streamed: bool, judges: Sequence[str]
    ) -> AsyncIterator[list[Event]]:
        """The events of a request: an empty list when it is accepted, then some at a time.

        The `Audio` of a chunk is in the same list as its `Spoken`, unless it is streamed.
        """
        arrived = EventQueue()
        try:
            job = await asyncio.to_thread(self._service.submit, request, arrived.emit, streamed, judges)
        except LlasaError as error:
            yield [Failed(error)]
            return
        try:
            yield []
            events: list[Event] = []
            while not (events and isinstance(events[-1], Done | Failed)):
                events = [await arrived.get()]
                # A chunk that is not streamed sends its sound right after its `Spoken`.
                while not arrived.empty() or (isinstance(events[-1], Spoken) and not events[-1].utterance.streamed):
                    events.append(await arrived.get())
                job.consumed(sum(len(event.samples) for event in events if isinstance(event, Audio)))
                yield events
        finally:
            job.cancel()

    async def encode(self, samples: np.ndarray, text: str) -> Reference | LlasaError:
        """See `Synthesizer.encode_reference`."""
        try:
            return await asyncio.to_thread(self._service.synthesizer.encode_reference, samples, text)
        except LlasaError as error:
            return error


class ReplicatedModel:
    """A `SpeechModel` whose weights are in the replicas. The rest of its files must be readable here."""

    def __init__(self, checkpoint: Checkpoint, encode: Callable[[np.ndarray, str], Reference]) -> None:
        from llasa_cli.codec.codec import read_codec_config

        self.checkpoint = checkpoint
        self.prompt_format = PromptFormat.load(checkpoint.folder, checkpoint.metadata)
        self.prompt_format.style_fields = checkpoint.style_fields
        self.sampling_rate = read_codec_config(checkpoint.codec_folder).sampling_rate
        self._encode = encode

    def encode_reference(self, samples: np.ndarray, text: str) -> Reference:
        """Make a voice to clone from a clip that `voices.reference` has prepared."""
        return self._encode(samples, text)


class _RayJob(SpeechJob):
    """A request and the call of a replica that is working on it."""

    def __init__(self, emit: Callable[[Event], None], sampling_rate: int, streamed: bool) -> None:
        super().__init__(emit, sampling_rate, streamed)
        self.accepted: Future[None] = Future()
        self.call: Any = None
        self.voice: Reference | None = None
        """The voice of the first utterance, if the others take theirs from it."""
        self.has_partial = False
        """Whether sound was sent of a chunk that is not complete."""
        self.notes: set[str] = set()

    def cancel(self) -> None:
        super().cancel()
        self.leave_replica()

    def leave_replica(self) -> None:
        """Free the slots that the request has in its replica."""
        if self.call is not None:
            self.call.cancel()


class RayService(JobQueue):
    """See the module.

    Args:
        address: The address of a running cluster; `auto` finds the one of this machine, `local` starts one.
        name: The name of the application in Ray Serve. An application that has it is replaced.
        checkpoint: The model of `config`, as it is on this machine.
        replicas: The number of replicas; None: one for each GPU of the cluster, or for each machine if it has no GPU.

    Raises:
        UsageError: Ray Serve is not installed, or the cluster has fewer GPUs than replicas.
        ModelError: The replicas can't load the model.
        LlasaError: There is no cluster at this address.
    """

    def __init__(
        self, address: str, name: str, checkpoint: Checkpoint, config: ReplicaConfig, replicas: int | None = None
    ) -> None:
        super().__init__(config.max_jobs)
        self._name, self._is_local = name, address == "local"
        self.synthesizer = ReplicatedModel(checkpoint, self._encode)
        asked = config.verifiers
        names = {"words": asked.recognizer, "likeness": asked.likeness, "likelihood": asked.likelihood}
        self.verifiers = tuple(name for name, is_loaded in names.items() if is_loaded)
        self._ray, self._starts_ray = connect_ray(address)
        self._serve = _import_serve()
        self._stopped = threading.Event()
        try:
            with interruptible():
                self._handle = self._deploy(replace(config, models=for_other_machines(config.models)), replicas)
                self._replicas = self._count_replicas()
        except BaseException:
            self._end()
            raise
        threading.Thread(target=self._watch, daemon=True).start()

    def _deploy(self, config: ReplicaConfig, replicas: int | None) -> Any:
        from ray.serve.config import ProxyLocation

        needs, count = _resources(self._ray.nodes(), config.models.device, replicas)
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        quiet = {"log_level": "ERROR"}
        self._serve.start(proxy_location=ProxyLocation.Disabled, logging_config=quiet)
        deployment = self._serve.deployment(SpeechReplica).options(
            num_replicas=count,
            max_ongoing_requests=config.max_jobs,
            ray_actor_options=needs,
            graceful_shutdown_timeout_s=1,  # `stop` has waited for the requests
            graceful_shutdown_wait_loop_s=0.1,
            max_constructor_retry_count=1,
        )
        try:
            return self._serve.run(deployment.bind(config), name=self._name, route_prefix=None, logging_config=quiet)
        except RuntimeError as error:
            raise _loading_error(str(error)) from error

    @property
    def replicas(self) -> int:
        """The number of replicas at the last count."""
        return self._replicas

    def _watch(self) -> None:
        while not self._stopped.wait(_STATUS_S):
            with suppress(Exception):  # the cluster's head may be restarting
                self._replicas = self._count_replicas()

    def _count_replicas(self) -> int:
        application = self._serve.status().applications.get(self._name)
        states = [one.replica_states for one in application.deployments.values()] if application else []
        return sum(state.get("RUNNING", 0) for state in states)

    def stop(self, deadline_s: float = 10.0) -> None:
        super().stop(deadline_s)
        self._end()

    def _end(self) -> None:
        """Remove the application; Ray Serve and Ray too, if they were started for it."""
        self._stopped.set()
        with suppress(Exception):  # the cluster may be gone
            if not self._is_local:  # a cluster of this process ends with it
                self._serve.delete(self._name)
                if not self._serve.status().applications:
                    self._serve.shutdown()
        if self._starts_ray:
            self._ray.shutdown()

    # --- requests ---

    def _job(self, emit: Callable[[Event], None], streamed: bool) -> _RayJob:
        return _RayJob(emit, self.synthesizer.sampling_rate, streamed)

    def _begin(self, job: SpeechJob, request: SynthesisRequest, judges: Sequence[str]) -> None:
        assert isinstance(job, _RayJob)
        threading.Thread(target=self._run, args=(job, request, judges), daemon=True).start()
        with suppress(FutureTimeout):  # there may be no replica at the moment
            job.accepted.result(_ACCEPT_S)

    def _run(self, job: _RayJob, request: SynthesisRequest, judges: Sequence[str]) -> None:
        try:
            self._pass_on(job, request, judges)
        except Exception as error:
            known = error if isinstance(error, LlasaError) else ModelError(f"A replica failed: {first_line(error)}")
            if not job.accepted.done():
                job.accepted.set_exception(known)
            else:
                self._fail(job, known)
        finally:
            self._remove(job)

    def _pass_on(self, job: _RayJob, request: SynthesisRequest, judges: Sequence[str]) -> None:
        """Send the events of the replicas until the last one.

        Raises:
            LlasaError: The request can't be continued.
        """
        losses = 0
        while not job.over:
            complete = len(job.utterances)
            rest = replace(
                request,
                skipped_chunks=request.skipped_chunks + complete,
                reference=request.reference or job.voice,
            )
            try:
                for events in self._events(job, rest, job.streamed and not complete, judges):
                    self._receive(job, events)
                    if job.over or (job.is_paused and not job.has_partial):
                        job.leave_replica()
                        break
            except self._ray.exceptions.RayActorError as error:
                losses = 1 if len(job.utterances) > complete else losses + 1
                if job.has_partial or losses > _MOST_LOSSES:
                    raise ModelError(
                        "The replica that generated the speech has died.", "Send the text again."
                    ) from error
                time.sleep(_POLL_S)
            while job.buffered_s > MAX_BUFFERED_S / 2 and not job.over:
                time.sleep(_POLL_S)

    def _events(
        self, job: _RayJob, request: SynthesisRequest, streamed: bool, judges: Sequence[str]
    ) -> Iterator[list[Event]]:
        job.call = self._handle.options(stream=True).speak.remote(request, streamed, tuple(judges))
        if job.over:  # cancelled meanwhile
            job.leave_replica()
        with suppress(self._ray.exceptions.TaskCancelledError):
            yield from job.call

    def _receive(self, job: _RayJob, events: list[Event]) -> None:
        """Pass on a list of events from a replica: the sound of a chunk follows its `Spoken`, or precedes it if it is streamed."""
        has_spoken = False
        for event in events:
            if isinstance(event, Audio):
                job.has_partial = job.has_partial or not has_spoken
                job.send(event.samples)
            elif isinstance(event, Spoken):
                utterance = event.utterance
                has_spoken, job.has_partial = not utterance.streamed, False
                job.utterances.append(utterance)
                if utterance.is_voice:
                    job.voice = Reference(utterance.text, utterance.codes)
                self.statistics.audio_s += utterance.seconds
                self.statistics.codes += len(utterance.codes)
                job.notify(event)
            elif isinstance(event, Note):
                if event.text not in job.notes:  # a replica that continues a text repeats it
                    job.notes.add(event.text)
                    job.notify(event)
            elif isinstance(event, Failed):
                raise event.error
            elif job.end(Done(tuple(job.utterances), event.chunks)):
                self.statistics.done += 1
        if not job.accepted.done():
            job.accepted.set_result(None)

    def _encode(self, samples: np.ndarray, text: str) -> Reference:
        found = self._handle.encode.remote(samples, text).result()
        if isinstance(found, LlasaError):
            raise found
        return found


def _resources(nodes: Sequence[Mapping[str, Any]], device: str, replicas: int | None) -> tuple[dict[str, float], int]:
    """The resources that Ray reserves for a replica, and the number of replicas.

    Without GPUs the replicas of a machine share its processors.

    Raises:
        UsageError: There are fewer GPUs than replicas.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU")]
    gpus = sum(int(node.get("GPU", 0)) for node in alive) if device in ("auto", "cuda") else 0
    if gpus:
        if (replicas or 0) > gpus:
            raise UsageError(f"The cluster has {gpus} GPUs for {replicas} replicas.", "Ask for fewer with --replicas.")
        return {"num_gpus": 1}, replicas or gpus
    if not alive:
        raise UsageError("The cluster has neither GPUs nor processors.", "Add a node: ray start --address ADDRESS.")
    count = replicas or len(alive)
    smallest = min(int(node["CPU"]) for node in alive)
    share = smallest / -(-count // len(alive))
    return {"num_cpus": int(share) if share >= 1 else share}, count


def _loading_error(report: str) -> LlasaError:
    """Extract the error of a replica from Ray Serve's report."""
    reasons = [line for line in report.splitlines() if line.startswith("llasa_cli.")]
    if not reasons:
        return ModelError(
            f"The replicas can't be started: {first_line(RuntimeError(report))}", "Look at the logs of Ray Serve."
        )
    return ModelError(f"A replica can't load the model: {reasons[-1].partition(': ')[2]}")


def _import_serve() -> Any:
    try:
        from ray import serve
    except ImportError as error:
        raise UsageError("llasa serve --ray needs Ray Serve.", "Install it: pip install 'llasa-cli[ray]'") from error
    return serve
