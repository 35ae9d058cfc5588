"""Figures for papers, by matplotlib: the same data make the same file.

Methods differ by colour (Okabe and Ito's, told apart by colour-blind readers), by mark and by line, so that a figure
printed in black says as much.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any, Literal, get_args

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter

from dhrd_bench.errors import UserError, did_you_mean, shown
from dhrd_bench.report.figures import p_said
from dhrd_bench.stats.design import Floats

Suffix = Literal["pdf", "svg", "png"]
SUFFIXES: tuple[Suffix, ...] = get_args(Suffix)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = "os^DvPX<>*"
LINES = ("-", "--", "-.", ":")
WIDTH, HEIGHT = 5.5, 3.2
"""Inches: the text of a page in one column."""
_STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
    "grid.linewidth": 0.5, "lines.linewidth": 1.2, "lines.markersize": 4.5, "legend.frameon": False,
    "savefig.bbox": "tight", "savefig.dpi": 300, "pdf.fonttype": 42, "figure.constrained_layout.use": True,
    "svg.hashsalt": "dhrd-bench",  # ids that are the same every time
    "text.parse_math": False,  # a method may be called $x$
}  # fmt: skip
_UNDATED: dict[Suffix, dict[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def as_suffix(name: str) -> Suffix:
    """Return the form of a figure that a file's suffix names.

    Raises
    ------
    UserError
        If there is no such form.
    """
    for known in SUFFIXES:
        if name.lower().lstrip(".") == known:
            return known
    raise UserError(f"A figure cannot be written as {name!r}.", did_you_mean(name.lstrip("."), SUFFIXES))


def draw(kind: str, data: pd.DataFrame, suffix: Suffix) -> bytes:
    """Return the file of a figure of this kind; `data` as `dhrd_bench.report.plotdata.data_of` gives them."""
    stream = io.BytesIO()
    with _styled(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # it is drawn as a box
        figure = Figure(figsize=(WIDTH, HEIGHT))
        DRAWN[kind](figure, data)
        figure.savefig(stream, format=suffix, metadata=_UNDATED[suffix])
    return stream.getvalue()


@contextmanager
def _styled() -> Iterator[None]:
    """Draw in our style, whatever the user's is."""
    with mpl.rc_context(mpl.rcParamsDefault), mpl.rc_context(_STYLE):
        yield


def _looks(data: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, dict[str, Any]]]:
    """Yield the rows of each method, in their order, and what it looks like."""
    every = zip(cycle(COLOURS), cycle(MARKS), cycle(LINES))
    for method, (colour, mark, line) in zip(dict.fromkeys(data["method"]), every, strict=False):
        look = {"color": colour, "marker": mark, "linestyle": line, "label": _folded(method)}
        yield data[data["method"] == method], look


def _folded(name: object) -> str:
    """Return a name on lines that leave room for the figure."""
    return "\n".join(textwrap.wrap(shown(str(name)), 26))


def _legend(figure: Figure, handles: Sequence[Artist], title: str | None = None) -> None:
    figure.legend(handles=handles, loc="outside right upper", handlelength=2.6, title=title)


def _errors(middle: pd.Series, low: pd.Series, high: pd.Series) -> Floats:
    return np.asarray(np.nan_to_num(np.stack([middle - low, high - middle]).clip(min=0), posinf=0.0))


def pareto(figure: Figure, data: pd.DataFrame) -> None:
    """Draw score against QPS with both intervals; those on the front are filled and joined by stairs."""
    axes = figure.subplots()
    for rows, look in _looks(data):
        axes.errorbar(
            rows["qps"], rows["score"], xerr=_errors(rows["qps"], rows["qps_low"], rows["qps_high"]),
            yerr=_errors(rows["score"], rows["score_low"], rows["score_high"]), elinewidth=0.8, capsize=2,
            markerfacecolor=look["color"] if rows["on_front"].all() else "white", **look | {"linestyle": "none"},
        )  # fmt: skip
    front = data[data["on_front"]].sort_values("qps")
    axes.step(front["qps"], front["score"], where="pre", color="#777777", linewidth=0.8, linestyle=":", zorder=0)
    if data["qps"].max() > 2 * data["qps"].min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.set(xlabel="examples per second", ylabel="score")
    _legend(figure, axes.get_legend_handles_labels()[0], "filled: on the front")


def gains(figure: Figure, data: pd.DataFrame) -> None:
    """Draw every method's gain with its interval; filled if it was shown, and with what could have been found."""
    figure.set_figheight(0.9 + 0.28 * len(data))
    axes = figure.subplots()
    ends = data[["low", "high", "gain", "detectable"]].replace([np.inf, -np.inf], np.nan)
    least, most = float(np.nanmin(ends.to_numpy())), float(np.nanmax(ends.to_numpy()))
    least = min(least, -float(np.nanmax([0.0, *ends["detectable"]])))
    margin = data["margin"].iloc[0]
    if not np.isnan(margin):
        axes.axvspan(-margin, margin, color="#dddddd", zorder=0, label=f"within {margin:g} %: of no interest")
    axes.axvline(0, color="black", linewidth=0.8)
    y = np.arange(len(data))[::-1]
    for side in (-1, 1):
        label = "could have been found" if side == 1 else None
        axes.plot(side * data["detectable"], y, "|", color="#555555", markersize=9, label=label)
    for at, row in zip(y, data.to_dict("records"), strict=True):
        _gain(axes, at, row, (least, most))
    axes.set_yticks(y, [_folded(method) for method in data["method"]])
    axes.set_ylim(-0.6, len(data) - 0.4)
    axes.set(xlabel="gain over the baseline in %")
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=2)


def _gain(axes: Axes, at: int, row: dict[Hashable, Any], ends: tuple[float, float]) -> None:
    """Draw a gain at this height, its interval as far as the axis goes, and what is shown."""
    gain, finding = row["gain"], row["finding"]
    low, high = np.nan_to_num([row["low"], row["high"]], nan=gain, neginf=ends[0], posinf=ends[1])
    axes.plot([low, high], [at, at], color="black", linewidth=1.2)
    if np.isinf(row["high"]):
        axes.plot(ends[1], at, ">", color="black")
    fill = "white" if finding == "undecided" else "black"
    axes.plot(gain, at, "D" if finding == "equivalent" else "o", color="black", markerfacecolor=fill)
    said = finding if pd.isna(row["p"]) else f"{finding}, {p_said(row['p'])}"
    axes.annotate(said, (1.01, at), xycoords=("axes fraction", "data"), va="center")


def curves(figure: Figure, data: pd.DataFrame) -> None:
    """Draw scores by training rows, or dev accuracy by epoch."""
    axes = figure.subplots()
    for rows, look in _looks(data):
        axes.plot(rows["x"], rows["value"], **look)
        axes.fill_between(rows["x"], rows["low"], rows["high"], color=look["color"], alpha=0.12, linewidth=0)
    axis = data["axis"].iloc[0]
    if axis == "training rows":
        axes.set_xscale("log")
    axes.set_xticks(sorted(set(data["x"])), [f"{x:g}" for x in sorted(set(data["x"]))], minor=False)
    axes.minorticks_off()
    axes.set(xlabel=axis, ylabel="score" if axis == "training rows" else "dev accuracy (band: seeds)")
    _legend(figure, axes.get_legend_handles_labels()[0])


def power(figure: Figure, data: pd.DataFrame) -> None:
    """Draw the detectable difference by seeds and by test examples; what was run is marked."""
    kinds = list(dict.fromkeys(data["axis"]))
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        for rows, look in _looks(data[data["axis"] == kind]):
            axes.plot(rows["x"], rows["detectable"], **look | {"marker": ""})
            now = rows[rows["now"]]
            axes.plot(now["x"], now["detectable"], **look | {"linestyle": "none", "label": ""})
        if kind == "test examples":
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}×")
        axes.set(xlabel=kind)
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("difference found with 80 % power, in points")
    _legend(figure, [Line2D([], [], **look) for _, look in _looks(data)])


def calibration(figure: Figure, data: pd.DataFrame) -> None:
    """Draw a reliability diagram with an interval a bin, and the error rate by the share of rows that are answered."""
    left, right = figure.subplots(1, 2)
    for rows, look in _looks(data):
        sure, kept = rows[rows["axis"] == "probability"], rows[rows["axis"] == "coverage"]
        ends = _errors(sure["value"], sure["low"], sure["high"])
        left.errorbar(sure["x"], sure["value"], yerr=ends, elinewidth=0.8, capsize=2, **look)
        right.plot(kept["x"], kept["value"], **look | {"marker": ""})
    left.plot([0, 1], [0, 1], color="#777777", linewidth=0.8, zorder=0)
    left.set(xlabel="probability of the answer", ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1))
    right.set(xlabel="share answered, the surest first", ylabel="error rate among them", xlim=(0, 1))
    right.set_ylim(bottom=0)
    right.xaxis.set_major_formatter(PercentFormatter(1))
    _legend(figure, left.get_legend_handles_labels()[0])


def seeds(figure: Figure, data: pd.DataFrame) -> None:
    """Draw the score of every seed beside the mean and its interval; seeds that collapsed are crosses."""
    axes = figure.subplots()
    names = []
    for at, (rows, look) in enumerate(_looks(data)):
        names.append(look["label"])
        for frail, mark in ((False, "o"), (True, "x")):
            own = rows[rows["collapsed"] == frail]
            axes.plot(np.full(len(own), at), own["score"], mark, color=look["color"], markerfacecolor="none")
        first = rows.iloc[:1]
        axes.errorbar(
            [at + 0.2], first["mean"], yerr=_errors(first["mean"], first["low"], first["high"]), fmt="_", capsize=3,
            color="black",
        )  # fmt: skip
    turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if len(names) > 4 else {}
    axes.set_xticks(range(len(names)), names, **turned)
    axes.set_ylabel("score (×: a task collapsed)")
    axes.grid(visible=False, axis="x")


DRAWN: dict[str, Callable[[Figure, pd.DataFrame], None]] = {
    "pareto": pareto, "gains": gains, "curves": curves, "power": power, "calibration": calibration, "seeds": seeds,
}  # fmt: skip
"""By the figure's name: what draws it."""
