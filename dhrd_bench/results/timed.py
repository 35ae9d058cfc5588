"""What a throughput run leaves, and reading it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dhrd_bench.errors import first_misfit, shown
from dhrd_bench.request import Scenario
from dhrd_bench.results.checksum import with_checksum, without_checksum
from dhrd_bench.results.schema import Cell, Surroundings
from dhrd_bench.results.store import LEADS_OUT, Problem, read_regular, record_path, validated, write_text_atomically
from dhrd_bench.untrusted import leads_out

SCHEMA_VERSION = "1.1.0"
_NAME = re.compile(r"(offline|single-stream|server)-\d+\.json")


Shown = Annotated[str, AfterValidator(shown)]
"""A text that is printed: control characters in it are seen, not sent."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Figure(_Part):
    """A number with its 95 % interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


class Trial(_Part):
    """One arrival rate and the latencies it gave, in seconds; of p99 with its 95 % interval."""

    rate: float
    p50: float
    p99: float
    p99_low: float | None = None
    p99_high: float | None = None
    queries: int


class Measurement(_Part):
    """One method under one scenario.

    Attributes
    ----------
    blocks
        Offline: (examples, seconds) of each visit, in the order of the rounds, which all methods share.
    trials
        Server: the arrival rates that were tried.
    latencies
        Single-stream: seconds of each query.
    qps
        Offline and single-stream: examples per second. Server: the highest arrival rate that held the bound; the
        interval is that of the rates which the trials leave open.
    ratio
        QPS over that of the reference, from the logarithms of the rounds' ratios, or of the two rates.
    equivalent_p
        p-value of "within the margin of the baseline's QPS" (TOST).
    verdict, reasons
        VALID, or INVALID with why.
    """

    method: Shown
    identity: str
    inference: Shown
    engine: Shown
    batch_policy: Shown
    blocks: list[tuple[float, float]] = []
    latencies: list[float] = []
    trials: list[Trial] = []
    qps: Figure
    percentiles: dict[str, Figure] = {}
    ratio: Figure | None = None
    ratio_to_baseline: Figure | None = None
    equivalent_p: float | None = None
    tokens_in: float = 0.0
    tokens_out: float = 0.0
    achieved_flops: float | None = None
    roofline_share: float | None = None
    verdict: Literal["VALID", "INVALID"] = "VALID"
    reasons: list[Shown] = []


class ThroughputRecord(_Part):
    """All methods of a comparison on one task and seed, timed together.

    Attributes
    ----------
    p99_bound
        Server: the seconds that p99 must stay within.
    checksum
        In a file only: of all that stands before it.
    """

    schema_version: str = SCHEMA_VERSION
    scenario: Scenario
    cell: Cell
    baseline: Shown | None
    reference: Shown | None
    margin: float
    p99_bound: float | None = None
    examples: int
    peak_flops: float
    other_load: float
    measurements: list[Measurement]
    environment: Surroundings
    finished: Shown
    checksum: str | None = Field(None, exclude=True)


def timed_path(results: Path, record: ThroughputRecord) -> Path:
    """Return where a throughput record lives: beside the records of its budget."""
    folder = record_path(results, record.cell).parent.parent.parent / "throughput" / record.cell.task
    return folder / f"{record.scenario}-{record.cell.seed}.json"


def write_timed(results: Path, record: ThroughputRecord) -> None:
    """Write `record` to its place below `results`."""
    text = with_checksum(record.model_dump_json(indent=1))
    write_text_atomically(timed_path(results, record), text, below=results)


def read_timed(root: Path) -> tuple[list[ThroughputRecord], list[Problem]]:
    """Read every throughput record below `root`; a file that is none is returned as a `Problem`."""
    records: list[ThroughputRecord] = []
    problems: list[Problem] = []
    for path in sorted(root.rglob("throughput/*/*.json")):
        if not _NAME.fullmatch(path.name):
            continue
        if leads_out(path, root):
            problems.append(Problem(path, LEADS_OUT))
            continue
        try:
            record = validated(ThroughputRecord, without_checksum(read_regular(path)), SCHEMA_VERSION)
        except ValidationError as error:
            problems.append(Problem(path, str(first_misfit(error))))
        except OSError as error:
            problems.append(Problem(path, error.strerror or str(error)))
        except ValueError as error:
            problems.append(Problem(path, str(error)))
        else:
            if record.schema_version.split(".")[0] == SCHEMA_VERSION.split(".")[0]:
                records.append(record)
            else:
                reason = f"schema version {record.schema_version}; this release reads {SCHEMA_VERSION}"
                problems.append(Problem(path, reason))
    return records, problems
