"""The site that is served: to this machine, to read, as the records are now."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fakes
import pytest
from sites import BETA, unpacked

from dhrd_bench.commands.serve import ServeRequest, server_of
from dhrd_bench.errors import UserError
from dhrd_bench.site.live import LOOPBACK, LiveServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    results = tmp_path / "results"
    results.mkdir()
    served = server_of(ServeRequest(results=results, port=0))
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def ask(server: LiveServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, server.server_port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_a_site_is_made_anew_when_a_record_is_written(server: LiveServer) -> None:
    _, _, page = ask(server, "/")
    before = ask(server, "/revision")[2].decode()
    assert f'data-revision="{before}"' in page.decode()
    waiting = unpacked(ask(server, "/data/index.js")[2].decode())
    assert waiting["boards"] == []
    assert "No finished cell" in waiting["notes"][0]
    fakes.write(server.site.folder, fakes.records((BETA,), fakes.THREE[:2], (0,)))
    patience = time.monotonic() + 30
    while ask(server, "/revision")[2].decode() == before:
        assert time.monotonic() < patience
        time.sleep(0.1)
    (entry,) = unpacked(ask(server, "/data/index.js")[2].decode())["boards"]
    assert entry["cells"]["method"] == ["base", "better"]
    assert ask(server, "/data/board-0-task-0.js")[0] == 200


def test_it_is_for_this_machine_and_to_read(server: LiveServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        status, headers, _ = ask(server, "/", method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
    status, headers, body = ask(server, "/", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1000
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_page_of_another_name_that_leads_here_is_not_answered(server: LiveServer) -> None:
    port = server.server_port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        assert ask(server, "/revision", Host=host)[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "localhost", f"localhost:{port}.evil.example", ""):
        assert ask(server, "/revision", Host=host)[0] == 403


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/%2e%2e/etc/passwd", "//etc/passwd", "/data/../../x", "/data/", "/nothing"]
)
def test_there_is_no_way_to_another_file(server: LiveServer, path: str) -> None:
    assert ask(server, path)[0] == 404


def test_a_folder_or_port_that_is_not_to_be_had_is_said(server: LiveServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No results folder at"):
        server_of(ServeRequest(results=tmp_path / "gone", port=0))
    with pytest.raises(UserError, match=f"Cannot listen on port {server.server_port}: .* Name another with --port"):
        server_of(ServeRequest(results=tmp_path, port=server.server_port))
