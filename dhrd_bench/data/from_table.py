"""A suite made from a table: its rows checked, divided and written down with a ``suite.yaml`` that asks about them."""

from __future__ import annotations

import json
import keyword
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml
from jinja2.defaults import DEFAULT_NAMESPACE

from dhrd_bench.data.cards import LabelCard, PromptCard, TaskDefinition
from dhrd_bench.data.files import Record, read_records, saved_splits
from dhrd_bench.data.rows import Layout, SourceRow, empty_texts, label_key, read_rows
from dhrd_bench.data.suite import seeded_order
from dhrd_bench.errors import UserError, did_you_mean

MOST_CLASSES = 100
"""A column with more values holds no classes."""
LISTED_CLASSES = 12
"""A prompt that lists more is mostly a list."""
LONG_TEXT = 8000
"""Characters from which on a text is pointed out: longer than what most budgets have read."""

_TEMPLATE = Path(__file__).parent.parent / "templates" / "table.yaml.template"
_RESERVED = {*keyword.kwlist, *DEFAULT_NAMESPACE, "true", "false", "none", "candidate", "loop"}
"""Words that mean something else in a template."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table and what its columns are.

    Attributes
    ----------
    source
        A file in one of `dhrd_bench.data.files.FORMATS`, or the folder of a saved data set.
    test
        Another one with the test rows, or the name of a split of `source`; None takes the test or validation split
        of `source` if it has one, and divides the rows if not.
    text
        Columns of the input.
    label, id, rationale
        Columns of the class, of the rows' names (they are numbered without), and of rationales, if there are any.
    test_fraction, seed
        How many of the rows become test rows, and what draws them, where there are none.
    """

    source: Path
    test: str | None = None
    text: tuple[str, ...] = ()
    label: str = ""
    id: str | None = None
    rationale: str | None = None
    test_fraction: float = 0.2
    seed: int = 0

    @property
    def columns(self) -> list[str]:
        """All columns that were named, each once."""
        return list(dict.fromkeys(filter(None, (self.id, *self.text, self.label, self.rationale))))


@dataclass(frozen=True)
class MadeSuite:
    """The files of a suite by name, and what is to be known about how they were made."""

    files: dict[str, str]
    notes: tuple[str, ...]


def suite_from_table(name: str, table: Table) -> MadeSuite:
    """Return the files of a suite called `name` with the rows of `table`; nothing is written.

    Raises
    ------
    UserError
        If a column is not there, holds no classes or one class only, a text is empty, an id is there twice, or a row
        cannot be read; with the nearest name, or file and line.
    """
    splits, note = _read(table)
    _check_columns(table, splits)
    names = _variables(table)
    named = _classes(table, [record for records in splits.values() for _, record in records])
    classes = tuple(named.values())
    texts = tuple(names[column] for column in table.text)
    fields = {names[column]: column for column in (table.id, *table.text) if column}
    definition = TaskDefinition(
        fields=fields,
        id=(names[table.id],) if table.id else (),
        cluster=texts,
        hash=texts,
        label=LabelCard(field=names[table.label], names=classes),
        prompts={"native": PromptCard(text="-")},
    )
    layout = Layout({}, fields, table.label, tuple(named), table.rationale)
    rows = {split: read_rows(records, definition, layout) for split, records in splits.items()}
    every = [row for each in rows.values() for row in each]
    _check_texts(every, texts, fields)
    notes = [note] if note else []
    if "all" in rows:
        rows = _divide(rows["all"], table)
        notes.append(_told(rows, table, len(classes)))
    notes += _odd(rows, texts, classes)
    longest = max(texts, key=lambda field: sum(len(str(row.fields[field])) for row in every))
    files = {"suite.yaml": _yaml(name, table, names, classes, longest)}
    for split, each in rows.items():
        lines = [json.dumps(_written(row, table, names, classes), ensure_ascii=False) for row in each]
        files[f"{split}.jsonl"] = "\n".join(lines) + "\n"
    return MadeSuite(files, tuple(notes))


# ---------------------------------------------------------------- reading


def _read(table: Table) -> tuple[dict[str, list[Record]], str]:
    """Return the records by split, ``train`` and ``test`` or ``all``, and say which splits were taken, if there are."""
    if not table.source.exists():
        raise UserError(f"There is no {table.source}.", "Name the file or folder with --from.")
    own = saved_splits(table.source)
    first = "train" if "train" in own else own[0] if len(own) == 1 else None
    if own and first is None:
        hint = f"Name one, as in --from {table.source / own[0]}."
        raise UserError(f"{table.source} has no split 'train' but {', '.join(own)}.", hint)
    train = list(read_records(table.source / first if first else table.source))
    if table.test is not None:
        place = table.source / table.test if table.test in own else Path(table.test)
        if not place.exists():
            hint = did_you_mean(table.test, own) if own else "Name a file or folder with --test."
            raise UserError(f"There is no {table.test}.", hint)
        return {"train": train, "test": list(read_records(place))}, ""
    for name in ("test", "validation"):
        if name in own and name != first:
            test = list(read_records(table.source / name))
            # The labels of a published test split are often kept back.
            if not any(_is_missing(record.get(table.label, "?")) for _, record in test):
                return {"train": train, "test": test}, f"the split {first!r} is for training, {name!r} for testing"
    return {"all": train}, ""


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()


def _check_columns(table: Table, splits: Mapping[str, Sequence[Record]]) -> None:
    for split, records in splits.items():
        where = table.test if split == "test" and table.test else table.source
        known = list(dict.fromkeys(str(column) for _, record in records for column in record))
        if not records:
            raise UserError(f"{where} has no rows.")
        if not table.text or not table.label:
            hint = f"Columns of {where}: {', '.join(known)}."
            raise UserError("Name the columns of the input with --text and that of the class with --label.", hint)
        for column in table.columns:
            if column not in known:
                raise UserError(f"{where} has no column {column!r}.", did_you_mean(column, known))
    if table.label in (*table.text, table.id, table.rationale):
        raise UserError(f"The column {table.label!r} is the class and something else.", "Name each column once.")


def _classes(table: Table, records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the classes' names, each in its commonest spelling, by the form in which labels are compared.

    Numbers are in their order, words in the alphabet's.
    """
    values = [record[table.label] for record in records if not _is_missing(record.get(table.label))]
    spellings: dict[str, Counter[str]] = {}
    for value in values:
        spelled = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        spellings.setdefault(label_key(value), Counter())[" ".join(spelled.split())] += 1
    column = f"the column {table.label!r} of {table.source}"
    if len(spellings) < 2:
        held = f"one class only, {next(iter(spellings))!r}" if spellings else "nothing"
        raise UserError(f"There is {held} in {column}.", "It takes two classes to tell apart.")
    if len(spellings) > MOST_CLASSES or 2 * len(spellings) > len(values):
        message = f"There are {len(spellings)} values in {len(values)} rows in {column}: these are no classes."
        raise UserError(message, "Name the column of the classes with --label, and give every class some rows.")
    names = {key: spellings[key].most_common(1)[0][0] for key in sorted(spellings, key=_in_order)}
    for name in names.values():
        if not name.isprintable():
            raise UserError(f"{name!r} in {column} is no name of a class.", "Write it in characters that can be seen.")
    return names


def _in_order(key: str) -> tuple[float, str]:
    try:
        return float(key), key
    except ValueError:
        return math.inf, key


def _check_texts(rows: Sequence[SourceRow], texts: Sequence[str], columns: Mapping[str, str]) -> None:
    empty = empty_texts(rows)
    for field in texts:
        if empty[field]:
            first = next(row.place for row in rows if not str(row.fields[field]).strip())
            message = f"{first}: {columns[field]!r} is empty, in {empty[field]} of {len(rows)} rows."
            raise UserError(message, "Write the text, or leave the row out.")


# ---------------------------------------------------------------- dividing


def _divide(rows: Sequence[SourceRow], table: Table) -> dict[str, list[SourceRow]]:
    """Set the same share of every class aside; rows of one cluster stay together, and a class of one in train."""
    if not 0 < table.test_fraction < 1:
        raise UserError(
            f"A share of {table.test_fraction:g} cannot be set aside.", "Give --test-fraction between 0 and 1."
        )
    label_of: dict[str, int] = {}
    for row in rows:
        label_of.setdefault(row.cluster, row.label)
    test: set[str] = set()
    for label in set(label_of.values()):
        texts = seeded_order([text for text, other in label_of.items() if other == label], table.seed)
        test |= set(texts[: min(max(1, round(table.test_fraction * len(texts))), len(texts) - 1)])
    if not test:
        raise UserError(f"{table.source} has too few rows to set some aside.", "Give every class two different texts.")
    return {
        "train": [row for row in rows if row.cluster not in test],
        "test": [row for row in rows if row.cluster in test],
    }


def _told(rows: Mapping[str, Sequence[SourceRow]], table: Table, classes: int) -> str:
    train, test = len(rows["train"]), len(rows["test"])
    share = f"{table.test_fraction:.0%} of each of {classes} classes, drawn with seed {table.seed}"
    return f"no test rows were named: {test} of {train + test} rows ({share}) are set aside for testing"


def _odd(rows: Mapping[str, Sequence[SourceRow]], texts: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Say what a user may want to know: classes that a split lacks, and texts that will be cut."""
    notes = []
    for split, each in rows.items():
        there = {row.label for row in each}
        if absent := [name for label, name in enumerate(classes) if label not in there]:
            notes.append(f"no {split} row is of class {', '.join(absent)}")
    every = [row for each in rows.values() for row in each]
    lengths = [sum(len(str(row.fields[field])) for field in texts) for row in every]
    if (most := max(lengths)) > LONG_TEXT:
        many, where = sum(length > LONG_TEXT for length in lengths), every[lengths.index(most)].place
        longest = f"the longest, at {where}, has {most}; what a budget's max_length does not hold is cut"
        notes.append(f"{many} texts are longer than {LONG_TEXT} characters, {longest}")
    return notes


# ---------------------------------------------------------------- writing


def _variables(table: Table) -> dict[str, str]:
    """Return by column what it is called in the suite: a name that a template can have. "" is the rows' own number."""
    names: dict[str, str] = {}
    for column in (*table.columns, *(() if table.id else ("",))):
        name = re.sub(r"[^a-z0-9]+", "_", column.lower() or "row").strip("_")
        if not name.isidentifier() or name in _RESERVED:
            name = f"column_{name}".strip("_")
        tries = (name, *(f"{name}_{number}" for number in range(2, len(names) + 3)))
        names[column] = next(each for each in tries if each not in names.values())
    return names


def _written(
    row: SourceRow, table: Table, names: Mapping[str, str], classes: Sequence[str]
) -> dict[str, str | int | float]:
    number = {} if table.id else {names[""]: int(row.id) + 1}  # as people count the rows of the table
    why = {names[table.rationale]: row.rationale} if table.rationale and row.rationale else {}
    return {**number, **row.fields, names[table.label]: classes[row.label], **why}


def _yaml(name: str, table: Table, names: Mapping[str, str], classes: Sequence[str], longest: str) -> str:
    id_ = names[table.id or ""]
    texts = [names[column] for column in table.text]
    lines = [f"{_literal(_title(column))}: {{{{ {names[column]} }}}}" for column in table.text]
    listed = f": {', '.join(map(_literal, classes[:-1]))} or {_literal(classes[-1])}?"
    question = f"Which {_literal(_title(table.label).lower())}"
    lines.append(question + (listed if len(classes) <= LISTED_CLASSES else " is it?"))
    rationale = f"    rationale: {{field: {names[table.rationale]}}}\n" if table.rationale else ""
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=_flow(name),
        description=_flow(f"Made from {table.source.name}."),
        task=_flow(names[table.label]),
        fields=_flow(list(dict.fromkeys((id_, *texts)))),
        id=_flow(id_),
        texts=_flow(texts),
        label=_flow({"field": names[table.label], "names": list(classes)}),
        rationale=rationale,
        text="\n".join(f"          {line}" for line in lines),
        longest=_flow(longest),
    )


def _title(column: str) -> str:
    """Return a column's name as words that begin with a capital letter."""
    words = " ".join(re.sub(r"[\W_]+", " ", column).split()) or "Text"
    return words[:1].upper() + words[1:]


def _literal(text: str) -> str:
    """Return `text` so that a template gives it back as it is."""
    return f"{{{{ {json.dumps(text)} }}}}" if "{" in text else text


def _flow(value: Any) -> str:
    """Return `value` as YAML on one line, as it may stand behind a colon."""
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=math.inf).strip()[1:-1]
