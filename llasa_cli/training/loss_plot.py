"""log.jsonl -> loss.svg: the losses of a run as a picture for any browser, drawn without a library."""

from __future__ import annotations

import json
import math
from pathlib import Path

from llasa_cli.files import write_text

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 800, 400, 60, 20, 20, 40
_COLORS = {"loss": "#1f77b4", "held_out": "#d62728", "text_gain": "#2ca02c"}
_MAX_POINTS = 1000

Point = tuple[float, float]


def draw_losses(log: Path, picture: Path) -> None:
    """Read the log and write the picture; nothing is written while the log has no loss."""
    lines = {name: points for name, points in read_losses(log).items() if points}
    if not lines:
        return
    write_text(picture, svg(lines))


def read_losses(log: Path) -> dict[str, list[Point]]:
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


def svg(lines: dict[str, list[Point]]) -> str:
    """A curve for each name over the steps, with axes at round numbers and the names in the colors of the curves."""
    points_of_all = [point for points in lines.values() for point in points]
    most_x = max(x for x, _ in points_of_all) or 1.0
    low, high = min(0.0, *(y for _, y in points_of_all)), max(y for _, y in points_of_all)
    high = high if high > low else low + 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / most_x
        down = _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - y) / (high - low)
        return round(across, 1), round(down, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
    ]
    for value in _round_numbers(low, high):
        x, y = place(0, value)
        parts.append(f'<path d="M{x} {y}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for value in _round_numbers(0, most_x):
        x, y = place(value, low)
        parts.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">step</text>')
    for index, (name, points) in enumerate(lines.items()):
        shown = points[:: max(1, len(points) // _MAX_POINTS)]
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in shown))
        color = _COLORS.get(name, "black")
        if len(shown) == 1:
            x, y = place(*shown[0])
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{color}"/>')
        else:
            parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        label = f"{name.replace('_', ' ')} {points[-1][1]:.4g}"
        parts.append(f'<text x="{_WIDTH - 150}" y="{_TOP + 14 + 16 * index}" fill="{color}">{label}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _round_numbers(low: float, high: float) -> list[float]:
    """About five round numbers, whose distance is 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    distance = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / distance)
    return [round(distance * number, 10) for number in range(first, int(high / distance + 1e-9) + 1)]
