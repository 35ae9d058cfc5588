"""What a record says of every test row, as a table for other programs."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from dhrd_bench.errors import UserError, shown
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.untrusted import leads_out, parse_json

_UNSEEN = re.compile("[\x7f-\x9f\ud800-\udfff]")
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
        At a line that holds no text of an example.
    """
    beside = path.with_suffix(".generations.jsonl")
    if not beside.is_file() or leads_out(beside, path.parent):
        return {}
    texts: dict[str, str] = {}
    for number, line in enumerate(beside.read_bytes().split(b"\n"), 1):
        if line:
            try:
                row = parse_json(line)
                name, text = row["id"], row["text"]
            except (ValueError, LookupError, TypeError):
                name = text = None
            if not isinstance(name, str) or not isinstance(text, str):
                message = f"{beside}:{number}: no text of an example."
                raise UserError(message, "Delete the file: the record does without.")
            texts[name] = text
    return texts


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
    """Return `rows` of `prediction_rows` as a JSON list; texts are as they are, what steers a terminal as escapes."""
    text = json.dumps(rows, indent=1, ensure_ascii=False)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = "\n".join(shown(line) for line in value.replace("\r\n", "\n").split("\n"))
    formula = value.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(value)
    return f"'{text}" if formula else text
