"""A document as one HTML page that needs nothing else, and its picture."""

from __future__ import annotations

from collections.abc import Sequence

import jinja2

from dhrd_bench.report import picture
from dhrd_bench.report.layout import Document
from dhrd_bench.stats.cascade import Frontier
from dhrd_bench.stats.pareto import Point

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("dhrd_bench.report"),
    autoescape=True,  # names, errors and notes are anybody's text
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_TEMPLATES.globals.update(draw=picture.draw, width=picture.WIDTH, height=picture.HEIGHT)


def as_html(document: Document) -> str:
    """Return `document` as one HTML page."""
    return _TEMPLATES.get_template("leaderboard.html.j2").render(document=document) + "\n"


def as_svg(points: Sequence[Point], frontiers: Sequence[Frontier] = ()) -> str:
    """Return score against QPS as an SVG picture; empty without a method that has a QPS."""
    return _TEMPLATES.get_template("picture.svg.j2").render(marks=picture.draw(points, frontiers))
