"""Score against throughput as the marks of a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dhrd_bench.report.figures import number, three_digits
from dhrd_bench.stats.cascade import Frontier
from dhrd_bench.stats.intervals import Estimate
from dhrd_bench.stats.pareto import Point

WIDTH, HEIGHT = 860, 420
_LEFT, _RIGHT, _TOP, _BOTTOM, _LINE = 52, 190, 12, 44, 14
_FLOOR = HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Mark:
    """An SVG element: its tag, its attributes and the text in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass(frozen=True)
class Frame:
    """The ends of both axes, and the intervals of QPS as they are drawn.

    Attributes
    ----------
    left, right
        Powers of ten of QPS.
    low, high
        Scores.
    bars
        Ends of each method's interval of QPS.
    """

    left: float
    right: float
    low: float
    high: float
    bars: dict[str, tuple[float, float]]

    @classmethod
    def around(cls, placed: Sequence[tuple[Point, Estimate]], frontiers: Sequence[Frontier] = ()) -> Frame:
        """Return the frame that holds all these methods, and what lies between them."""
        # Two seeds can leave an interval of many powers of ten; it is cut where it would press the rest together.
        least, most = (end(qps.value for _, qps in placed) for end in (min, max))
        bars = {
            point.method: (max(_interval(qps)[0], least / 3), min(_interval(qps)[1], most * 3)) for point, qps in placed
        }
        steps = [step for frontier in frontiers for step in frontier.steps]
        paces = [*(end for ends in bars.values() for end in ends), *(step.qps.value for step in steps)]
        scores = [*(point.score for point, _ in placed), *(step.score for step in steps)]
        left, right = _ends([math.log10(pace) for pace in paces], 0.3)
        low, high = _ends([end for score in scores for end in _interval(score)], 5.0)
        return cls(left, right, low, high, bars)

    def x(self, qps: float) -> float:
        """Return where a QPS is drawn, from the left."""
        return _LEFT + (math.log10(qps) - self.left) / (self.right - self.left) * (WIDTH - _LEFT - _RIGHT)

    def y(self, score: float) -> float:
        """Return where a score is drawn, from the top."""
        return _FLOOR - (score - self.low) / (self.high - self.low) * (_FLOOR - _TOP)


def draw(points: Sequence[Point], frontiers: Sequence[Frontier] = ()) -> list[Mark]:
    """Draw score against QPS (logarithmic) with both intervals, the front, and what cascades would give.

    Nothing is drawn if no method has a QPS.
    """
    placed = [(point, point.qps) for point in points if point.qps is not None and point.qps.value > 0]
    if not placed:
        return []
    frame = Frame.around(placed, frontiers)
    between = [mark for frontier in frontiers for mark in _cascade(frame, frontier)]
    return [*_axes(frame, bool(frontiers)), *between, _front(frame, placed), *_methods(frame, placed)]


def _axes(frame: Frame, cascades: bool) -> Iterator[Mark]:
    for tick in _log_ticks(frame.left, frame.right):
        x = frame.x(tick)
        yield _line(x, _TOP, x, _FLOOR, "grid")
        yield _text(x, _FLOOR + 16, three_digits(tick), "axis", "middle")
    for tick in _ticks(frame.low, frame.high):
        y = frame.y(tick)
        yield _line(_LEFT, y, WIDTH - _RIGHT, y, "grid")
        yield _text(_LEFT - 6, y + 4, number(tick, 0 if tick == int(tick) else 1), "axis", "end")
    bands = "; broken lines: from handing on nothing to everything" if cascades else ""
    yield _text(_LEFT, _FLOOR + 34, f"QPS (logarithmic), score upwards; bars are 95 % intervals{bands}", "axis")


def _cascade(frame: Frame, frontier: Frontier) -> Iterator[Mark]:
    """Yield the band of the scores' intervals and, on it, the line from the fast method to the slow one."""
    middle = [(frame.x(step.qps.value), step.score.value) for step in frontier.steps]
    ends = [_interval(step.score) for step in frontier.steps]
    lower = [(x, low) for (x, _), (low, _) in zip(middle, ends, strict=True)]
    upper = [(x, high) for (x, _), (_, high) in zip(middle, ends, strict=True)]
    yield Mark("path", {"class": "band", "d": f"{_path(frame, [*lower, *reversed(upper)])} Z"})
    yield Mark("path", {"class": "frontier", "d": _path(frame, middle)})
    x, score = middle[-1]
    yield _text(x, frame.y(score) + _LINE, frontier.name, "axis")


def _path(frame: Frame, places: Sequence[tuple[float, float]]) -> str:
    return "M " + " L ".join(f"{x:.1f} {frame.y(score):.1f}" for x, score in places)


def _front(frame: Frame, placed: Sequence[tuple[Point, Estimate]]) -> Mark:
    """Return the front as stairs from the slowest of its methods to the fastest."""
    steps = sorted((qps.value, point.score.value) for point, qps in placed if point.on_front)
    stairs = "".join(f" V {frame.y(score):.1f} H {frame.x(qps):.1f}" for qps, score in steps)
    return Mark("path", {"class": "front", "d": f"M {_LEFT} {frame.y(steps[0][1]):.1f}{stairs} V {_FLOOR}"})


def _methods(frame: Frame, placed: Sequence[tuple[Point, Estimate]]) -> Iterator[Mark]:
    taken: list[tuple[float, float]] = []
    for point, qps in sorted(placed, key=lambda pair: -pair[0].score.value):
        x, y = frame.x(qps.value), frame.y(point.score.value)
        slow_end, fast_end = frame.bars[point.method]
        yield _line(frame.x(slow_end), y, frame.x(fast_end), y)
        low_end, high_end = _interval(point.score)
        yield _line(x, frame.y(low_end), x, frame.y(high_end))
        kind = "on" if point.on_front else "off"
        yield Mark("circle", {"class": kind, "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4"})
        # Names of methods that lie together go below each other, in the lower half above.
        name_y = y - 5
        while any(abs(name_y - other_y) < _LINE and abs(x - other_x) < _RIGHT for other_x, other_y in taken):
            name_y += 1 if y < HEIGHT / 2 else -1
        taken.append((x, name_y))
        yield _text(x + 7, name_y, point.method)


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


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "bar") -> Mark:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return Mark("line", {"class": kind} | {name: f"{value:.1f}" for name, value in ends.items()})


def _text(x: float, y: float, text: str, kind: str = "name", anchor: str = "start") -> Mark:
    return Mark("text", {"class": kind, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}, text)
