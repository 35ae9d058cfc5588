"""The OpenAI-compatible teacher against a real server on loopback that misbehaves to order."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from teacher_server import KEY, REASONING, ROWS, Act, job, serve

from dhrd_bench.data.rationales import RationaleStore
from dhrd_bench.errors import UserError
from dhrd_bench.rationales.generate import Job, Summary, TeacherRow, choose
from dhrd_bench.rationales.prompts import load_prompt
from dhrd_bench.rationales.teachers.choose import make_teacher
from dhrd_bench.rationales.teachers.teacher import Price, TeacherSettings, read_settings


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def keys(folder: Path) -> Counter[str]:
    return Counter(row.key[0] for row in RationaleStore(folder).rows("Toy"))


def test_every_row_is_asked_once_and_a_second_call_asks_nothing(tmp_path: Path) -> None:
    with serve(lambda number, user: Act(wait=0.02)) as server:
        first = job(tmp_path, server.url).run()
        second = job(tmp_path, server.url).run()
    assert (first.usable, first.open, first.failed) == (12, 0, [])
    assert (second.received, second.present) == (0, 12)
    assert len(server.requests) == 12
    assert 2 <= server.most_under_way <= 3
    row = RationaleStore(tmp_path).rows("Toy")[0]
    assert row.rationale == REASONING
    assert (row.teacher, row.label_seen, row.answer) == ("openai:m", True, "Yes")
    assert (row.tokens_in, row.tokens_out, row.seconds is not None) == (100, 20, True)
    assert row.parameters == {"endpoint": "127.0.0.1", "max_tokens": 512, "input": "native@1"}
    assert row.prompt is not None
    assert row.prompt.startswith("paper@1.0.0+")


def faulty(number: int, user: str) -> Act:
    """The first row meets every fault there is."""
    faults = {
        0: Act(429, headers={"Retry-After": "0.05"}, body={"error": {"message": "slow down"}}),
        1: Act(500, body={"error": {"message": "oops"}}),
        2: Act(503),
        3: Act(bytes_sent=0.5),
        4: Act(bytes_sent=0.5, claim_length=False),
        5: Act(body={"choices": []}),
        6: Act(body={"nothing": "of the kind"}),
        7: Act(408),
        8: Act(429, headers={"Retry-After": formatdate(time.time() + 0.5, usegmt=True)}),
    }
    return faults.get(number, Act())


def test_faults_are_survived(tmp_path: Path) -> None:
    with serve(faulty) as server:
        summary = job(tmp_path, server.url, concurrency=1, retries=9).run()
    assert (summary.usable, summary.failed) == (12, [])
    assert len(server.requests) == 12 + 9
    assert set(keys(tmp_path).values()) == {1}


def test_retry_after_holds_all_threads(tmp_path: Path) -> None:
    started: list[float] = []
    refused = threading.Event()

    def act(number: int, user: str) -> Act:
        if number == 0:
            refused.set()
            started.append(time.monotonic())
            return Act(429, headers={"Retry-After": "1.2"})
        refused.wait()
        started.append(time.monotonic())
        return Act(wait=0.3)

    with serve(act) as server:
        assert job(tmp_path, server.url).run().usable == 12
    early = [at for at in started[1:] if at - started[0] < 1.0]
    assert len(early) <= 4  # the two under way, and hardly any after; without the hold there would be eight


def test_a_long_retry_after_ends_the_call(tmp_path: Path) -> None:
    busy = Act(429, headers={"Retry-After": "3600"})
    with (
        serve(lambda number, user: busy if number > 3 else Act()) as server,
        pytest.raises(UserError, match=r"3600 seconds.*goes on from there"),
    ):
        job(tmp_path, server.url, concurrency=1).run()
    assert sum(keys(tmp_path).values()) == 4


def test_a_time_out_is_repeated(tmp_path: Path) -> None:
    with serve(lambda number, user: Act(wait=1.0 if number == 0 else 0)) as server:
        summary = job(tmp_path, server.url, rows=ROWS[:2], timeout=0.3, concurrency=1).run()
    assert (summary.usable, len(server.requests)) == (2, 3)


def test_a_server_that_dies_loses_nothing_and_the_run_resumes(tmp_path: Path) -> None:
    def act(number: int, user: str) -> Act:
        if number == 6:
            first.die()
            return Act(bytes_sent=0.3)
        return Act()

    with serve(act) as first, pytest.raises(UserError, match=r"rows in a row failed.*same command"):
        job(tmp_path, first.url, concurrency=1, retries=1).run()
    kept = keys(tmp_path)
    assert sum(kept.values()) == len(first.replied) == 6
    with serve() as second:  # another port: the same endpoint as far as a store is concerned
        summary = job(tmp_path, second.url).run()
    assert (summary.present, summary.usable, summary.open) == (6, 6, 0)
    assert not set(first.replied) & set(second.replied)
    assert set(keys(tmp_path).values()) == {1}


def test_a_killed_process_loses_only_what_was_under_way(tmp_path: Path) -> None:
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from teacher_server import job
job(Path({str(tmp_path)!r}), sys.argv[1]).run()
"""
    with serve(lambda number, user: Act(wait=0.1)) as server:
        process = subprocess.Popen([sys.executable, "-c", script, server.url], env=os.environ | {"OPENAI_API_KEY": KEY})
        path = RationaleStore(tmp_path).path("Toy")
        deadline = time.monotonic() + 60
        while not (path.exists() and path.read_bytes().count(b"\n") >= 3) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.3)
        replied = len(server.replied)
        kept = sum(keys(tmp_path).values())
        assert 3 <= kept <= replied <= kept + 2 * 3
        with path.open("ab") as stream:
            stream.write(b'{"idx": 99, "rationale": "torn')  # what a crash in mid-write leaves
        summary = job(tmp_path, server.url).run()
    assert summary.usable == 12 - kept
    assert keys(tmp_path) == Counter({str(i): 1 for i in range(12)})
    assert len(server.replied) == replied + 12 - kept


def test_an_interrupt_keeps_what_is_under_way(tmp_path: Path) -> None:
    def act(number: int, user: str) -> Act:
        if number == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return Act(wait=0.2)

    with serve(act) as server:
        summary = job(tmp_path, server.url).run()
        assert summary.stopped == "interrupted"
        assert sum(keys(tmp_path).values()) == len(server.replied) < 12


@pytest.mark.parametrize(
    ("status", "message"), [(401, "refuses openai:m: 401.*OPENAI_API_KEY"), (404, "404"), (403, "403")]
)
def test_a_refusal_ends_the_call_at_once(tmp_path: Path, status: int, message: str) -> None:
    body = {"error": {"message": f"Incorrect API key provided: {KEY}. Find it elsewhere."}}
    with serve(lambda number, user: Act(status, body=body)) as server, pytest.raises(UserError, match=message):
        job(tmp_path, server.url).run()
    assert len(server.requests) <= 3


def test_a_row_the_endpoint_will_not_take_does_not_stop_the_others(tmp_path: Path) -> None:
    with serve(
        lambda number, user: Act(400, body={"error": {"message": "too long"}}) if "r 3." in user else Act()
    ) as s:
        summary = job(tmp_path, s.url).run()
    assert (summary.usable, summary.open, len(summary.failed)) == (11, 1, 1)
    assert summary.failed[0] == "3: 400 too long"


def test_budgets(tmp_path: Path) -> None:
    prices = {"m": Price(input=1e4, output=1e4)}  # 1.2 a request
    with serve() as server:
        first = job(tmp_path, server.url, max_requests=5).run()
        assert (first.usable, len(server.requests), first.open) == (5, 5, 7)
        assert first.stopped == "the budget of 5 requests is spent"
        second = job(tmp_path, server.url, prices=prices, max_cost=3.0, concurrency=1).run()
        assert (second.usable, second.cost["USD"]) == (3, pytest.approx(3.6))
        assert "budget of 3 is spent" in str(second.stopped)
        nothing = job(tmp_path, server.url, max_requests=0).run()
        assert (nothing.received, len(server.requests)) == (0, 8)
    card = RationaleStore(tmp_path)
    assert card.rows("Toy")[-1].cost == pytest.approx(1.2)


def test_repetitions_count_against_the_budget(tmp_path: Path) -> None:
    with serve(lambda number, user: Act(500)) as server:
        job(tmp_path, server.url, max_requests=4, concurrency=1, retries=9).run()
    assert len(server.requests) == 4


def test_blind_keeps_only_replies_that_give_the_gold_label(tmp_path: Path) -> None:
    def act(number: int, user: str) -> Act:
        assert "Correct answer" not in user
        row = int(user.split("Input number ")[1].split(".")[0])
        texts = {1: " [END OF REASONING]\nYes", 2: "", 3: " [END OF REASONING]\nPerhaps", 5: " end of reasoning yes."}
        return Act(text=REASONING + texts.get(row, " [END OF REASONING]\n\nAnswer: No."))

    with serve(act) as server:
        summary = job(tmp_path, server.url, prompt="blind").run()
        again = job(tmp_path, server.url, prompt="blind").run()
        assert again.received == 0  # a rejected reply has been paid for: it is not asked for again
        assert len(server.requests) == 12
        retried = job(tmp_path, server.url, prompt="blind", attempts=2).run()
    assert summary.usable == 5 + 2  # even rows but 2, and rows 1 and 5
    assert dict(summary.rejected) == {"no answer": 2, "other label": 3}
    assert summary.acceptance == pytest.approx(7 / 12)
    assert (retried.received, retried.usable, len(server.requests)) == (5, 0, 17)
    lines = RationaleStore(tmp_path).rows("Toy")
    assert {line.sample for line in lines if line.key[0] == "3"} == {0, 1}
    assert all(not line.label_seen for line in lines)


def test_several_samples_a_row_resume_too(tmp_path: Path) -> None:
    with serve(lambda number, user: Act(text=f"Reason {number}. [END OF REASONING] No")) as server:
        assert job(tmp_path, server.url, rows=ROWS[:4]).run().usable == 4
        summary = job(tmp_path, server.url, rows=ROWS[:4], samples=3).run()
    assert summary.usable == 8
    assert keys(tmp_path) == Counter({str(i): 3 for i in range(4)})
    assert sorted(row.sample for row in RationaleStore(tmp_path).rows("Toy")) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (Act(text="It is half a", finish="length"), "cut off"),
        (Act(text=" [END OF REASONING] Yes"), "empty"),
        (Act(text="I cannot.", finish="content_filter"), "refused"),
    ],
)
def test_unusable_replies_are_kept_as_rejected(tmp_path: Path, act: Act, reason: str) -> None:
    with serve(lambda number, user: act) as server:
        summary = job(tmp_path, server.url, rows=ROWS[:1]).run()
    assert dict(summary.rejected) == {reason: 1}
    (line,) = RationaleStore(tmp_path).rows("Toy")
    assert (line.rationale, line.usable) == (act.text, False)


def test_another_recipe_is_refused_in_the_same_store(tmp_path: Path) -> None:
    with serve() as server:
        job(tmp_path, server.url, rows=ROWS[:2]).run()
        with pytest.raises(UserError, match=r"made otherwise \(prompt paper@.* instead of blind@.*label_seen"):
            job(tmp_path, server.url, prompt="blind").run()
        with pytest.raises(UserError, match="parameters"):
            job(tmp_path, server.url, request={"temperature": 0.5}).run()
        moved = [TeacherRow(0, "f" * 16, "Another input.", 0, False)]
        with pytest.raises(UserError, match="another input"):
            job(tmp_path, server.url, rows=moved).run()
    assert len(server.requests) == 2


def test_the_key_is_sent_and_appears_nowhere_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"message": f"bad key {KEY}", "param": KEY}}
    errors: list[str] = []
    acts = [
        lambda number, user: Act(text=f"The key {KEY} is mine. [END OF REASONING] Yes"),
        lambda number, user: Act(401, body=echo),
        lambda number, user: Act(400, body=echo),
        lambda number, user: Act(500, body=echo),
        lambda number, user: Act(429, headers={"Retry-After": "999"}, body={"error": KEY}),
        lambda number, user: Act(bytes_sent=0.1),
    ]
    for number, act in enumerate(acts):
        with serve(act) as server:
            folder = tmp_path / str(number)
            try:
                summary: Summary = job(folder, server.url, retries=1).run()
                errors.append(repr(summary))
            except UserError as error:
                errors.append("".join(traceback.format_exception(error)))
            assert set(server.authorisations) == {f"Bearer {KEY}"}
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    printed = "".join(capfd.readouterr())
    assert "openai:m" in written
    for text in (written, printed, caplog.text, "".join(errors), json.dumps([str(r.args) for r in caplog.records])):
        assert KEY not in text
        assert KEY[8:] not in text


def test_a_key_is_asked_for_by_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="No key in the environment variable OPENAI_API_KEY"):
        make_teacher("openai:m", TeacherSettings())
    make_teacher("openai:m", TeacherSettings(base_url="http://127.0.0.1:1/v1"))  # a local server needs none
    with pytest.raises(UserError, match="carries credentials") as caught:
        make_teacher("openai:m", TeacherSettings(base_url="http://me:secret@127.0.0.1:1/v1"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt", "Write openai:MODEL or local:BACKBONE"),
        ("opnai:m", "Did you mean 'openai'"),
        ("local:smolm2-135m", "smollm2-135m"),
    ],
)
def test_unknown_teachers(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_teacher(name, TeacherSettings())


def test_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "teacher.yaml"
    path.write_text("prices: {m: {input: 0.3, output: 2.5}}\nconcurrency: 8\nrequest: {temperature: 0.7}\n")
    settings = read_settings(path, concurrency=2, base_url=None)
    assert (settings.concurrency, settings.prices["m"].output, settings.request) == (2, 2.5, {"temperature": 0.7})
    path.write_text("concurency: 8\n")
    with pytest.raises(UserError, match=r"teacher.yaml: concurency.*Did you mean 'concurrency'"):
        read_settings(path)
    path.write_text("api_key: sk-1234\n")
    with pytest.raises(UserError) as caught:
        read_settings(path)
    assert "1234" not in str(caught.value)


def test_limits_nest() -> None:
    small, large = (choose(ROWS, limit, "suite", "Toy") for limit in (4, 9))
    assert large[:4] == small
    assert small != ROWS[:4]
    assert choose(ROWS, 99, "suite", "Toy") == ROWS


def test_local_teacher_on_a_tiny_backbone(tmp_path: Path) -> None:
    def local(**options: Any) -> Job:
        settings = TeacherSettings(max_new_tokens=6, batch_size=2, temperature=1.0)
        teacher = make_teacher("local:tiny[dtype=float32]", settings)
        return Job(
            RationaleStore(tmp_path),
            "Toy",
            ROWS[:5],
            ("No", "Yes"),
            load_prompt("paper"),
            teacher,
            "native@1",
            **options,
        )

    summary = local().run()
    assert (summary.received, summary.open) == (5, 0)
    assert local().run().received == 0
    again = local(samples=2, attempts=2).run()
    lines = RationaleStore(tmp_path).rows("Toy")
    assert all(line.tokens_out and line.tokens_out <= 6 and line.model for line in lines)
    assert again.received >= 1
    texts = [line.rationale for line in lines]
    assert len(set(texts)) > 5  # a second sample is not the first one again
