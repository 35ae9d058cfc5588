"""Which files are logs, of which task, and whose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.importing import inspect_ai, lm_eval
from dhrd_bench.importing.logs import Log, Wanted
from dhrd_bench.untrusted import leads_out


@dataclass(frozen=True)
class _Reader:
    """How the logs of one harness are read."""

    task_of: Callable[[Path], str]
    open_log: Callable[[Path, str | None], Log]


_LM_EVAL = _Reader(lm_eval.task_of, lm_eval.open_log)
_INSPECT = _Reader(inspect_ai.task_of, inspect_ai.open_log)


def open_logs(places: Sequence[Path], wanted: Wanted) -> list[Log]:
    """Open the logs of one task at `places`, files or folders, in their order.

    Raises
    ------
    UserError
        If there are none, they are of several tasks or models, or one cannot be read.
    """
    found = [(path, reader, reader.task_of(path)) for place in places for path, reader in _logs(place)]
    if not found:
        where = ", ".join(map(str, places))
        raise UserError(
            f"There is no log at {where}.",
            "Name samples_*.jsonl of lm-evaluation-harness (--log_samples), or .eval or .json of Inspect.",
        )
    tasks = sorted({task for _, _, task in found})
    task = wanted.log_task or (tasks[0] if len(tasks) == 1 else wanted.task)
    if task not in tasks:
        raise UserError(f"The logs hold no task {task!r}.", f"{did_you_mean(task, tasks)} Name one with --log-task.")
    logs = [reader.open_log(path, wanted.score) for path, reader, of in found if of == task]
    models = sorted({log.model for log in logs})
    if len(models) > 1:
        raise UserError(f"The logs are of several models: {', '.join(models)}.", "Import each with its own --method.")
    return logs


def _logs(place: Path) -> Iterator[tuple[Path, _Reader]]:
    """Yield the logs at `place`; in a folder, what is none is passed over."""
    if not place.exists():
        raise UserError(f"There is nothing at {place}.", "Name a log, or a folder of logs.")
    if not place.is_dir():
        yield place, _LM_EVAL if place.suffix == ".jsonl" else _INSPECT
        return
    for path in sorted(place.rglob("*")):
        if not path.is_file() or leads_out(path, place):
            continue
        if path.name.startswith("samples_") and path.suffix == ".jsonl":
            yield path, _LM_EVAL
        elif path.suffix == ".eval" or (path.suffix == ".json" and _is_inspect(path)):
            yield path, _INSPECT


def _is_inspect(path: Path) -> bool:
    try:
        return inspect_ai.is_log(inspect_ai.read_json(path))
    except UserError:
        return False
