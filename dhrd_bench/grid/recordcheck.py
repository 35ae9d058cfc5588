"""Checking records against the code and the data that they are of, as far as these are here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dhrd_bench import __version__, registry
from dhrd_bench.cards import Reference, split_store
from dhrd_bench.contracts import Budget
from dhrd_bench.data.splits import split
from dhrd_bench.data.suite import LoadedTask, Suite
from dhrd_bench.errors import UserError
from dhrd_bench.grid.identity import (
    HARNESS_VERSION,
    digest,
    method_identity,
    relevant_budget,
    rows_digest,
    with_versions,
)
from dhrd_bench.grid.plan import method_specs
from dhrd_bench.request import RunRequest, split_suite
from dhrd_bench.results.check import (
    Finding,
    RecordFile,
    budget_of,
    check_record,
    check_together,
    newer,
    read_file,
    record_files,
)
from dhrd_bench.results.schema import FOREIGN, Rows, Surroundings
from dhrd_bench.results.store import results_of
from dhrd_bench.results.timed import Measurement, read_timed
from dhrd_bench.results.verified import Verification, is_verified, read_verified

Load = Callable[[str, str, str], LoadedTask | str]
"""Returns a task by suite, name and prompt, or says why it cannot be had."""


@dataclass(frozen=True)
class Check:
    """What a check of records has come to."""

    records: int
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether a record cannot be as it says."""
        return any(finding.severity == "failure" for finding in self.findings)


def check_records(places: Sequence[Path], data_dir: Path | None = None, *, clean: bool = False) -> Check:
    """Check every record at `places`, files or folders of results.

    Parameters
    ----------
    places
        Where to look.
    data_dir
        Folder with the files of suites that are not embedded; None takes the environment's ``DHRD_DATA_DIR``.
    clean
        Whether a record that was made from a changed checkout fails, unless it is verified.

    Raises
    ------
    UserError
        If there is nothing at a place.
    """
    paths = record_files(places)
    findings: list[Finding] = []
    files: list[RecordFile] = []
    load = _loader(data_dir)
    for path in paths:
        file, found = read_file(path)
        findings += found
        if file is None:
            continue
        files.append(file)
        own = (_method, _budget) if file.record.foreign is None else (_foreign,)
        try:
            for look in (check_record, _identity, *own, partial(_rows, load)):
                findings += look(file)
        except UserError as error:  # a name that cannot be read
            findings.append(file.fails("names", error.message))
    findings += check_together(files)
    for place in places:
        if place.is_dir():
            findings += _timed(place, files)
    verified = _verifications(files)
    findings += (finding for file in files for finding in _checkout(file, verified, clean=clean))
    return Check(len(paths), tuple(findings))


def _identity(file: RecordFile) -> Iterator[Finding]:
    """Derive the identity of a record anew, and the digests that tell which cells go into one table."""
    record, parts = file.record, file.record.parts
    if (derived := digest(parts.hashed())) != record.identity:
        yield file.fails("identity", f"its identity is {record.identity}, its parts have {derived}")
    if record.data is not None:
        budget = {key: value for key, value in parts.budget.items() if key != "decoding"}
        derived_parts = with_versions(parts, budget, record.data.rationale_fingerprint)
        if split_store(record.cell.method)[1]:  # beside rationales that this record does not name
            derived_parts = derived_parts.model_copy(update={"data_version": parts.data_version})
        if derived_parts != parts:
            yield file.fails("identity", "the digests of its table, its task or its method are not those of its parts")
    if newer(parts.harness, HARNESS_VERSION):
        message = f"harness {parts.harness} is not known here, where {HARNESS_VERSION} is installed"
        yield file.fails("versions", message, "Update dhrd-bench, or run the cell again.")
    elif parts.harness != HARNESS_VERSION:
        yield file.notes("versions", f"it is of harness {parts.harness}, {HARNESS_VERSION} is installed")


def _foreign(file: RecordFile) -> Iterator[Finding]:
    """Say what a record was made of: neither its method nor its budget is one of ours."""
    foreign = file.record.foreign
    assert foreign is not None
    yield file.notes("foreign", f"it was made of a log of {foreign.tool} {foreign.version}".rstrip())


def _method(file: RecordFile) -> Iterator[Finding]:
    """Compare a record with its method, if that is here as it was."""
    record = file.record
    try:
        reference, store = split_store(record.cell.method)
        (spec,) = method_specs((reference,))
    except UserError as error:
        yield file.notes("method", f"it was not compared with its method: {error.message}", "Name it with --include.")
        return
    identity = method_identity(replace(spec, name=f"{spec.name}@{store}" if store else spec.name))
    if identity.code != record.parts.method.code:
        yield file.notes("method", "the source of its method has changed since, or is of another plug-in")
        return
    if identity != record.parts.method:
        yield file.fails("method", "its method has other parameters or another version than its name says")
    card = spec.card
    said = record.method
    if (said.role, said.inference, said.uses_rationales) != (card.role, card.inference, card.uses_rationales):
        yield file.fails("method", "its role, its way of answering or its use of rationales is not that of its method")


def _budget(file: RecordFile) -> Iterator[Finding]:
    """Compare a record's settings with the budget that it names."""
    record = file.record
    reference = Reference.parse(record.cell.budget)
    try:
        budget = reference.apply(registry.budgets.get(reference.name), "Budget")
    except UserError as error:
        yield file.notes("budget", f"it was not compared with its budget: {error.message}", "Name it with --include.")
        return
    settings = relevant_budget(budget, generates="generate" in record.method.kinds)
    odd = [key for key in {**settings, **record.parts.budget} if settings.get(key) != record.parts.budget.get(key)]
    if not odd:
        return
    message = f"its budget is called {record.cell.budget}, which has another {', '.join(odd)}"
    if record.environment.packages.get("dhrd-bench") == __version__:
        yield file.fails("budget", message)
    else:  # a release may have had another budget of that name
        yield file.warns("budget", message, "See that the release that made it had this budget.")


# ---------------------------------------------------------------- data


def _loader(data_dir: Path | None) -> Load:
    """Return what loads each task once, from the suite's own files or from `data_dir`, never from a network."""
    known: dict[tuple[str, str, str], LoadedTask | str] = {}

    def load(suite: str, task: str, prompt: str) -> LoadedTask | str:
        key = suite, task, prompt
        if key not in known:
            try:
                known[key] = _load(suite, task, prompt, data_dir)
            except UserError as error:
                known[key] = error.message
        return known[key]

    return load


def _load(suite: str, task: str, prompt: str, data_dir: Path | None) -> LoadedTask | str:
    request = split_suite(RunRequest(suite=suite))
    read = Suite.named(request.suite)
    (name,) = read.resolve_tasks([task])
    card = read.card.tasks[name]
    embedded = card.files is not None and any((read.path.parent / path).exists() for _, path in card.files if path)
    if not embedded and card.generated is None and data_dir is None and not os.environ.get("DHRD_DATA_DIR"):
        return f"{read.name} is not embedded; name its files with --data-dir"
    return read.load(name, prompt=prompt, data_dir=None if embedded else data_dir, unshared=request.unshared)


def _rows(load: Load, file: RecordFile) -> Iterator[Finding]:
    """Draw a record's rows again, and compare their ids, classes and order."""
    record, parts = file.record, file.record.parts
    budget = budget_of(record)
    if record.rows is None or budget is None or record.cell.suite == FOREIGN:
        return
    loaded = load(record.cell.suite, record.cell.task, parts.task.prompt)
    if isinstance(loaded, str):
        yield file.notes("data", f"its rows were not drawn again, nor its classes compared: {loaded.rstrip('.')}")
        return
    card = loaded.card
    if newer(parts.task.version, card.version):
        yield file.fails("versions", f"task version {parts.task.version} is not known here, {card.version} is the last")
    if loaded.fingerprint != parts.task.fingerprint:
        message = f"its rows were not drawn again: {record.cell.task} has other rows here"
        yield file.notes("data", f"{message} ({loaded.fingerprint}, not {parts.task.fingerprint})")
        return
    if (list(loaded.test.classes), list(card.metrics)) != (record.task.labels, record.task.metrics):
        yield file.fails("data", "its classes or its metrics are not those of its task")
    labels = dict(zip(loaded.test.ids, loaded.test.labels, strict=True))
    odd = [name for name, label in zip(record.rows.id, record.rows.label, strict=True) if labels.get(name) != label]
    if odd:
        yield file.fails("data", f"row {odd[0]!r} is not in the test split of its suite, or of another class there")
    elif record.foreign is not None:
        return  # its rows are those that the log has
    elif (parts.harness, parts.task.version) != (HARNESS_VERSION, card.version):
        message = f"its rows were not drawn again: it is of task version {parts.task.version} and harness "
        yield file.notes("data", f"{message}{parts.harness}, which may have drawn others; its classes are right")
    else:
        yield from _draw(file, record.rows, budget, loaded)


def _draw(file: RecordFile, rows: Rows, budget: Budget, loaded: LoadedTask) -> Iterator[Finding]:
    """Draw the rows of a cell again."""
    parts, said = file.record.parts, file.record.data
    data, test = split(loaded, budget, parts.seed)
    if list(test.ids) != rows.id:
        yield file.fails("data", "its rows, or their order, are not those that its budget draws for testing")
    elif [test.groups and list(test.groups), test.clusters and list(test.clusters)] != [rows.group, rows.cluster]:
        yield file.fails("data", "its rows are grouped in another way than in the suite")
    if (request := file.record.request) and request.paired:
        yield file.notes(
            "data", "its train rows were not drawn again: they are those of the stores it was compared over"
        )
    elif said and said.rationale_fingerprint != loaded.rationale_fingerprint:
        yield file.notes("data", "its train rows were not drawn again: it was trained beside other rationales")
    elif rows_digest(data, test) != parts.rows:
        yield file.fails("data", f"its rows are not those that seed {parts.seed} draws under its budget")


# ---------------------------------------------------------------- machine and checkout


def _timed(place: Path, files: Sequence[RecordFile]) -> Iterator[Finding]:
    """Hold speeds against what the machine could do at most, where a throughput record says that."""
    timed, unread = read_timed(place)
    for problem in unread:
        yield Finding("failure", "schema", problem.path, f"it is no record: {problem.reason}", "Time the methods anew.")
    peaks: dict[str, tuple[Surroundings, Measurement]] = {}
    for run in timed:
        peaks |= {each.identity: (run.environment, each) for each in run.measurements if each.roofline_share}
    for file in files:
        if file.record.timing is None or file.record.identity not in peaks:
            continue
        machine, measurement = peaks[file.record.identity]
        assert measurement.roofline_share is not None
        most = measurement.qps.value / measurement.roofline_share
        mine = file.record.environment
        same = (mine.cpu, mine.gpu, mine.dtype, mine.threads) == (
            machine.cpu,
            machine.gpu,
            machine.dtype,
            machine.threads,
        )
        if same and file.record.timing.qps > 1.1 * most:  # clocks of processors vary
            message = f"its QPS is {file.record.timing.qps:.4g}, and its machine could do {most:.4g} at its peak"
            yield file.fails("plausibility", message)


def _verifications(files: Sequence[RecordFile]) -> dict[Path, dict[str, Verification]]:
    """Return the verifications that lie beside records, by folder of results."""
    return {root: read_verified(root) for root in {results_of(file.path) for file in files}}


def _checkout(file: RecordFile, verified: dict[Path, dict[str, Verification]], *, clean: bool) -> Iterator[Finding]:
    """Say whether it is known which code made a record: no identity covers what somebody changes in the harness."""
    revision = file.record.environment.git
    if file.record.foreign is not None:
        return
    if revision is None:
        yield file.notes("checkout", "it names no commit: it was made with an installed package")
    elif revision.dirty and not is_verified(file.record, verified[results_of(file.path)]):
        message = "it was made from a changed checkout, so that its commit does not say which code made it"
        cure = "Commit and run the cell again; or have a maintainer verify it (rerun --verify)."
        yield file.fails("checkout", message, cure) if clean else file.warns("checkout", message, cure)
