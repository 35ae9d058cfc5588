"""The audit of one task."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dhrd_bench.data.rationales import Rationale
from dhrd_bench.data.rows import label_key
from dhrd_bench.rationales.audit.language import language_of
from dhrd_bench.rationales.audit.leak import names_label, predictability, states_verdict
from dhrd_bench.rationales.audit.overlap import contaminated, copied_share, mostly_from, near_duplicates
from dhrd_bench.rationales.audit.report import Lengths, Remark, TaskAudit, Thresholds
from dhrd_bench.rationales.rows import label_ids

if TYPE_CHECKING:
    from dhrd_bench.data.cards import TaskDefinition
    from dhrd_bench.data.suite import LoadedTask

OWN_NGRAM = 5
"""Words in a row that count as copied from the row's own input."""

MANY = 0.1
"""Share from which on something is worth a warning."""


def audit_task(
    name: str,
    definition: TaskDefinition,
    lines: Sequence[Rationale],
    loaded: LoadedTask | None,
    language: str,
    limits: Thresholds,
) -> TaskAudit:
    """Audit the lines of one task.

    Parameters
    ----------
    name, definition
        The task.
    lines
        Its rationales, rejected ones too.
    loaded
        Its rows; None checks what can be checked without them.
    language
        ISO 639-1 code of the language that the rationales should be in.
    limits
        From where on the rationales are unusable.
    """
    classes = definition.label.names
    known = label_ids(definition)
    audit = TaskAudit(task=name)
    problems = audit.problems
    used = [line for line in lines if line.factual]
    audit.rejected = dict(Counter(line.rejected for line in lines if line.rejected))
    audit.rationales = len(used)
    if empty := sum(line.rejected is None and not line.usable for line in lines):
        problems.append(Remark(level="error", message=f"{empty} lines have no text."))
    if loaded is not None:
        used = _join(audit, used, loaded, known)
    labels = [known.get(label_key(line.label)) for line in used]
    if unknown := sum(label is None for label in labels):
        problems.append(
            Remark(level="error", message=f"{unknown} lines have a label that is none of {', '.join(known)}.")
        )
    audit.by_class = {label: labels.count(number) for number, label in enumerate(classes)}
    for missing in (label for label, count in audit.by_class.items() if not count):
        present = audit.rows_by_class is None or audit.rows_by_class[missing]
        if present:
            problems.append(Remark(level="error", message=f"no rationale of the class {missing!r}."))
    if not used:
        return audit

    texts = [line.rationale for line in used]
    share = 1 / len(texts)
    counts = [len(text.split()) for text in texts]
    audit.words = Lengths(
        mean=round(statistics.mean(counts), 1),
        shortest=min(counts),
        median=statistics.median(counts),
        longest=max(counts),
    )
    answers = loaded.card.answers if loaded else ()
    audit.verdicts = share * sum(map(states_verdict, texts))
    audit.names = share * sum(names_label(text, [*classes, *answers]) for text in texts)
    audit.languages = {code: share * count for code, count in Counter(map(language_of, texts)).most_common()}
    clusters = {row.id: row.cluster for row in loaded.train} if loaded else {}
    groups = [clusters.get(line.key[0], line.key[0]) for line in used]
    labelled = [place for place, label in enumerate(labels) if label is not None]
    read = predictability(
        [texts[i] for i in labelled], [labels[i] or 0 for i in labelled], [groups[i] for i in labelled]
    )
    if read:
        audit.predictable, audit.base_rate = read
    pairs = near_duplicates(texts, limits.jaccard)
    repeated = {later for earlier, later, _ in pairs if used[earlier].key != used[later].key}
    audit.duplicates = len(repeated)
    if loaded is not None:
        _compare(audit, used, loaded, limits)
    _judge(audit, len(texts), limits, language)
    return audit


def _judge(audit: TaskAudit, used: int, limits: Thresholds, language: str) -> None:
    """Add what the figures of `audit`, taken over `used` rationales, say against using them."""
    problems = audit.problems
    if audit.duplicates > limits.duplicates * used:
        message = f"{audit.duplicates} of {used} rationales repeat another row's."
        problems.append(Remark(level="error", message=message))
    if audit.verdicts > MANY:
        problems.append(Remark(level="warning", message=f"{audit.verdicts:.0%} of the rationales state a verdict."))
    if (others := 1 - audit.languages.get(language, 0.0)) > MANY:
        problems.append(
            Remark(level="warning", message=f"{others:.0%} of the rationales seem not to be in {language!r}.")
        )
    if audit.names > MANY:
        problems.append(Remark(level="warning", message=f"{audit.names:.0%} of the rationales name a class."))


def _join(audit: TaskAudit, lines: list[Rationale], loaded: LoadedTask, known: dict[str, int]) -> list[Rationale]:
    """Hold `lines` against the train rows and return those that fit."""
    rows = {row.id: row for row in loaded.train}
    fitting: list[Rationale] = []
    audit.mismatched = audit.mislabelled = audit.absent = 0
    for line in lines:
        row = rows.get(line.key[0])
        if row is None:
            audit.absent += 1
        elif row.input_hash != line.input_sha256_16:
            audit.mismatched += 1
        elif line.label is not None and known.get(label_key(line.label)) != row.label:
            audit.mislabelled += 1
        else:
            fitting.append(line)
    by_class = Counter(row.label for row in loaded.train)
    audit.rows = len(rows)
    audit.covered = len({line.key for line in fitting})
    audit.rows_by_class = {label: by_class[number] for number, label in enumerate(loaded.test.classes)}
    audit.rationale_fingerprint = loaded.rationale_fingerprint
    for count, what, level in (
        (audit.mismatched, "lines were written for another input (their hash is not the row's).", "error"),
        (audit.mislabelled, "lines carry another label than their row.", "error"),
        (audit.absent, "lines belong to rows that the data do not have.", "warning" if fitting else "error"),
    ):
        if count:
            audit.problems.append(Remark.model_validate({"level": level, "message": f"{count} {what}"}))
    return fitting


def _compare(audit: TaskAudit, used: Sequence[Rationale], loaded: LoadedTask, limits: Thresholds) -> None:
    """Measure what the rationales share with their own inputs and with evaluation inputs."""
    by_id = {row.id: row.examples[0].example.prompt.text for row in loaded.train}
    texts = [line.rationale for line in used]
    inputs = [by_id[line.key[0]] for line in used]
    evaluation = [example.prompt.text for example in loaded.test.examples]
    audit.copied = statistics.mean(copied_share(text, own, OWN_NGRAM) for text, own in zip(texts, inputs, strict=True))
    copies = contaminated(texts, inputs, evaluation, limits.ngram)
    copies |= mostly_from(texts, inputs, evaluation, limits.containment)
    audit.contaminated = len(copies)
    if len(copies) > limits.contamination * len(texts):
        first = min(copies)
        message = (
            f"{len(copies)} of {len(texts)} rationales copy from evaluation inputs (first: row {used[first].key[0]})."
        )
        audit.problems.append(Remark(level="error", message=message))
