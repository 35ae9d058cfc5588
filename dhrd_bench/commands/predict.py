"""The ``predict`` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from dhrd_bench.data.files import read_records
from dhrd_bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from dhrd_bench.contracts import Prompt
    from dhrd_bench.exporting.classifier import Classifier

CHUNK = 256
"""Rows that are in memory at a time; among them inputs are read by their length."""


def predict_command(
    rows: Path, model: Path, output: Path | None, console: Console, *, batch: int, device: str, backbone: str | None
) -> int:
    """Answer the rows of a file as JSON lines, one a row that can be read; the others are named.

    Parameters
    ----------
    rows
        A file in one of the formats of tables; every row has the task's fields, or ``text``.
    model
        An exported folder.
    output
        File to write instead of the terminal.
    console
        Where it is said what is skipped, and how far the work is.
    batch, device, backbone
        Inputs read together; where; what adapters are put on.

    Returns
    -------
    int
        0, or 1 if a row was skipped.
    """
    from dhrd_bench.exporting.classifier import load

    if not rows.exists():
        raise UserError(f"There is no {rows}.", "Name a file of rows.")
    classifier = load(model, device, backbone)
    answered, skipped = 0, 0

    def skip(error: UserError) -> None:
        nonlocal skipped
        skipped += 1
        console.print(f"skipped {error}", highlight=False, markup=False, soft_wrap=True)

    def asked() -> Iterator[tuple[str, list[Prompt]]]:
        for place, row in read_records(rows, skip):
            try:
                prompts = classifier.prompts(row, place)
            except UserError as error:
                skip(error)
            else:
                yield place, prompts

    with _stream(output) as stream, console.status("predict") as status:
        waiting = asked()
        while chunk := list(islice(waiting, CHUNK)):
            _write(stream, classifier, chunk, batch)
            answered += len(chunk)
            status.update(f"predict: {answered} rows")
    console.print(f"{answered} rows answered, {skipped} skipped", highlight=False)
    return int(skipped > 0)


def _write(stream: TextIO, classifier: Classifier, chunk: list[tuple[str, list[Prompt]]], batch: int) -> None:
    answers = classifier.answers([prompts for _, prompts in chunk], batch)
    for (place, _), answer in zip(chunk, answers, strict=True):
        shares = {name: round(share, 6) for name, share in answer.probabilities.items()}
        line = {"row": place, "label": answer.label, "probabilities": shares}
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    stream.flush()


@contextmanager
def _stream(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    try:
        with output.open("w", encoding="utf-8") as stream:
            yield stream
    except OSError as error:
        raise UserError(f"Cannot write {output}: {error.strerror or error}.", "Choose another file.") from error
