"""The model card of an exported classifier: what it is, how it was made, what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from dhrd_bench import __version__
from dhrd_bench.contracts import BackboneCard
from dhrd_bench.exporting.description import FILE, Description
from dhrd_bench.report.leaderboard import Choice, analyse
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.table import CELL, LongTable, long_table
from dhrd_bench.stats.intervals import Estimate

_TEMPLATE = Path(__file__).with_name("card.md.j2")


def model_card(record: CellRecord, results: Path, about: Description, backbone: BackboneCard, kind: str) -> str:
    """Return a README.md for the hub, with the measured figures of the record and of its cell's other seeds.

    Parameters
    ----------
    record, results
        What was exported, and the folder of records that it lies in.
    about, backbone
        How it is asked, and what it began with.
    kind
        ``stock``: a class of transformers; ``own``: `PooledClassifier`; ``adapter``: adapters apart.
    """
    name = f"{record.cell.method} on {record.cell.task}"
    task = about.task
    template = jinja2.Template(
        _TEMPLATE.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return str(template.render(
        metadata=_metadata(name, record, about, backbone).to_yaml().rstrip(),
        name=name, record=record, about=about, backbone=backbone, version=__version__, file=FILE,
        question=(task.description or f"the class of a row of {task.name}").rstrip("."),
        scores=list(_scores(record, results)), tuning=record.parts.budget.get("tuning", "none"),
        own=kind == "own", adapter=kind == "adapter",
    ))  # fmt: skip


def _metadata(name: str, record: CellRecord, about: Description, backbone: BackboneCard) -> ModelCardData:
    measured = [
        EvalResult(
            task_type="text-classification",
            dataset_type=record.cell.suite,
            dataset_name=f"{record.cell.task} ({record.cell.suite})",
            metric_type=metric,
            metric_name=metric,
            metric_value=round(value, 2),
        )
        for metric, value in record.metrics.items()
    ]
    return ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag="text-classification",
        base_model=about.origin.hub_id or None,
        license=backbone.licence.lower() or None,
        tags=["dhrd-bench"],
        eval_results=measured,
    )


def _scores(record: CellRecord, results: Path) -> Iterator[tuple[str, Estimate]]:
    """Yield the score of this classifier, and that of its method over all seeds that there are."""
    yield f"this classifier (seed {record.cell.seed})", _score(long_table([record]), record)
    table = load_results(results)
    cells = record.cell.model_dump()
    same = [name for name in CELL if name != "seed"]
    seeds = (table.cells[same] == [cells[name] for name in same]).all(axis=1) & (table.cells["status"] == "ok")
    if (count := int(seeds.sum())) > 1:
        yield f"its method over {count} seeds", _score(table, record)


def _score(table: LongTable, record: CellRecord) -> Estimate:
    cell = record.cell
    choice = Choice(
        suite=cell.suite,
        backbone=cell.backbone,
        budget=cell.budget,
        tasks=(cell.task,),
        methods=(cell.method,),
    )
    (board,) = analyse(table, choice, resamples=1000).boards
    return board.analysis.lines[0].score
