"""Every reader of files that strangers write, as a function of a file's bytes; what is fuzzed, and what has to hold.

`tests/test_hostile.py` feeds them in the test suite, `tests/fuzz.py` for as long as one likes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fakes
import pandas as pd
import torch
from foreign_logs import DATE, HEADER, inspect_sample, lm_eval_sample, write_inspect
from safetensors.torch import save

from dhrd_bench import plugins, registry
from dhrd_bench.backbones import Backbone, load, resolve
from dhrd_bench.backbones.fingerprint import damaged_files
from dhrd_bench.contracts import Budget, TaskCard
from dhrd_bench.data import sources
from dhrd_bench.data.cards import PromptCard
from dhrd_bench.data.files import read_records
from dhrd_bench.data.rationales import Rationale, RationaleStore, to_line
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.exporting.description import Description, Origin, read_description
from dhrd_bench.importing import lm_eval
from dhrd_bench.importing.files import open_logs
from dhrd_bench.importing.logs import Wanted
from dhrd_bench.importing.record import records_of
from dhrd_bench.modeling.fitted import Fitted
from dhrd_bench.rationales.card import make_card, to_markdown
from dhrd_bench.rationales.prompts import load_prompt
from dhrd_bench.rationales.teachers.teacher import read_settings
from dhrd_bench.report.badges import badges
from dhrd_bench.report.leaderboard import FORMATS, analyse
from dhrd_bench.report.paper import PublishedFigures, find_published
from dhrd_bench.request import read_request
from dhrd_bench.results.checksum import with_checksum
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.predictions import read_texts
from dhrd_bench.results.store import record_path, write_record
from dhrd_bench.results.timed import timed_path
from dhrd_bench.results.tuned import read_tuned
from dhrd_bench.search.space import read_space
from dhrd_bench.studies.frozen import Comparison, Frozen, FrozenCell, read_frozen
from dhrd_bench.studies.page import render
from dhrd_bench.studies.study import Study, read_study
from dhrd_bench.studies.verdict import judge
from dhrd_bench.throughput.fitted import COMPLETE
from dhrd_bench.untrusted import parse_json, parse_yaml

ROOT = Path(__file__).parent.parent
ROW = {"message": "The boiler is out.", "number": 3, "label": "yes"}
SUITE = """\
kind: suite
name: strange
tasks:
  calls:
    files: {train: train.jsonl, test: test.jsonl}
    fields: [message]
    label: {field: label, names: ["no", "yes"]}
    prompts:
      native: {text: "{{ message | trim }} Urgent?"}
"""


@dataclass(frozen=True)
class Reader:
    """One reader: the file it reads, as a path below a folder, how it reads the folder, and files that are well."""

    file: str
    read: Callable[[Path], object]
    seeds: tuple[bytes, ...]


def attempt(name: str, content: bytes) -> UserError | None:
    """Let a reader read `content`; return what it told the user, if anything.

    Raises
    ------
    AssertionError
        If it told it badly, or touched something outside the folder. Any other error is a traceback for the user.
    """
    reader = READERS[name]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve() / "folder"
        path = folder / reader.file
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        told = None
        with watched(folder), patch.dict(os.environ, {"DHRD_CACHE": str(folder / "cache"), "DHRD_DATA_DIR": ""}):
            try:
                reader.read(folder)
            except UserError as error:
                told = error
        assert sorted(Path(made).iterdir()) == [folder], "something was written beside the folder"
    if told is not None:
        assert path.name in str(told) or path.parent.name in str(told), f"no file is named: {told}"
        assert not unseen(str(told)), f"it steers a terminal: {str(told)!r}"
        assert len(str(told)) < 10_000
    return told


def unseen(text: str) -> list[str]:
    """The characters of a text that steer who shows it: control characters, line ends, turns of direction, halves."""
    turns = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    kinds = ("Cc", "Cs", "Zl", "Zp")
    return [each for each in text if unicodedata.category(each) in kinds or unicodedata.bidirectional(each) in turns]


# ---------------------------------------------------------------- what is touched meanwhile

_FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class", "socket.connect")
_PROGRAM = (*map(os.path.realpath, (ROOT, sys.prefix, sys.base_prefix)), "/proc", "/sys", "/dev", "/usr/share/zoneinfo")
_folder: Path | None = None
_touched: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _folder is None:
        return
    if event in _FORBIDDEN:
        _touched.append(f"{event} {arguments[:1]}")
    if event in ("open", "os.scandir", "os.remove", "os.rename") and isinstance(arguments[0], str | bytes):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith((str(_folder), *_PROGRAM)) and path not in sys.path:
            _touched.append(f"{event} {path}")


sys.addaudithook(_hook)


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Fail if Python opens a file outside `folder` and the program itself, starts a program or unpickles."""
    global _folder
    _folder = folder
    _touched.clear()
    try:
        yield
    finally:
        _folder = None
    assert not _touched, _touched


# ---------------------------------------------------------------- the readers


def _no_hub(*_: object) -> None:
    raise UserError("suite.yaml: the hub is not asked here.")


def _suite(folder: Path) -> None:
    (folder / "train.jsonl").write_text("\n".join(json.dumps(ROW | {"label": label}) for label in ("yes", "no")))
    (folder / "test.jsonl").write_text(json.dumps(ROW))
    suite = Suite.read(folder / "suite.yaml")
    ask, sources._hub = sources._hub, _no_hub  # type: ignore[assignment]
    try:
        for task in suite.task_names():
            suite.load(task)
    except UserError as error:  # it may name the rows and not the suite
        raise UserError(f"suite.yaml: {error}") from error
    finally:
        sources._hub = ask


def _rendered(folder: Path) -> None:
    try:
        board = analyse(load_results(folder), resamples=100)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    for form in FORMATS:
        board.render(form)


def _cards(folder: Path) -> None:
    with plugins.isolated():
        plugins.include(folder)
        known = [(kind, name) for kind in (registry.budgets, registry.backbones) for name in kind.entries]
        for kind, name in known:
            if str(folder) in kind.entries[name].origin:
                kind.get(name)


def _tuned(path: Path) -> None:
    search = read_tuned(path).with_choices()
    for name in search.methods:
        search.scores(name)
    search.chosen(())


def _frozen(folder: Path) -> None:
    path = folder / "study.frozen.json"
    with suppress(ValueError):  # who changes it can write the checksum that goes with it
        if isinstance(document := parse_json(path.read_bytes()), dict) and document.pop("checksum", None) and document:
            path.write_text(with_checksum(json.dumps(document)))
    frozen = read_frozen(path)
    fakes.write(folder / "results", [_ONE, _OTHER])
    try:
        judged = judge(_STUDY, frozen, folder / "results")
    except UserError as error:
        raise UserError(f"study.frozen.json: {error}") from error
    for form in ("terminal", "markdown", "json"):
        render(judged, form, folder / "study.yaml")


def _store(folder: Path) -> None:
    store = RationaleStore.open(folder)
    to_markdown(make_card(store))


def _store_card(folder: Path) -> None:
    (folder / "calls.jsonl").write_bytes(LINE)
    _store(folder)


def _claims(folder: Path) -> None:
    for table in find_published().glob("*.csv"):
        (folder / table.name).write_bytes(table.read_bytes())
    PublishedFigures(folder)


_BUDGET = Budget(name="test")
_TASK = TaskCard(
    name="toy", labels=("no", "yes"), answers=("No", "Yes"), metrics=("accuracy",), prompt="native",
    prompt_version="1.0.0", version="1.0.0",
)  # fmt: skip
_tiny: list[Backbone] = []


def _fitted(folder: Path) -> None:
    _tiny[:] = _tiny or [load(resolve("tiny"))]
    for name, content in (("fitted.json", FITTED), ("fitted.safetensors", TENSORS)):
        if not (folder / name).exists():
            (folder / name).write_bytes(content)
    Fitted.load(folder, _TASK, _tiny[0], _BUDGET)


def _foreign(folder: Path) -> None:
    wanted = Wanted(task="mine", method="large")
    (name,) = (path for path in folder.iterdir() if path.is_file())
    with patch.object(tempfile, "tempdir", str(folder)):  # where the evaluate library has its own
        for one in records_of(open_logs([name], wanted), wanted, None):
            write_record(folder / "results", one.record)
    load_results(folder / "results")


def _foreign_results(folder: Path) -> None:
    (folder / FOREIGN_SAMPLES).write_text(SAMPLE)
    lm_eval.open_log(folder / FOREIGN_SAMPLES, None)


def _archive() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_inspect(Path(folder) / "log.eval", [inspect_sample(1, "Is it?", "B", "A")]).read_bytes()


def _digests(folder: Path) -> None:
    try:
        damaged_files(folder, parse_json((folder / COMPLETE).read_bytes()))
    except ValueError:
        return  # as is_kept has it: it is fitted anew


def _rows(name: str) -> Callable[[Path], object]:
    return lambda folder: list(read_records(folder / name))


def _parquet() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        pd.DataFrame([ROW]).to_parquet(Path(folder) / "x.parquet")
        return (Path(folder) / "x.parquet").read_bytes()


LINE = to_line(Rationale(idx=3, label="yes", rationale="It is cold.", input_sha256_16="0123456789abcdef"))
FITTED = json.dumps({"head": "linear", "task": "toy"}).encode()
TENSORS = save({"head.0.weight": torch.zeros(2, 64), "head.0.bias": torch.zeros(2)})
CARD = b"name: mine\nlanguage: en\nrecipes: [{teacher: a, prompt: b, parameters: {temperature: 0}}]\nnotes: none\n"
REQUEST = b"methods: 'pooled,dhrd[alpha=0.5]'\nsuite: mini7\nseeds: 0-2\ncell_timeout: 30m\nthroughput: offline\n"
BUDGET = b"kind: budget\nname: mine\nepochs: 2\nlora: {r: 4}\ntuning: top:2\n"
BACKBONE = b"kind: backbone\nname: mine\nhub_id: me/mine\ngguf: {package: p, module: m, file: f.gguf}\n"
AUDIT = json.dumps({"badge": "all is well", "tasks": [{"rationale_fingerprint": "f"}]}).encode()
SPACE = b"kind: space\nall: {learning_rate: {low: 0.001, high: 0.1, log: true}}\nmethods: {mine: {k: [1, 2]}}\n"
TUNED = (
    b"schema_version: 1.0.0\nsuite: mini7\ntasks: [rte]\nbackbone: tiny\nbudget: smoke\nseeds: [0]\n"
    b"dev_rows: {rte: 9}\nsampler: random\nrandom_seed: 0\ntrials: 2\nmethods:\n"
    b"  mine:\n    identity: a\n    choice: mine\n    trials: [mine, 'mine[k=2]']\n"
    b"    scores: {mine: {rte: {0: 50.0}}}\n    errors: []\n"
)
STUDY = b"hypothesis: h\nrequests: {methods: 'a,b'}\nprimary: {method: b, baseline: a}\nmargin: 1\nseeds: 2\n"
TEXTS = b'{"id": "1", "prediction": 1, "text": "Yes"}\n'
SAMPLE = json.dumps(lm_eval_sample(0, {"q": "Is it?"}, 1, [-1.5, -0.5]))
RESULTS = b'{"model_name": "m", "lm_eval_version": "1", "config": {"model": "hf"}}'
INSPECT = json.dumps({**HEADER, "samples": [inspect_sample(1, "Is it?", "B", "A")]}).encode()
FOREIGN_SAMPLES = f"samples_mine_{DATE}.jsonl"
DESCRIPTION = Description(
    task=_TASK, classes=("no", "yes"), fields=("message",), prompt=PromptCard(text="{{ message }} Urgent?"),
    max_length=64, origin=Origin(
        record="a/b", identity="i", suite="s", method="m", backbone="tiny", revision="r", budget="smoke", seed=0
    ),
)  # fmt: skip
_ONE = fakes.record(fakes.FakeTask("t", 6), fakes.THREE[0], 0)
_TIMED = fakes.throughput(fakes.FakeTask("t", 6))
_OTHER = fakes.record(fakes.FakeTask("t", 6), fakes.THREE[1], 0)
_STUDY = Study.model_validate(parse_yaml(STUDY.decode(), "study.yaml"))
_FROZEN = Frozen(
    study="study", content=_STUDY.content(), made_of={"harness": "1.0"}, looks=(1,), secondary=(), time="2026",
    primary=(
        Comparison(suite="fake", backbone="tiny", budget="smoke", method="better", baseline="base", tasks=("t",)),
    ),
    cells=tuple(FrozenCell(cell=each.cell, identity=each.identity) for each in (_ONE, _OTHER)),
)  # fmt: skip
RECORD = _ONE.model_dump_json(exclude_none=True).encode()
_RECORD_FILE = record_path(Path(), _ONE.cell).as_posix()
FROZEN = with_checksum(_FROZEN.model_dump_json()).encode()
_CELLS = pd.DataFrame({"data": [{"rationale_fingerprint": "f"}]})

plugins.load_all()  # and not once a card

READERS = {
    "record": Reader(_RECORD_FILE, _rendered, (RECORD,)),
    "timed": Reader(timed_path(Path(), _TIMED).as_posix(), load_results, (_TIMED.model_dump_json().encode(),)),
    "texts": Reader("seed-0.generations.jsonl", lambda folder: read_texts(folder / "seed-0.json"), (TEXTS,)),
    "audit": Reader("audits/mini7.json", lambda folder: badges(folder, _CELLS), (AUDIT,)),
    "suite": Reader("suite.yaml", _suite, (SUITE.encode(), (ROOT / "suites/superglue7/suite.yaml").read_bytes())),
    "store": Reader("calls.jsonl", _store, (LINE,)),
    "store card": Reader("card.yaml", _store_card, (CARD,)),
    "request": Reader("request.yaml", lambda folder: read_request(folder / "request.yaml", {}), (REQUEST,)),
    "card": Reader("card.yaml", _cards, (BUDGET, BACKBONE)),
    "space": Reader("space.yaml", lambda folder: read_space(folder / "space.yaml"), (SPACE,)),
    "tuned": Reader("tuned.yaml", lambda folder: _tuned(folder / "tuned.yaml"), (TUNED,)),
    "study": Reader("study.yaml", lambda folder: read_study(folder / "study.yaml").content(), (STUDY,)),
    "frozen": Reader("study.frozen.json", _frozen, (FROZEN,)),
    "claims": Reader("claims.yaml", _claims, ((ROOT / "results/reference/claims.yaml").read_bytes(),)),
    "teacher": Reader("teacher.yaml", lambda folder: read_settings(folder / "teacher.yaml"), (b"temperature: 0.5\n",)),
    "teacher prompt": Reader(
        "p.yaml", lambda folder: load_prompt(str(folder / "p.yaml")),
        ((ROOT / "dhrd_bench/rationales/prompts/blind.yaml").read_bytes(),),
    ),
    "jsonl": Reader("rows.jsonl", _rows("rows.jsonl"), (json.dumps(ROW).encode(),)),
    "json": Reader("rows.json", _rows("rows.json"), (json.dumps([ROW]).encode(),)),
    "csv": Reader("rows.csv", _rows("rows.csv"), (b'message,label\n"The boiler, is out.",yes\n',)),
    "tsv": Reader("rows.tsv", _rows("rows.tsv"), (b"message\tlabel\nThe boiler is out.\tyes\n",)),
    "parquet": Reader("rows.parquet", _rows("rows.parquet"), (_parquet(),)),
    "fitted": Reader("fitted.json", _fitted, (FITTED,)),
    "tensors": Reader("fitted.safetensors", _fitted, (TENSORS,)),
    "description": Reader("dhrd_bench.json", read_description, (DESCRIPTION.model_dump_json().encode(),)),
    "lm-eval samples": Reader(FOREIGN_SAMPLES, _foreign, (SAMPLE.encode(),)),
    "lm-eval results": Reader(
        f"results_{DATE}.json", _foreign_results, (RESULTS,)
    ),
    "inspect": Reader("log.json", _foreign, (INSPECT,)),
    "inspect archive": Reader("log.eval", _foreign, (_archive(),)),
    "digests": Reader(COMPLETE, _digests, (b'{"fitted.json": "abc"}',)),
}  # fmt: skip
"""What is read, by name."""
