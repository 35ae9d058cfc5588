"""Logs of lm-evaluation-harness: ``samples_TASK_DATE.jsonl`` of ``--log_samples``, with the results file beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from dhrd_bench.data.files import read_records
from dhrd_bench.errors import UserError
from dhrd_bench.importing.logs import Log, Sample, choose_score, damaged, text_of
from dhrd_bench.results.store import read_regular
from dhrd_bench.untrusted import parse_json

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
RESULTS_LIMIT = 64 * 2**20
"""Bytes of a results file, which holds figures and settings and no samples."""

LOOKED_AT = 1000
"""Samples of which the names of scores are taken."""


def task_of(path: Path) -> str:
    """Return the task of a file of samples, which its name tells."""
    found = _NAME.fullmatch(path.name)
    return found["task"] if found else path.stem.removeprefix("samples_")


def open_log(path: Path, score: str | None) -> Log:
    """Open a file of samples; `score` is a metric and a filter, as ``acc,none``.

    Raises
    ------
    UserError
        If it is none, or the score is not there or not the only one.
    """
    scores: dict[str, None] = {}
    kinds: set[bool] = set()
    for place, row in islice(read_records(path), LOOKED_AT):
        metrics = row.get("metrics")
        if not isinstance(metrics, list) or "doc" not in row or "filtered_resps" not in row:
            raise damaged(place, "it is no sample of lm-evaluation-harness")
        named = [text_of(name) for name in metrics]
        scores |= dict.fromkeys(
            f"{name},{text_of(row.get('filter'))}" for name in named if _share(row, name) is not None
        )
        kinds.add(_likelihoods(row["filtered_resps"]) is None)
    if not kinds:
        raise damaged(path, "it has no samples")
    chosen = choose_score(path, score, list(scores))
    about = _results(path)
    config = about.get("config") if isinstance(about.get("config"), Mapping) else {}
    assert isinstance(config, Mapping)
    return Log(
        path=path,
        tool="lm-evaluation-harness",
        version=text_of(about.get("lm_eval_version")),
        model=text_of(about.get("model_name") or config.get("model")),
        task=task_of(path),
        score=chosen,
        generates=kinds == {True},
        samples=lambda: _samples(path, chosen),
    )


def _results(path: Path) -> Mapping[str, Any]:
    """Return the results file that was written with a file of samples; empty if there is none."""
    found = _NAME.fullmatch(path.name)
    beside = path.with_name(f"results_{found['date']}.json") if found else None
    if beside is None or not beside.is_file():
        return {}
    try:
        if beside.stat().st_size > RESULTS_LIMIT:
            raise ValueError(f"it has more than {RESULTS_LIMIT:,} bytes")
        content = parse_json(read_regular(beside))
    except (OSError, ValueError) as error:
        raise damaged(beside, error) from error
    return content if isinstance(content, dict) else {}


def _samples(path: Path, score: str) -> Iterator[Sample]:
    metric, _, filter_ = score.partition(",")
    for place, row in read_records(path):
        if text_of(row.get("filter")) != filter_:
            continue
        share = _share(row, metric)
        if share not in (0, 1):
            what = f"its {metric} is neither 0 nor 1"
            raise UserError(
                f"{place}: {what}, so that it is no answer that is right or wrong.", "Name another --score."
            )
        doc = row.get("doc")
        likelihoods = _likelihoods(row.get("filtered_resps"))
        asked = _asked(row.get("arguments"))
        choices = tuple(continuation.strip() for _, continuation in asked) if likelihoods else ()
        if likelihoods and metric == "acc_norm":
            likelihoods = [each / max(1, len(choice)) for each, choice in zip(likelihoods, choices, strict=False)]
        yield Sample(
            place=place,
            name=text_of(row.get("doc_id")),
            doc=doc if isinstance(doc, dict) else {},
            text=asked[0][0] if asked else "",
            digest=text_of(row.get("doc_hash")),
            right=share == 1,
            choices=choices,
            gold=_gold(row.get("target"), choices),
            chosen=likelihoods.index(max(likelihoods)) if likelihoods else None,
            scores=tuple(likelihoods) if likelihoods else None,
            said="" if likelihoods else _said(row.get("filtered_resps")),
        )


def _share(row: Mapping[str, Any], metric: str) -> float | None:
    """Return the value of a sample's metric, if it is one number."""
    value = row.get(metric)
    return float(value) if isinstance(value, bool | int | float) and abs(value) < 2**53 else None


def _likelihoods(answers: Any) -> list[float] | None:
    """Return the log-likelihoods of two choices or more, each of which stands beside whether it is the greedy one."""
    if not isinstance(answers, list) or len(answers) < 2:
        return None
    found = []
    for answer in answers:
        if not isinstance(answer, list) or len(answer) != 2 or text_of(answer[1]) not in ("True", "False"):
            return None
        try:
            found.append(float(answer[0]))
        except (TypeError, ValueError, OverflowError):
            return None
    return found if all(map(math.isfinite, found)) else None


def _asked(arguments: Any) -> list[tuple[str, str]]:
    """Return what each request was: a context and its continuation."""
    requests = (
        list(arguments.values()) if isinstance(arguments, dict) else arguments if isinstance(arguments, list) else []
    )
    pairs = [list(each.values()) if isinstance(each, dict) else each for each in requests]
    return [
        (text_of(pair[0]), text_of(pair[1] if len(pair) > 1 else "")) if isinstance(pair, list) and pair else ("", "")
        for pair in pairs
    ]


def _gold(target: Any, choices: tuple[str, ...]) -> int | None:
    """Return the position of the right choice: the log has it as a number, or as the choice itself."""
    text = text_of(target).strip()
    if text.isdecimal() and len(text) < 4 and int(text) < len(choices):
        return int(text)
    return choices.index(text) if choices.count(text) == 1 else None


def _said(answers: Any) -> str:
    while isinstance(answers, list) and answers:
        answers = answers[0]
    return text_of(answers) if not isinstance(answers, list) else ""
