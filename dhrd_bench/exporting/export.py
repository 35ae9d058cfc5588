"""A record's classifier, fitted again or found, written as a folder and held against the record."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dhrd_bench.backbones import load as load_backbone
from dhrd_bench.errors import UserError
from dhrd_bench.exporting.adapter import write_adapter
from dhrd_bench.exporting.card import model_card
from dhrd_bench.exporting.classifier import Classifier, load
from dhrd_bench.exporting.folder import check_folder, describe, fitted_of, predicted, require_pooled, write_folder
from dhrd_bench.exporting.model import PooledClassifier
from dhrd_bench.grid.plan import PlannedCell, Step
from dhrd_bench.grid.rerun import Comparison, compare, plan_again
from dhrd_bench.request import Options
from dhrd_bench.results.loading import read_cell
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import results_of, write_text_atomically
from dhrd_bench.throughput.fitted import obtain_fitted


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Attributes
    ----------
    folder
        Where it lies.
    kind
        Class of the model.
    found
        Whether the fitted method was kept from before.
    distance
        Largest difference to the method's logits, relative to the larger of 1 and their size.
    flips, rows
        Test rows that it gives another class than the record, of how many.
    onnx
        Largest such difference of the ONNX model to the torch model, None without one.
    """

    folder: Path
    kind: str
    found: bool
    distance: float
    flips: int
    rows: int
    onnx: float | None = None


def export(
    path: Path, output: Path, options: Options, step: Step, *, adapter: bool = False, onnx: bool = False
) -> Exported:
    """Write the classifier of the record at `path` into the folder `output`.

    Raises
    ------
    UserError
        If the record is of something else, it cannot be fitted here, or what was fitted or written does not answer as
        the record does.
    """
    require_new(output)
    record = read_cell(path)
    plan = plan_again(record, options)
    (planned,) = plan.cells
    require_pooled(planned.method)
    backbone = load_backbone(plan.backbone)
    method, found = obtain_fitted(planned, backbone, step)
    fitted = fitted_of(method, planned.cell.method)
    about = describe(plan, planned, backbone, fitted)
    fitted.activate(backbone, planned.budget)
    with _made(output) as folder:
        if adapter:
            write_adapter(folder, fitted, backbone, about, planned.budget.lora)
        else:
            write_folder(folder, fitted, backbone, about)
        distance = check_folder(folder, method, fitted, planned, backbone)
        exported = load(folder, str(backbone.device))
        compared = _held_against(record, exported, planned)
        kind = type(exported.model).__name__
        exact = None
        if onnx:
            from dhrd_bench.exporting.onnx import write_onnx

            exact = write_onnx(folder, exported, [example.prompt for example in planned.test.examples])
        form = "adapter" if adapter else "own" if kind == PooledClassifier.__name__ else "stock"
        card = model_card(record, results_of(path), about, plan.backbone, form)
        write_text_atomically(folder / "README.md", card)
    return Exported(output, kind, found, distance, compared.flips, compared.rows, exact)


def _held_against(record: CellRecord, exported: Classifier, planned: PlannedCell) -> Comparison:
    """Compare the exported model's answers to the test rows with the record's."""
    assert record.rows is not None
    labels = exported.about.classes
    answers = [labels.index(label) for label in predicted(exported, planned)]
    after = record.rows.model_copy(update={"id": list(planned.test.ids), "prediction": answers, "score": None})
    compared = compare(record.rows, after, record.parts.backbone.dtype)
    if not compared.close:
        raise UserError(
            f"What was fitted here gives {compared.flips} of {compared.rows} test rows another class than the record "
            f"does; {compared.tolerance:.0%} may differ.",
            "See what differs with `dhrd-bench rerun`.",
        )
    return compared


@contextmanager
def _made(output: Path) -> Iterator[Path]:
    """Lend a folder that becomes `output` at the end: a reader finds all of an export or nothing."""
    try:
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=output.name, dir=output.absolute().parent) as made:
            folder = Path(made, "new")
            folder.mkdir()
            yield folder
            folder.rename(output)
    except OSError as error:
        raise UserError(f"Cannot write {output}: {error.strerror or error}.", "Choose another folder.") from error


def require_new(folder: Path) -> None:
    """Refuse, before anything is fitted, a folder that has something in it.

    Raises
    ------
    UserError
        If it has, or is a file.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"There is something at {folder}.", "Name a new folder with --output.")
