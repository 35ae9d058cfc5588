"""A classifier behind HTTP: `MODEL=FOLDER uvicorn app:app`, where FOLDER is what `dhrd-bench export` wrote.

POST /predict takes a list of rows, each with the fields of the task or a `text`, and returns a class and
probabilities for each. It needs fastapi and uvicorn. For load beyond what one process answers, batch across requests.
"""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from dhrd_bench.errors import UserError
from dhrd_bench.exporting import load

MOST_ROWS = 256
"""Rows of a request: one request is not to hold up all others."""

classifier = load(os.environ["MODEL"], os.environ.get("DEVICE", "cpu"))
app = FastAPI(title=classifier.about.task.name, description=classifier.about.task.description)


class Request(BaseModel):
    """Rows to answer."""

    rows: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_ROWS)


@app.get("/health")
def health() -> dict[str, object]:
    """Say what is served."""
    return {"task": classifier.about.task.name, "labels": classifier.about.classes, "fields": classifier.about.fields}


@app.post("/predict")
def predict(request: Request) -> list[dict[str, object]]:
    """Answer rows, in their order."""
    try:
        answers = classifier.predict(request.rows)
    except UserError as error:
        raise HTTPException(status_code=422, detail=str(error)) from error
    return [{"label": answer.label, "probabilities": answer.probabilities} for answer in answers]
