"""What a ``suite.yaml`` may say, as pydantic cards.

A suite is data, not code: sources, fields, labels, prompts and metrics of each task.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from dhrd_bench.contracts import Card
from dhrd_bench.data.files import FORMATS, format_of


def _inside(path: str) -> str:
    """Refuse a path that could leave its folder, on any system, or that none could have."""
    names = {*PurePosixPath(path).parts, *PureWindowsPath(path).parts}
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).anchor or ".." in names:
        raise ValueError(f"{path!r} leaves the suite's folder; write a path below it")
    if not path.isprintable() or len(path.encode()) > 200:
        raise ValueError(f"{path[:60]!r} is no name of a file; write up to 200 plain characters")
    return path


def _rows_file(path: str) -> str:
    if format_of(PurePosixPath(path)) is None:
        raise ValueError(f"{path!r} has no known format; use one of {', '.join(FORMATS)}")
    return path


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _as_mapping(value: Any) -> Any:
    names = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return {name: name for name in value} if names else value


def _as_hops(value: Any) -> Any:
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", value)):
        first, last = int(found[1]), int(found[2] or found[1])
        value = tuple(range(first, last + 1))
    if not value or isinstance(value, str):
        raise ValueError("write 4, or 2-4 for two to four")
    return (value,) if isinstance(value, int) else value


Inside = Annotated[str, AfterValidator(_inside)]
RowsFile = Annotated[str, AfterValidator(_inside), AfterValidator(_rows_file)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Fields = Annotated[dict[str, str], BeforeValidator(_as_mapping)]
Hops = Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1), BeforeValidator(_as_hops)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]
Version = Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
HubId = Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")]
Value = bool | int | float | str


class FilesCard(Card):
    """Files of a task, relative to its suite or release folder: ``train`` and ``test``, or ``all``.

    A name without an end is the folder of a data set that the datasets library saved.
    """

    train: RowsFile | None = None
    test: RowsFile | None = None
    all: RowsFile | None = None


class HubCard(Card):
    """A data set on the Hugging Face hub.

    Attributes
    ----------
    path, config, revision
        Arguments of `datasets.load_dataset`; pin the revision, or the rows may change unseen.
    train, test, all
        Names of its splits: ``train`` and ``test``, or ``all``.
    explode, fields, label, values, rationale
        Where the hub's columns differ from the files; what is not given is as in the task. Columns
        of type ClassLabel are read as the names of their classes.
    """

    path: HubId | None = None
    config: str | None = None
    revision: str | None = None
    train: str | None = None
    test: str | None = None
    all: str | None = None
    explode: dict[str, str] | None = None
    fields: Fields = Field({})
    label: str | None = None
    values: tuple[Value, ...] | None = None
    rationale: str | None = None


class GeneratedCard(Card):
    """Rows that a function makes anew whenever they are read, the same on every machine.

    Attributes
    ----------
    by
        Name of the generator.
    train, test
        Numbers of rows.
    hops
        How many steps a derivation takes, in equal shares: ``4``, ``2-4`` or a list.
    test_hops
        The same of the test rows, if theirs differ.
    seed
        Another seed, other rows.
    noise
        Whether classes, with their rationales, are dealt out anew among the rows of each world: then no text tells
        its class, and no method can be better than another.
    """

    by: str
    train: int = Field(2000, gt=0)
    test: int = Field(1000, gt=0)
    hops: Hops = (1,)
    test_hops: Hops | None = None
    seed: int = 0
    noise: bool = False


class SplitCard(Card):
    """How one file or hub split (``all``) is divided: whole clusters, by a seeded hash of their names."""

    test_fraction: float = Field(gt=0, lt=1)
    seed: int = 0


class LabelCard(Card):
    """The class of a row: the field it stands in, the classes' names, and their raw values by label id."""

    field: str = "label"
    names: tuple[str, ...] = Field(min_length=2)
    values: tuple[Value, ...] | None = None


class RationaleCard(Card):
    """Where rationales come from: a `field` of the train row, a `file` of a rationale store, or both.

    The file is relative to ``suite.yaml``; ``{task}`` in it stands for the task's name. Its form is
    `dhrd_bench.data.rationales.Rationale`.
    """

    field: str | None = None
    file: Inside | None = None


class SpanCard(Card):
    """A span that must lie inside a text: characters ``start:end``, or `words` from word `index` on.

    With characters, `words` is the field that says what is marked, for messages.
    """

    text: str
    start: str | None = None
    end: str | None = None
    index: str | None = None
    words: str | None = None


class PromptCard(Card):
    """One way to ask a task, in sandboxed jinja2 templates; see ``docs/prompts.md``.

    Attributes
    ----------
    version
        Semantic version; a digest of the prompt is appended to it in cards and identities.
    text
        The input x. It ends at the question, without trailing space.
    let
        Templates over the row's fields; their results are variables of `text`.
    truncate
        The variable of `text` that may be cut when x is too long.
    candidates
        Templates, one a class; x is asked once for each with ``{{ candidate }}`` set, and its
        classes are then no and yes.
    answers
        Words that stand for the classes asked about, by label id.
    reason, answer
        Markers before rationale and answer.
    instruction
        Template over ``answers``, ``reason`` and ``answer``; for prompted methods.
    """

    version: Version = "1.0.0"
    text: str = Field(min_length=1)
    let: dict[str, str] = Field({})
    truncate: str | None = None
    candidates: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    reason: str = "\nReasoning:"
    answer: str = "\nFinal Answer:"
    instruction: str = (
        "Think step by step in two to five sentences. "
        'Then write "{{ answer | trim }}" and one of: {{ answers | join(", ") }}.'
    )


class TaskDefinition(Card):
    """One task of a suite.

    Attributes
    ----------
    description, licence, paper, version
        For people; the version is part of a cell's identity.
    files, hub, generated, split
        Sources; `split` divides a source that has ``all`` only.
    explode
        Alias to dotted path of a list: the record becomes one row an item, with the item under the alias.
    fields
        Field to dotted path; a list where both are the same.
    id, cluster, group
        Fields whose values, joined by ``-``, name the row, the rows that share a text, and the rows
        scored together by exact match. Without `id`, rows are numbered.
    label
        The class.
    rationale
        Where rationales come from.
    hash
        Fields hashed to verify a rationale's row.
    spans
        Spans to check.
    metrics
        The task's score is the mean of these.
    prompts
        By name; all tasks have the suite's default one.
    """

    description: str = ""
    licence: str = ""
    paper: str = ""
    version: Version = "1.0.0"
    files: FilesCard | None = None
    hub: HubCard | None = None
    generated: GeneratedCard | None = None
    split: SplitCard | None = None
    explode: dict[str, str] = Field({})
    fields: Fields = Field(min_length=1)
    id: Names = ()
    cluster: Names = ()
    group: Names = ()
    label: LabelCard
    rationale: RationaleCard | None = None
    hash: Names = ()
    spans: tuple[SpanCard, ...] = ()
    metrics: tuple[str, ...] = Field(("accuracy",), min_length=1)
    prompts: dict[str, PromptCard] = Field(min_length=1)


class SuiteCard(Card):
    """A suite.

    Attributes
    ----------
    extends
        Name of a suite whose every key holds here too unless given anew; null takes a key away.
        That suite must not extend another.
    release
        Name of the folder into which the release unpacks, looked for inside a data folder.
    prompt
        Name of the default prompt.
    hub, generated, rationale, prompts
        What tasks share; each task's own entry is laid over it.
    stores
        Folders of rationale stores by name, relative to ``suite.yaml``: what ``METHOD@NAME``
        and ``--rationales NAME`` read.
    """

    kind: Literal["suite"] = "suite"
    extends: str | None = None
    name: Name
    version: Version = "1.0.0"
    title: str = ""
    description: str = ""
    licence: str = ""
    paper: str = ""
    release: Inside | None = None
    prompt: str = "native"
    hub: dict[str, Any] | None = None
    generated: dict[str, Any] | None = None
    rationale: dict[str, Any] | None = None
    stores: dict[Name, Inside] = Field({})
    prompts: dict[str, dict[str, Any]] = Field({})
    tasks: dict[Name, TaskDefinition] = Field(min_length=1)
