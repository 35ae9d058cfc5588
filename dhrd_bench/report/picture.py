"""Score against throughput as a picture in a page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from dhrd_bench.report.tables import number, speed
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.pareto import Point

STYLE = """\
svg { display: block; max-width: 100%; height: auto; margin: .8rem 0; font-size: 12px; fill: currentColor; }
svg line, svg path { stroke: var(--dim); fill: none; } svg .grid { stroke: var(--line); }
svg .front { stroke: var(--good); stroke-width: 1.5; } svg .on { fill: var(--good); } svg .axis { fill: var(--dim); }
"""
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM, _LINE = 860, 420, 52, 190, 12, 44, 14


def as_svg(points: Sequence[Point]) -> str:
    """Draw score against QPS (logarithmic) with both intervals and the front; empty without a method that has a QPS."""
    placed = [(point, point.qps) for point in points if point.qps is not None and point.qps.value > 0]
    if not placed:
        return ""
    # Two seeds can leave an interval of many powers of ten; it is cut where it would press the rest together.
    least, most = (end(qps.value for _, qps in placed) for end in (min, max))
    fast = {
        point.method: (max(_interval(qps)[0], least / 3), min(_interval(qps)[1], most * 3)) for point, qps in placed
    }
    left, right = _ends([math.log10(end) for ends in fast.values() for end in ends], 0.3)
    low, high = _ends([end for point, _ in placed for end in _interval(point.score)], 5.0)

    def x(qps: float) -> float:
        return _LEFT + (math.log10(qps) - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def y(score: float) -> float:
        return _HEIGHT - _BOTTOM - (score - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    floor = _HEIGHT - _BOTTOM
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="Score against QPS">']
    for tick in _log_ticks(left, right):
        parts.append(_line(x(tick), _TOP, x(tick), floor, "grid"))
        parts.append(_text(x(tick), floor + 16, speed(tick), "axis", "middle"))
    for tick in _ticks(low, high):
        parts.append(_line(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), "grid"))
        parts.append(_text(_LEFT - 6, y(tick) + 4, number(tick, 0 if tick == int(tick) else 1), "axis", "end"))
    parts.append(_text(_LEFT, floor + 34, "QPS (logarithmic), score upwards; bars are 95 % intervals", "axis"))
    steps = sorted((qps.value, point.score.value) for point, qps in placed if point.on_front)
    path = f"M {_LEFT} {y(steps[0][1]):.1f}" + "".join(f" V {y(score):.1f} H {x(qps):.1f}" for qps, score in steps)
    parts.append(f'<path class="front" d="{path} V {floor}"/>')
    taken: list[tuple[float, float]] = []
    for point, qps in sorted(placed, key=lambda one: -one[0].score.value):
        at, up = x(qps.value), y(point.score.value)
        slow_end, fast_end = fast[point.method]
        parts.append(_line(x(slow_end), up, x(fast_end), up))
        low_end, high_end = _interval(point.score)
        parts.append(_line(at, y(low_end), at, y(high_end)))
        parts.append(f'<circle class="{"on" if point.on_front else "off"}" cx="{at:.1f}" cy="{up:.1f}" r="4"/>')
        # Names of methods that lie together go below each other, in the lower half above.
        where = up - 5
        while any(abs(where - other) < _LINE and abs(at - its) < _RIGHT for its, other in taken):
            where += 1 if up < _HEIGHT / 2 else -1
        taken.append((at, where))
        parts.append(_text(at + 7, where, point.method))
    return "\n".join([*parts, "</svg>"])


def _interval(estimate: Estimate) -> tuple[float, float]:
    if estimate.low is None or estimate.high is None:
        return estimate.value, estimate.value
    return estimate.low, estimate.high


def _ends(values: Sequence[float], least: float) -> tuple[float, float]:
    """Return the ends of an axis: a little beyond the `values`, and `least` apart."""
    middle, half = (min(values) + max(values)) / 2, max((max(values) - min(values)) * 0.55, least / 2)
    return middle - half, middle + half


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(left: float, right: float) -> list[float]:
    """Return tens, with twos and fives between them where there are few."""
    factors = (1, 2, 5) if right - left < 3 else (1,)
    ticks = [f * 10.0**k for k in range(math.floor(left), math.ceil(right) + 1) for f in factors]
    inside = [tick for tick in ticks if left <= math.log10(tick) <= right]
    return inside if len(inside) > 1 else [10**left, 10**right]


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "bar") -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str = "name", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
