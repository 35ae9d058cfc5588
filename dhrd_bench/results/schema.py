"""What one cell leaves behind."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dhrd_bench.contracts import Inference
from dhrd_bench.errors import shown
from dhrd_bench.request import RunRequest

SCHEMA_VERSION = "1.1.0"
"""Semantic version of the record's form; a reader accepts records of its own major version."""


Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
"""A whole number that every reader of JSON has to the last digit."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _shown_within(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return [_shown_within(inner) for inner in value]
    if isinstance(value, dict):
        return {shown(str(key)): _shown_within(inner) for key, inner in value.items()}
    return value


class _Shown(_Part):
    """A part whose texts are printed."""

    @model_validator(mode="before")
    @classmethod
    def _no_control_characters(cls, values: Any) -> Any:
        return _shown_within(values)


class Cell(_Shown):
    """The coordinates of a cell. Names carry their parameters: ``name[alpha=0.5]``."""

    suite: str
    task: str
    method: str
    backbone: str
    budget: str
    seed: Whole


class MethodInfo(_Shown):
    """The part of the method's card that a table needs."""

    role: Literal["method", "baseline", "reference", "control"]
    inference: Inference | Annotated[tuple[Inference, ...], Field(min_length=1)]
    uses_rationales: bool
    summary: str = ""
    paper: str = ""

    @property
    def kinds(self) -> tuple[Inference, ...]:
        """The kinds of inference that ran the backbone; empty if none did."""
        named = (self.inference,) if isinstance(self.inference, str) else self.inference
        return tuple(kind for kind in named if kind != "none")


class Rows(_Part):
    """Per-row outcomes of the test split, in columns of equal length.

    `cluster` and `group` are None where every row is its own. Rows of a cluster share a text (one
    MultiRC paragraph) and are resampled together; rows of a group are scored together by
    exact-match (one MultiRC question). `prediction` is -1 where no answer could be read.
    """

    id: list[str]
    label: list[Whole]
    prediction: list[Whole]
    cluster: list[str] | None = None
    group: list[str] | None = None
    score: list[list[float]] | None = None

    @model_validator(mode="after")
    def _equal_lengths(self) -> Rows:
        columns = {name: len(value) for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        if len(set(columns.values())) > 1:
            raise ValueError(f"columns of unequal length: {columns}")
        if len(set(self.id)) < len(self.id):
            twice = next(name for name, count in Counter(self.id).items() if count > 1)
            raise ValueError(f"row id {twice!r} is there twice")
        return self


class Timing(_Part):
    """Offline throughput of the scored predictions, on the harness's clock, warm-up excluded.

    `laps` holds (examples, seconds) of consecutive batches; they add up to `examples` and `seconds`.
    `examples` counts test rows of the suite, also where a prompt asks several questions a row.
    """

    scenario: str = "offline"
    examples: Whole = Field(gt=0)
    seconds: float = Field(gt=0)
    qps: float = Field(gt=0)
    laps: list[tuple[float, float]]
    tokens_in: Whole
    tokens_out: Whole
    warmup_seconds: float = 0.0


class Data(_Part):
    """Where the rows came from and what was done to them.

    Attributes
    ----------
    taught_rows
        Of methods that read rationales, how many of `train_rows` had one, if not all; where a run compares several
        stores, then, too.
    label_read, largest_class
        There: how often the label can be read from the rationale alone, over all train rows that have one, as the
        audit of rationales has it; and the share of the largest class.
    """

    source: str
    revision: str = ""
    fingerprint: str
    rationale_fingerprint: str
    rationale_coverage: float = Field(ge=0, le=1)
    taught_rows: Whole | None = None
    label_read: float | None = Field(None, ge=0, le=1)
    largest_class: float | None = Field(None, ge=0, le=1)
    train_rows: Whole
    dev_rows: Whole
    test_rows: Whole
    truncated_train: Whole = 0
    truncated_test: Whole = 0


class SuiteIdentity(_Part):
    """Which suite."""

    name: str
    version: str


class TaskIdentity(_Part):
    """Which task, asked how, over which rows."""

    name: str
    version: str
    prompt: str
    prompt_version: str
    fingerprint: str


class MethodIdentity(_Part):
    """Which method: its parameters with all defaults, and the digest of its source."""

    name: str
    version: str
    params: dict[str, Any]
    code: str


class BackboneIdentity(_Part):
    """Which weights, in which dtype; how they are quantised here, if they are.

    Then the engine if it is not the reference, and what the tokenizer puts before a text.
    """

    revision: str
    dtype: str
    quantize: str | None = None
    engine: str | None = None
    start: str | None = None


class IdentityParts(_Part):
    """Everything that can change a cell's outcome and nothing else, and three digests over some of it.

    Attributes
    ----------
    harness
        Version of what in the harness decides an outcome.
    rows, rationales
        Digests of the rows that were drawn, and of the rationales if the method reads them.
    kept
        Share of the rationales that rows have kept, if not all and the method reads them.
    soft, spare
        Digests of the soft labels and of the spare rows, if the method reads them.
    budget
        The settings that can change what this method does.
    answers
        Version of the grammar by which its answers are read from text; None where none is read, and in
        records from before the grammar was written down.
    tokens
        Version of how tokens are made of what is not plain: inputs that are cut, texts that hold the name of a special
        token, answers that begin alike. None where the cell has none of it, and in records from before.
    processes
        How many trained it together, each with dropout of its own, if more than one.
    log
        Digest of the log that a foreign record was made of.
    version, data_version, method_version
        Cells of one table share the first, those of one of its tasks the second, those of one of its
        methods the third. They are not part of the identity themselves.
    """

    harness: str
    suite: SuiteIdentity
    task: TaskIdentity
    rows: str
    rationales: str | None = None
    kept: float | None = None
    soft: str | None = None
    spare: str | None = None
    method: MethodIdentity
    backbone: BackboneIdentity
    budget: dict[str, Any]
    answers: str | None = None
    tokens: str | None = None
    processes: int | None = None
    log: str | None = None
    seed: int
    version: str = ""
    data_version: str = ""
    method_version: str = ""

    def hashed(self) -> dict[str, Any]:
        """Return what the identity is a digest of."""
        parts = self.model_dump(mode="json", exclude={"version", "data_version", "method_version"})
        # What goes without saying, as the reference engine, is left out.
        silent = ("kept", "soft", "spare", "answers", "tokens", "processes", "log")
        for holder, names in ((parts["backbone"], ("quantize", "engine", "start")), (parts, silent)):
            for name in names:
                if holder[name] is None:
                    del holder[name]
        return parts


class TrainingCost(BaseModel):
    """What fitting cost and how it went; empty for a method that trains nothing. A method may add figures.

    Attributes
    ----------
    rows, steps, tokens, seconds
        Training rows, optimiser steps, tokens passed through the backbone, wall clock.
    epochs
        Figures by epoch: ``loss``, and ``dev_...`` where there are dev rows.
    best_epoch
        The epoch that was kept, from 1.
    epochs_wanted
        Epochs that the method asked for in place of the budget's, to be given as many tokens as another.
    spare_wanted, spare_used
        Rows that it wanted beyond its train rows, and that it got.
    trainable_parameters, truncated
        Numbers trained; training rows whose passage was cut.
    pack_tokens, out_of_memory
        Tokens of a forward pass where a card took others than the budget's; how often they had to be halved.
    teacher_tokens
        Tokens of the rationales that the method was given, each text once.
    inner
        By name, what fitting the methods cost that this one runs; steps, tokens and seconds above include them.
    """

    model_config = ConfigDict(extra="allow")

    rows: Whole | None = None
    steps: Whole | None = None
    tokens: Whole | None = None
    seconds: float | None = None
    epochs: list[dict[str, float]] | None = None
    best_epoch: Whole | None = None
    epochs_wanted: Whole | None = None
    spare_wanted: Whole | None = None
    spare_used: Whole | None = None
    trainable_parameters: Whole | None = None
    truncated: Whole | None = None
    pack_tokens: Whole | None = None
    out_of_memory: Whole | None = None
    teacher_tokens: Whole | None = None
    inner: dict[str, TrainingCost] | None = None


class Energy(_Part):
    """What the machine drew while the cell worked, in joules; whatever else ran on the hardware that was counted, too.

    Attributes
    ----------
    source
        What told: ``rapl``, counters of the processor's packages and of memory; ``nvml``, that of the card; both as
        ``rapl+nvml``; ``codecarbon``, an estimate.
    train, test
        While the method was fitted, and while it predicted the test examples, warm-up excluded.
    """

    source: str
    train: float = Field(ge=0)
    test: float = Field(ge=0)


class Revision(_Part):
    """The commit of the checkout that the harness ran from, and whether it was changed since."""

    commit: str
    dirty: bool


class Surroundings(_Shown):
    """The machine and the software. No paths, no host names, no secrets.

    Attributes
    ----------
    threads, workers, processes
        Threads that the cell computed with, in each of its processes; cells that were run at a time, itself included,
        and processes that trained it together, if more than one.
    executor
        Who ran it, if not the machine that asked for it.
    huge_pages
        Whether memory came in huge pages where it could; None in records of before this was noted.
    """

    python: str = ""
    platform: str = ""
    packages: dict[str, str] = {}
    cpu: str = ""
    threads: Whole | None = None
    workers: Whole | None = None
    processes: Whole | None = None
    executor: Literal["ray"] | None = None
    huge_pages: bool | None = None
    gpu: str | None = None
    device: str = ""
    dtype: str = ""
    git: Revision | None = None
    engine: str = ""


IsolationLevel = Literal["none", "audit", "process"]
"""Whether a method was kept from test labels: not at all; its own opening of files was watched; it worked in a
process that could not read them."""


class TaskInfo(_Shown):
    """The part of the task's card that the statistics need."""

    labels: list[str]
    metrics: list[str]


FOREIGN = "foreign"
"""Backbone and budget of a record that was made of a log, and its suite if the log's own documents make its rows."""


class Foreign(_Shown):
    """What a record was made of that another harness has run; nothing of it can be run or drawn again here.

    Attributes
    ----------
    tool, version
        What wrote the log, and that one's version where the log tells.
    model, task, score
        As the log names them.
    samples, left
        Samples of the log that were scored or not, and how many of them have no row here.
    sha256
        Digest of the log.
    """

    tool: Literal["lm-evaluation-harness", "inspect_ai"]
    version: str = ""
    model: str = ""
    task: str = ""
    score: str = ""
    samples: Whole
    left: Whole = 0
    sha256: str


class CellRecord(_Part):
    """One cell, complete: identity, outcome, cost, surroundings.

    Attributes
    ----------
    identity
        Hash over `parts`, which hold everything that can change the outcome and nothing else.
    metrics, score
        0-100; None in a failed cell.
    unparsable
        Share of test rows whose answer could not be read.
    isolation
        How the method was kept from test labels while it worked; ``none`` in records from before there was any.
    energy
        None where nothing could be read, or other cells ran beside this one.
    request
        What was asked for when the cell was run; None in records from before 1.1.0, and in foreign ones.
    foreign
        The log that it was made of, if another harness has run it; then nothing was timed.
    checksum
        In a file only: SHA-256 of all that stands before it. Records from before 1.1.0 have none.
    """

    schema_version: str = SCHEMA_VERSION
    identity: str
    parts: IdentityParts
    cell: Cell
    status: Literal["ok", "failed"]
    error: Annotated[str, AfterValidator(shown)] | None = None
    method: MethodInfo
    task: TaskInfo
    data: Data | None = None
    metrics: dict[str, float] = {}
    score: float | None = None
    unparsable: float = 0.0
    rows: Rows | None = None
    timing: Timing | None = None
    train: TrainingCost = TrainingCost()
    energy: Energy | None = None
    isolation: IsolationLevel = "none"
    environment: Surroundings = Surroundings()
    request: RunRequest | None = None
    foreign: Foreign | None = None
    finished: str = ""
    checksum: str | None = Field(None, exclude=True)

    @model_validator(mode="after")
    def _complete(self) -> CellRecord:
        timed = self.timing is not None or self.foreign is not None
        if self.status == "ok" and (self.rows is None or self.score is None or not timed):
            raise ValueError("an ok record needs rows, score and timing")
        if self.status == "failed" and not self.error:
            raise ValueError("a failed record needs its error")
        if self.rows is not None:
            last = len(self.task.labels) - 1
            for name, column, first in (("label", self.rows.label, 0), ("prediction", self.rows.prediction, -1)):
                if column and not first <= min(column) <= max(column) <= last:
                    raise ValueError(f"rows.{name} has a class that is none of the {last + 1} of the task")
        return self
