"""The metrics of a server in Prometheus' text format."""

from __future__ import annotations

import math
from collections.abc import Collection

from llasa_cli.serve.service import JobQueue

FIRST_SOUNDS_KEPT = 1000


def metrics_text(service: JobQueue, first_sounds: Collection[float]) -> str:
    """-> the response of `/metrics`

    Args:
        first_sounds: The seconds that the last `FIRST_SOUNDS_KEPT` requests took to their first bytes.
    """
    counts = service.statistics
    rows: list[tuple[str, str, str, float | None]] = [
        ("llasa_requests_total", "counter", "Requests accepted.", counts.requests),
        ("llasa_requests_done_total", "counter", "Requests completed.", counts.done),
        ("llasa_requests_failed_total", "counter", "Requests that failed.", counts.failed),
        ("llasa_requests_cancelled_total", "counter", "Requests whose client disconnected.", counts.cancelled),
        ("llasa_requests_rejected_total", "counter", "Requests refused because of the queue.", counts.rejected),
        ("llasa_codes_total", "counter", "Speech codes generated.", counts.codes),
        ("llasa_steps_total", "counter", "Decode steps of the model.", None if service.slots is None else counts.steps),
        ("llasa_audio_seconds_total", "counter", "Seconds of sound generated.", counts.audio_s),
        ("llasa_requests_active", "gauge", "Requests in progress.", service.active),
        ("llasa_slots_used", "gauge", "Sequences in the batch.", service.running),
        ("llasa_slots", "gauge", "Slots of the batch.", service.slots),
        ("llasa_replicas", "gauge", "Replicas of the model that run.", service.replicas),
    ]
    lines = []
    for name, kind, text, known in rows:
        if known is not None:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {known:g}"]
    lines += [
        f"# HELP llasa_first_sound_seconds Time to the first bytes, last {FIRST_SOUNDS_KEPT:,} requests.",
        "# TYPE llasa_first_sound_seconds summary",
    ]
    ordered = sorted(first_sounds)
    for share in (0.5, 0.95):
        value = ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))] if ordered else math.nan
        lines.append(f'llasa_first_sound_seconds{{quantile="{share}"}} {value:g}')
    return "\n".join(lines) + "\n"
