"""Run as a program: load what another process saved, and print what it predicts. Nothing is fitted here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conftest import toy_rows

import dhrd_bench as db
from dhrd_bench.backbones import load, resolve
from dhrd_bench.contracts import Budget, Context, TaskCard


def main(folder: Path) -> None:
    card = TaskCard.model_validate_json((folder / "task.json").read_text())
    found = {}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        budget = Budget.model_validate_json((place / "budget.json").read_text())
        context = Context(backbone=load(resolve("tiny")), budget=budget, task="toy", seed=0)
        method = db.method(place.name.partition("+")[0])()
        method.load(place / "fitted", card, context)
        predicted = method.predict([row.example for row in toy_rows(8, 16)], context)
        found[place.name] = [predicted.labels, predicted.scores, predicted.texts]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
