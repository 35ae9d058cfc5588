"""The ``plot`` command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.report.leaderboard import EVERYTHING, Choice, analyse
from dhrd_bench.report.plotdata import DATA, data_of
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.store import write_bytes_atomically, write_text_atomically


@dataclass(frozen=True, kw_only=True)
class PlotRequest:
    """What ``dhrd-bench plot`` was asked for.

    Attributes
    ----------
    kind
        Name of the figure.
    output
        Its file; the suffix names the form. By default the name of the figure, as PDF.
    results, choice, resamples, seed, margin
        As `ReportRequest` has them.
    data
        Whether to write the data beside the figure, as CSV.
    """

    kind: str
    output: Path | None = None
    results: Path = Path("results")
    choice: Choice = field(default=EVERYTHING)
    resamples: int = 10_000
    seed: int = 0
    margin: float | None = None
    data: bool = False


def plot_command(request: PlotRequest, console: Console | None = None) -> int:
    """Draw a figure of the records of a folder.

    Returns
    -------
    int
        0.

    Raises
    ------
    UserError
        If there is no such figure, nothing to draw, matplotlib is missing, or a file cannot be written.
    """
    if request.kind not in DATA:
        raise UserError(f"There is no figure {request.kind!r}.", did_you_mean(request.kind, DATA))
    try:
        from dhrd_bench.report import plots
    except ImportError as error:
        raise UserError(f"Figures need matplotlib ({error}).", "pip install 'dhrd-bench[plot]'") from None
    output = request.output or Path(f"{request.kind}.pdf")
    suffix = plots.as_suffix(output.suffix or str(output))
    board = analyse(
        load_results(request.results), request.choice, resamples=request.resamples, seed=request.seed,
        margin=request.margin,
    )  # fmt: skip
    data = data_of(request.kind, board.boards)
    write_bytes_atomically(output, plots.draw(request.kind, data, suffix))
    written = [output]
    if request.data:
        written.append(output.with_suffix(".csv"))
        write_text_atomically(written[-1], data.to_csv(index=False, lineterminator="\n"))
    screen = console or Console()
    for path in written:
        screen.print(f"Wrote {path}", highlight=False, markup=False, soft_wrap=True)
    return 0
