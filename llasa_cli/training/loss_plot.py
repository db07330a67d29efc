"""log.jsonl -> loss.svg: the losses of a run as a picture for any browser. No plotting library is among the dependencies."""

from __future__ import annotations

import json
import math
from pathlib import Path

from llasa_cli.files import write_text

_COLORS = {"loss": "#1f77b4", "held_out": "#d62728", "text_gain": "#2ca02c"}
_WIDTH, _HEIGHT, _MARGIN = 800, 400, 50
_MAX_POINTS = 1000


def draw_losses(log: Path, picture: Path) -> None:
    """Read the log and write the picture; nothing is written while the log has no loss."""
    lines = {name: points for name, points in _read_losses(log).items() if points}
    if not lines:
        return
    right = max(points[-1][0] for points in lines.values()) or 1.0
    values = [value for points in lines.values() for _, value in points]
    low, high = min(0.0, *values), max(values)
    high = high if high > low else low + 1.0

    def place(step: float, value: float) -> tuple[float, float]:
        across, down = (_WIDTH - 2 * _MARGIN) * step / right, (_HEIGHT - 2 * _MARGIN) * (high - value) / (high - low)
        return round(_MARGIN + across, 1), round(_MARGIN + down, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
    ]
    for value in _round_numbers(low, high):
        x, y = place(0, value)
        parts.append(f'<path d="M{x} {y}H{_WIDTH - _MARGIN}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for value in _round_numbers(0, right):
        x, y = place(value, low)
        parts.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 12}" text-anchor="middle">step</text>')
    for index, (name, points) in enumerate(lines.items()):
        shown = points[:: max(1, len(points) // _MAX_POINTS)]
        path = "L".join("{},{}".format(*place(*point)) for point in [shown[0], *shown])  # a single point is drawn too
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{_COLORS[name]}" stroke-width="2" stroke-linecap="round"/>'
        )
        label = f"{name.replace('_', ' ')} {points[-1][1]:.4g}"
        parts.append(f'<text x="{_WIDTH - 160}" y="{34 + 16 * index}" fill="{_COLORS[name]}">{label}</text>')
    write_text(picture, "\n".join([*parts, "</svg>\n"]))


def _read_losses(log: Path) -> dict[str, list[tuple[float, float]]]:
    """Name -> (step, value). Of a step that was repeated after an interruption, the last value counts."""
    found: dict[str, dict[float, float]] = {name: {} for name in _COLORS}
    if log.is_file():
        for line in log.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # half a line, written when the process was killed
                continue
            for name, points in found.items():
                if isinstance(entry.get(name), (int, float)) and math.isfinite(entry[name]):
                    points[float(entry["step"])] = float(entry[name])
    return {name: sorted(points.items()) for name, points in found.items()}


def _round_numbers(low: float, high: float) -> list[float]:
    """About five round numbers, whose distance is 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / 5))
    distance = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= (high - low) / 5)
    return [
        round(distance * number, 10) for number in range(math.ceil(low / distance), int(high / distance + 1e-9) + 1)
    ]
