"""What a record says of every test row, as a table for other programs."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from dhrd_bench.errors import UserError
from dhrd_bench.results.schema import CellRecord, shown

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def prediction_rows(record: CellRecord, texts: dict[str, str]) -> list[dict[str, Any]]:
    """Return a mapping a test row, in the order of the record; `texts` are what the method wrote, by example.

    ``prediction`` is -1 and ``prediction_name`` None where no answer could be read. ``scores`` are by class, where the
    method has any; ``text`` is there if there are texts. A row that was asked one class at a time has one for each.
    """
    rows, classes = record.rows, record.task.labels
    assert rows is not None
    made = []
    for number, name in enumerate(rows.id):
        label, prediction = rows.label[number], rows.prediction[number]
        row: dict[str, Any] = {
            "id": name,
            "label": label,
            "prediction": prediction,
            "label_name": classes[label],
            "prediction_name": classes[prediction] if prediction >= 0 else None,
        }
        if rows.score is not None:
            scores = rows.score[number]
            names = classes if len(classes) == len(scores) else [str(k) for k in range(len(scores))]
            row["scores"] = dict(zip(names, scores, strict=True))
        if texts:
            by_class = [f"{each}: {texts[key]}" for each in classes if (key := f"{name}:{each}") in texts]
            row["text"] = texts[name] if name in texts else "\n".join(by_class)
        made.append(row)
    return made


def read_texts(path: Path) -> dict[str, str]:
    """Return what a method wrote, by example, from the file beside its record at `path`; nothing if there is none.

    Raises
    ------
    UserError
        If the file is not as it was written.
    """
    beside = path.with_suffix(".generations.jsonl")
    try:
        lines = beside.read_text(encoding="utf-8").split("\n")
        return {row["id"]: row["text"] for row in map(json.loads, filter(None, lines))}
    except OSError:
        return {}
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{beside} is damaged: {error}.", "Delete it, or run the cell again with --force.") from error


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Return `rows` of `prediction_rows` as CSV, a column ``score_CLASS`` a class.

    A spreadsheet takes a text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return for a formula
    and computes it. Such a text gets an apostrophe in front, which spreadsheets do not show; numbers are left alone.
    """
    stream = io.StringIO()
    flat = [
        {key: value for key, value in row.items() if key != "scores"}
        | {f"score_{name}": score for name, score in row.get("scores", {}).items()}
        for row in rows
    ]
    # The text is last: it may be long.
    columns = sorted(dict.fromkeys(key for row in flat for key in row), key=lambda key: key == "text")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_harmless(column) for column in columns])
    writer.writerows([_harmless(row.get(column)) for column in columns] for row in flat)
    return stream.getvalue()


def as_json(rows: list[dict[str, Any]]) -> str:
    """Return `rows` of `prediction_rows` as a JSON list; texts are as they are."""
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = "\n".join(shown(line) for line in value.replace("\r\n", "\n").split("\n"))
    formula = value.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(value)
    return f"'{text}" if formula else text
