"""An OpenAI-compatible endpoint on loopback that misbehaves to order, and jobs that ask it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dhrd_bench.data.rationales import RationaleStore
from dhrd_bench.rationales.generate import Job, TeacherRow
from dhrd_bench.rationales.prompts import load_prompt
from dhrd_bench.rationales.teachers.choose import make_teacher
from dhrd_bench.rationales.teachers.teacher import TeacherSettings

KEY = "sk-fake-0123456789abcdefKEY"
ROWS = [TeacherRow(i, f"{i:016x}", f"Input number {i}.", i % 2, bool(i % 2)) for i in range(12)]
REASONING = "The text says so in its first line. From there only one reading is left."


@dataclass
class Act:
    """What the server does with one request."""

    status: int = 200
    text: str = REASONING + " [END OF REASONING]\nYes"
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    finish: str = "stop"
    bytes_sent: float = 1.0
    wait: float = 0.0
    claim_length: bool = True


@dataclass
class TeacherServer:
    """Requests seen so far, and how to answer the next: ``act(number, user_text)``."""

    act: Callable[[int, str], Act]
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorisations: list[str | None] = field(default_factory=list)
    replied: list[str] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    lock: Any = field(default_factory=threading.Lock)
    url: str = ""
    server: ThreadingHTTPServer | None = None

    def die(self) -> None:
        """Stop listening at once; requests under way lose their connection."""
        assert self.server is not None
        self.server.socket.close()
        threading.Thread(target=self.server.shutdown, daemon=True).start()


@contextmanager
def serve(act: Callable[[int, str], Act] = lambda number, user: Act()) -> Iterator[TeacherServer]:
    state = TeacherServer(act)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            user = request["messages"][-1]["content"]
            with state.lock:
                number = len(state.requests)
                state.requests.append(request)
                state.authorisations.append(self.headers.get("Authorization"))
                state.under_way += 1
                state.most_under_way = max(state.most_under_way, state.under_way)
            try:
                act = state.act(number, user)
                if act.wait:
                    time.sleep(act.wait)
                self._answer(act, request, user)
            finally:
                with state.lock:
                    state.under_way -= 1

        def _answer(self, act: Act, request: dict[str, Any], user: str) -> None:
            message = {"role": "assistant", "content": act.text}
            content = act.body or {
                "id": "c",
                "object": "chat.completion",
                "created": 0,
                "model": request["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": act.finish}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
            }
            whole = json.dumps(content).encode()
            sent = whole[: int(len(whole) * act.bytes_sent)]
            self.send_response(act.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(whole if act.claim_length else sent)))
            for name, value in act.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)
            self.wfile.flush()
            if act.bytes_sent < 1:
                self.close_connection = True
            elif act.status == 200:
                with state.lock:
                    state.replied.append(user)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            pass  # a client that went away is what these tests are about

    server = Server(("127.0.0.1", 0), Handler)
    state.server = server
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def job(folder: Path, url: str, *, rows: list[TeacherRow] = ROWS, prompt: str = "paper", **options: Any) -> Job:
    own = {name: options.pop(name) for name in ("samples", "attempts") if name in options}
    settings = TeacherSettings.model_validate({"base_url": url, "backoff": 0.01, "concurrency": 3} | options)
    teacher = make_teacher("openai:m", settings)
    return Job(RationaleStore(folder), "Toy", rows, ("No", "Yes"), load_prompt(prompt), teacher, "native@1", **own)
