"""Running the checks on methods."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from dhrd_bench.conformance.checks import Check, checks
from dhrd_bench.conformance.subject import CheckError, Subject

Status = Literal["pass", "fail", "expected", "unexpected pass"]


@dataclass(frozen=True)
class CheckOutcome:
    """How one check of one method went.

    Attributes
    ----------
    status
        ``expected``: it fails, as the card says with its reason. ``unexpected pass``: the card says that
        it fails, and it does not.
    detail
        What is wrong, or the card's reason.
    """

    method: str
    check: str
    status: Status
    detail: str
    seconds: float


def subject(method: str, backbone: str = "tiny", data_dir: Path | None = None) -> Subject:
    """Return the method called `method`, with settings as in ``name[key=value]``, ready to be checked.

    Raises
    ------
    UserError
        If there is no such method, setting or backbone.
    """
    from dhrd_bench.backbones import load, resolve
    from dhrd_bench.methods import method_spec

    return Subject(method_spec(method), load(resolve(backbone)), data_dir=data_dir)


def run_check(tested: Subject, check: Check) -> CheckOutcome:
    """Run one check; whatever it raises is the outcome."""
    started = time.perf_counter()
    problem = ""
    try:
        check.run(tested)
    except CheckError as error:
        problem = str(error)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        problem = f"{type(error).__name__}: {' '.join(str(error).split())} ({place})"
    reason = tested.card.expected_failures.get(check.name)
    status: Status = "fail" if problem else "pass"
    if reason is not None:
        status = "expected" if problem else "unexpected pass"
        problem = f"{reason} ({problem})" if problem else reason
    return CheckOutcome(tested.spec.name, check.name, status, problem, time.perf_counter() - started)


def run_checks(
    method: str,
    backbone: str = "tiny",
    watch: Callable[[CheckOutcome], None] = lambda outcome: None,
    data_dir: Path | None = None,
) -> list[CheckOutcome]:
    """Run all checks on one method; `watch` is told of each outcome as it comes, `data_dir` is to be left alone."""
    tested = subject(method, backbone, data_dir)
    outcomes = []
    for check in checks:
        outcomes.append(run_check(tested, check))
        watch(outcomes[-1])
    return outcomes


def verify(method: str, check: Check, backbone: str = "tiny") -> None:
    """Run one check of one method in a test.

    Raises
    ------
    AssertionError
        If it fails and the card does not expect it, or the other way round.
    """
    outcome = run_check(_shared(method, backbone), check)
    if outcome.status == "fail":
        raise CheckError(f"{method}, {check.name}: {outcome.detail}")
    if outcome.status == "unexpected pass":
        raise CheckError(f"{method}, {check.name}: passes; take it out of expected_failures ({outcome.detail})")


@lru_cache(maxsize=1)
def _shared(method: str, backbone: str) -> Subject:
    """Keep the subject from one check to the next, with the fit that they share."""
    return subject(method, backbone)
