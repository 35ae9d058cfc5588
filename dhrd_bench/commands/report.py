"""The ``report`` command."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from dhrd_bench.report.leaderboard import EVERYTHING, Binary, Choice, Format, Leaderboard, analyse
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.store import write_bytes_atomically, write_text_atomically

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What ``dhrd-bench report`` was asked for.

    Attributes
    ----------
    results
        Folder of the records.
    choice
        What of them to report.
    format, output
        How to write it, and where; to the console by default.
    resamples, seed, against, margin
        As `analyse` takes them.
    details
        Whether to show the tables of details.
    wide
        Whether lines may be longer than the terminal.
    data_dir
        Folder with the rows of suites that are not embedded, for the inputs in a site.
    studies
        Folder of the studies that a site shows; `shown_studies` says what None is.
    """

    results: Path = Path("results")
    choice: Choice = EVERYTHING
    format: Format | Binary = "terminal"
    output: Path | None = None
    resamples: int = 10_000
    seed: int = 0
    against: str | None = None
    margin: float | None = None
    details: bool = False
    wide: bool = False
    data_dir: Path | None = None
    studies: Path | None = None

    @property
    def makes_site(self) -> bool:
        """Whether a folder is asked for: HTML anywhere but in a file of this name is a site."""
        return self.format == "html" and self.output is not None and self.output.suffix.lower() not in (".html", ".htm")

    def command_line(self) -> str:
        """Return the command line that makes the same report: the folder, and what is not by default."""
        words = ["dhrd-bench", "report", "--results", str(self.results)]
        for part in (self.choice, self):
            for option in fields(part):
                value = getattr(part, option.name)
                if option.name in ("results", "choice") or value == option.default:
                    continue
                words.append(f"--{option.name.replace('_', '-')}")
                if value is not True:
                    words.append(",".join(value) if isinstance(value, tuple) else str(value))
        return shlex.join(words)


def report_command(request: ReportRequest, console: Console | None = None) -> int:
    """Report the records of a folder.

    Returns
    -------
    int
        Exit code: 0, or 2 if a file could not be read. It is named, and the others are reported.

    Raises
    ------
    UserError
        If a name or number is none that can be used, there is nothing to report, or the output
        cannot be written.
    """
    from rich.console import Console

    from dhrd_bench.report.terminal import print_document

    screen = console or Console()
    table = load_results(request.results)
    leaderboard = analyse(
        table,
        request.choice,
        resamples=request.resamples,
        seed=request.seed,
        margin=request.margin,
        against=request.against,
        command=request.command_line(),
    )
    if request.output is not None and request.makes_site:
        from dhrd_bench.data.inputs import InputSource
        from dhrd_bench.site.build import INDEX, site_files, write_site
        from dhrd_bench.studies.folder import shown_studies

        studies = shown_studies(request.studies, request.results)
        made = site_files(leaderboard, request.choice, InputSource(request.data_dir), studies=studies)
        write_site(made, request.output)
        screen.print(f"Wrote {request.output / INDEX}", highlight=False, markup=False, soft_wrap=True)
    elif request.output is not None:
        _write(request.output, leaderboard, request)
        screen.print(f"Wrote {request.output}", highlight=False, markup=False, soft_wrap=True)
    elif request.format == "terminal":
        print_document(leaderboard.document(request.details), screen, request.wide)
    else:
        screen.file.write(leaderboard.render(request.format, request.details))
    for line in (*(f"Cannot read {problem}" for problem in leaderboard.problems), *table.notes):
        Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)
    return 2 if leaderboard.problems else 0


def _write(path: Path, leaderboard: Leaderboard, request: ReportRequest) -> None:
    if request.format == "parquet":
        write_bytes_atomically(path, leaderboard.rows().to_parquet(index=False))
    else:
        write_text_atomically(path, leaderboard.render(request.format, request.details))


def schema_command(output: Path | None) -> int:
    """Write the JSON schema of a report to a file, or to the console.

    Returns
    -------
    int
        0.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    from dhrd_bench.report.data import schema

    if output is None:
        sys.stdout.write(schema())
    else:
        write_text_atomically(output, schema())
    return 0
