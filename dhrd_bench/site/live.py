"""A site that is served on this machine only, and made anew when records change."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dhrd_bench.errors import UserError
from dhrd_bench.site.build import INDEX, policy

LOOPBACK = "127.0.0.1"
REVISION = "revision"
"""What the page asks for to know whether there is a newer one."""
_LOOK_SECONDS = 1.0
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}

Make = Callable[[str], dict[str, str]]
"""Makes the files of a site of a revision."""


def revision_of(folder: Path) -> str:
    """Return a digest of what lies in a folder of results: names, sizes and times of its files."""
    found = []
    for path in folder.rglob("*"):
        try:
            state = path.stat()
        except OSError:  # it was there a moment ago
            continue
        if not path.name.endswith(".tmp"):
            found.append(f"{path}\0{state.st_size}\0{state.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(found)).encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass
class LiveSite:
    """The files that are served, from memory: there is no way to another file.

    Attributes
    ----------
    folder
        Of the records.
    make
        Makes the files of a revision.
    """

    folder: Path
    make: Make
    files: dict[str, bytes] = field(default_factory=dict)
    revision: str = ""
    _tried: str = ""
    _looked: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def build(self) -> None:
        """Make the site of what lies in the folder now."""
        self._tried = revision = revision_of(self.folder)
        made = {path: text.encode() for path, text in self.make(revision).items()}
        self.files, self.revision = made, revision

    def look(self) -> str:
        """Return the revision that is served; a newer one is made beside it, one at a time."""
        if time.monotonic() - self._looked > _LOOK_SECONDS and self._lock.acquire(blocking=False):
            self._looked = time.monotonic()
            threading.Thread(target=self._renew, daemon=True).start()
        return self.revision

    def _renew(self) -> None:
        try:
            if revision_of(self.folder) != self._tried:
                self.build()
        except UserError:  # records that are of no use for now: what was served still is
            pass
        finally:
            self._looked = time.monotonic()
            self._lock.release()


class LiveServer(ThreadingHTTPServer):
    """Serves a site to this machine."""

    daemon_threads = True

    def __init__(self, site: LiveSite, port: int) -> None:
        self.site = site
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            message = f"Cannot listen on port {port}: {getattr(error, 'strerror', None) or error}."
            raise UserError(message, "Name another with --port; 0 takes any.") from error

    @property
    def hosts(self) -> frozenset[str]:
        """What a request may call this host: a page of another name that leads here is not answered."""
        return frozenset(f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost"))

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{LOOPBACK}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    server_version, sys_version = "dhrd-bench", ""
    timeout = 30
    protocol_version = "HTTP/1.1"

    def parse_request(self) -> bool:
        """Refuse what does not come from a page of this server, or wants more than to read."""
        if not super().parse_request():
            return False
        if self.command not in ("GET", "HEAD"):
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, b"read-only\n", Allow="GET, HEAD")
            self.close_connection = True
            return False
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            self._answer(HTTPStatus.FORBIDDEN, b"no such host\n")
            self.close_connection = True
            return False
        return True

    def do_GET(self) -> None:
        """Answer with a file of the site, or with its revision."""
        path = urlsplit(self.path).path.removeprefix("/") or INDEX
        site = self.server.site
        if path == REVISION:
            self._answer(HTTPStatus.OK, site.look().encode())
        elif (content := site.files.get(path)) is not None:
            self._answer(HTTPStatus.OK, content, _TYPES[Path(path).suffix])
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"no such page\n")

    do_HEAD = do_GET  # noqa: N815  as the base class looks for it

    def _answer(self, status: HTTPStatus, content: bytes, kind: str = "text/plain", **more: str) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": f"{policy(live=True)}; frame-ancestors 'none'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in (headers | more).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  as the base class calls it
        """Print nothing: what a page asks for is of no interest."""
