"""The ``serve`` command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dhrd_bench.data.inputs import InputSource
from dhrd_bench.errors import UserError
from dhrd_bench.report.leaderboard import analyse
from dhrd_bench.results.loading import load_results
from dhrd_bench.site.build import site_files, waiting_files
from dhrd_bench.site.live import LiveServer, LiveSite
from dhrd_bench.studies.folder import shown_studies

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class ServeRequest:
    """What ``dhrd-bench serve`` was asked for.

    Attributes
    ----------
    results
        Folder of the records.
    port
        To listen on; 0 takes any that is free.
    data_dir
        Folder with the rows of suites that are not embedded.
    against, margin
        As `analyse` takes them.
    studies
        As `shown_studies` takes it.
    """

    results: Path = Path("results")
    port: int = 8000
    data_dir: Path | None = None
    against: str | None = None
    margin: float | None = None
    studies: Path | None = None

    def files(self, revision: str) -> dict[str, str]:
        """Return the files of the site as the records are now."""
        studies = shown_studies(self.studies, self.results)
        table = load_results(self.results)
        if table.cells.empty or not (table.cells["status"] == "ok").any():  # a grid that has just begun
            return waiting_files(
                f"No finished cell below {self.results} yet; this page looks again by itself.", revision
            )
        board = analyse(table, against=self.against, margin=self.margin)
        return site_files(board, source=InputSource(self.data_dir, private=True), revision=revision, studies=studies)


def server_of(request: ServeRequest) -> LiveServer:
    """Return the server of a request, listening, with its site made.

    Raises
    ------
    UserError
        If there is no such folder, or the port cannot be had.
    """
    if not request.results.is_dir():
        raise UserError(f"No results folder at {request.results}.", "Name the folder of the records with --results.")
    server = LiveServer(LiveSite(request.results, request.files), request.port)
    server.site.build()
    return server


def serve_command(request: ServeRequest, console: Console) -> int:
    """Serve until interrupted."""
    with server_of(request) as server:
        console.print(f"Serving {request.results} at {server.address} (Ctrl-C stops it)", highlight=False, markup=False)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print("Stopped.")
    return 0
