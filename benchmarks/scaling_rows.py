"""The rows and tokens that `scaling.py` reckons with: ``python benchmarks/scaling_rows.py --data-dir SUPERGLUE``.

Counted with the tokenizer of smollm2-135m under the budget `paper`, which writes ``scaling.json``. Tokenizers with
larger vocabularies make fewer tokens of the same text.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any, TypeVar

from dhrd_bench import RunRequest
from dhrd_bench.backbones import Backbone, load, resolve
from dhrd_bench.contracts import Example
from dhrd_bench.data.suite import Suite
from dhrd_bench.grid.plan import PlannedCell, make_plan
from dhrd_bench.rationales.prompts import load_prompt
from dhrd_bench.rationales.rows import load_rows, teacher_rows

T = TypeVar("T")
OUTPUT = Path(__file__).parent / "scaling.json"
SAMPLE = 500
"""So many rows of a split are tokenised at most."""
SUITE, TOKENIZER, BUDGET, TEACHER_PROMPT = "superglue7", "smollm2-135m", "paper", "paper"


def main() -> None:
    """Count and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    folder = parser.parse_args().data_dir
    plan = make_plan(RunRequest(methods=("majority",), suite=SUITE, budget=BUDGET, seeds=(0,), data_dir=folder))
    backbone = load(resolve(TOKENIZER))
    tasks = {planned.cell.task: count(planned, backbone, folder) for planned in plan.cells}
    made = {"suite": SUITE, "budget": BUDGET, "tokenizer": TOKENIZER, "teacher_prompt": TEACHER_PROMPT, "tasks": tasks}
    OUTPUT.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def count(planned: PlannedCell, backbone: Backbone, folder: Path) -> dict[str, Any]:
    """Return the rows of one task, and mean tokens: of inputs, of rationales with their answer, of a teacher's work."""
    limit, card = planned.budget.max_length, planned.loaded.card
    prompt = load_prompt(TEACHER_PROMPT)

    def inputs(examples: Iterable[Example]) -> float:
        return round(mean(min(limit, len(backbone.encode(each.prompt.text))) for each in sample(examples)), 1)

    reasons = [row.rationale for row in planned.data.train if row.rationale]
    markers = len(backbone.encode(card.reason + card.answer)) + 3  # with the answer itself, as the estimate has it
    suite = Suite.named(SUITE)
    shown = [
        prompt.render(row.text, card.answers, row.label)
        for row in sample(teacher_rows(suite, load_rows(suite, planned.cell.task, folder)))
    ]
    every = [each.example for row in planned.loaded.train for each in row.examples]
    return {
        "rows": {
            "train": len(planned.data.train),
            "dev": len(planned.data.dev),
            "test": len(planned.test.examples),
        },
        "tokens": {
            "input": inputs(row.example for row in planned.data.train),
            "input_all": inputs(every),
            "input_test": inputs(planned.test.examples),
            "rationale": round(mean(len(backbone.encode(text)) for text in reasons) + markers, 1),
            "teacher_in": round(mean(len(backbone.encode(f"{each.system}\n{each.user}")) for each in shown), 1),
        },
    }


def sample(rows: Iterable[T]) -> list[T]:
    """Return `SAMPLE` rows at most, evenly spread."""
    every = list(rows)
    return every[:: -(-len(every) // SAMPLE)]


if __name__ == "__main__":
    main()
