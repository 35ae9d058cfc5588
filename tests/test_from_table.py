"""A suite from a table: every format end to end, the division, and what is said about tables that cannot be used."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from dhrd_bench import plugins
from dhrd_bench.cli import app
from dhrd_bench.data.files import FORMATS, read_records
from dhrd_bench.data.from_table import Table, suite_from_table
from dhrd_bench.data.overlap import letters
from dhrd_bench.data.suite import Suite
from dhrd_bench.errors import UserError
from dhrd_bench.results.store import read_records as read_results

CLASSES = ("calm", "glad", "sad")
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove")
Row = dict[str, Any]
ROWS: list[Row] = [
    {
        "key": f"k{n}",
        "text": f'He said: "{WORDS[n % 7]},\n{WORDS[n % 5]}"; number {n} – näher',
        "mood": CLASSES[n % 3],
        "why": f"because of {n}" if n % 4 else "",
    }
    for n in range(60)
]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A folder of our own, and a registry that forgets."""
    monkeypatch.delenv("DHRD_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    plugins.load_all()
    with plugins.isolated():
        yield


# ---------------------------------------------------------------- one table in every format


def as_text(rows: Sequence[Row], end: str) -> str:
    if end == ".jsonl":
        return "".join(json.dumps(row) + "\r\n" for row in rows)
    if end == ".json":
        return json.dumps(rows)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, rows[0], delimiter="\t" if end == ".tsv" else ",")
    writer.writeheader()
    writer.writerows(rows)
    return "\ufeff" + stream.getvalue()  # as spreadsheets save it


def write_table(path: Path, rows: Sequence[Row], end: str) -> Path:
    """Write `rows` to `path` in the format that ends names with `end`; "" is a saved data set."""
    rows = [dict.fromkeys((column for row in rows for column in row), "") | row for row in rows]
    path = path.with_name(path.name + end)
    if end == "":
        Dataset.from_list(list(rows)).save_to_disk(str(path))
    elif end == ".parquet":
        Dataset.from_list(list(rows)).to_pandas().to_parquet(path)
    elif end.endswith(".gz"):
        path.write_bytes(gzip.compress(as_text(rows, end.removesuffix(".gz")).encode()))
    else:
        path.write_bytes(as_text(rows, end).encode())
    return path


def with_numbered_classes(path: Path, rows: Sequence[Row], end: str) -> Path:
    """Write them with classes as numbers whose names are kept beside, as data sets of the hub are."""
    kinds = {name: Value("string") for name in rows[0]} | {"mood": ClassLabel(names=["sad", "calm", "glad"])}
    data = Dataset.from_list([{**row, "mood": kinds["mood"].str2int(row["mood"])} for row in rows], Features(kinds))
    data.save_to_disk(str(path)) if end == "" else data.to_parquet(path := path.with_name(path.name + end))
    return path


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def new(source: Path, *more: object) -> str:
    """Make a suite of the table at `source` and return what was printed."""
    columns = ("--text", "text", "--label", "mood", "--id", "key", "--rationale", "why")
    return call("new", "suite", "moods", "--from", source, *columns, *more).output


def run_as_told(printed: str) -> None:
    """Run the command that stands at the end of what was printed, on the smallest backbone."""
    command = shlex.split(printed.rpartition("dhrd-bench ")[2])
    output = call(*command, "--backbone", "tiny", "--budget", "smoke", "--seeds", "0").output
    assert "1 cells: 0 have a record" in output
    (record,), problems = read_results(Path("results"))
    assert not problems
    assert record.status == "ok"
    assert record.rows is not None
    assert len(record.rows.id) == 12


SPLIT = "note: no test rows were named: 12 of 60 rows (20% of each of 3 classes, drawn with seed 0) are set aside"


@pytest.mark.parametrize(
    ("write", "end"),
    [*((write_table, end) for end in (*FORMATS, "")), *((with_numbered_classes, end) for end in (".parquet", ""))],
)
def test_every_format_makes_a_suite_that_runs_at_once(
    tmp_path: Path, write: Callable[[Path, Sequence[Row], str], Path], end: str
) -> None:
    printed = new(write(tmp_path / "table", ROWS, end))
    assert SPLIT in printed
    loaded = Suite.read(Path("plugins/moods/suite.yaml")).load("mood")
    kept = {row.id: row for row in loaded.train} | dict(zip(loaded.test.ids, loaded.test.labels, strict=True))
    assert set(kept) == {row["key"] for row in ROWS}
    by_id = {row["key"]: row for row in ROWS}
    for row in loaded.train:
        original = by_id[row.id]
        assert row.fields == {"key": original["key"], "text": original["text"]}
        assert CLASSES[row.label] == original["mood"]
        assert (row.rationale or "") == original["why"]
    assert [CLASSES[label] for label in loaded.test.labels] == [by_id[name]["mood"] for name in loaded.test.ids]
    run_as_told(printed)


@pytest.mark.parametrize("names", [("train", "test"), ("train", "validation"), ("train", "validation", "test")])
def test_the_splits_of_a_saved_data_set_are_its_train_and_its_labelled_test_split(names: tuple[str, ...]) -> None:
    parts = {"train": ROWS[:48], "validation": ROWS[48:], "test": ROWS[48:]}
    if len(names) == 3:  # as many a published test split: its labels are kept back
        parts["test"] = [{**row, "mood": None} for row in ROWS[:12]]
    DatasetDict({name: Dataset.from_list(parts[name]) for name in names}).save_to_disk("saved")
    printed = new(Path("saved"))
    assert f"note: the split 'train' is for training, {names[1]!r} for testing" in printed
    run_as_told(printed)
    columns: dict[str, Any] = {"text": ("text",), "label": "mood"}
    with pytest.raises(UserError, match=r"There is no tests\. (Did you mean 'test'|Known: )"):
        suite_from_table("other", Table(source=Path("saved"), test="tests", **columns))
    chosen = suite_from_table("other", Table(source=Path("saved"), test=names[1], **columns))
    assert chosen.files["test.jsonl"].count("\n") == 12


@pytest.mark.parametrize("end", [*FORMATS, ""])
def test_a_test_table_may_have_any_format(tmp_path: Path, end: str) -> None:
    train = write_table(tmp_path / "mine", ROWS[:48], ".csv")
    printed = new(train, "--test", write_table(tmp_path / "held", ROWS[48:], end))
    assert "set aside" not in printed
    assert Suite.read(Path("plugins/moods/suite.yaml")).load("mood").test.ids == tuple(row["key"] for row in ROWS[48:])


@pytest.mark.parametrize("end", [*FORMATS, ""])
def test_a_data_folder_may_hold_a_task_in_any_format(tmp_path: Path, end: str) -> None:
    new(write_table(tmp_path / "table", ROWS, ".jsonl"))
    suite = Suite.read(Path("plugins/moods/suite.yaml"))
    own = suite.load("mood")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("train", "test"):
        rows = [dict(record) for _, record in read_records(Path(f"plugins/moods/{name}.jsonl"))]
        write_table(folder / name, rows, end)
    found = suite.load("mood", data_dir=folder)
    assert found.source.kind == "data-dir"
    assert (found.fingerprint, found.rationale_fingerprint) == (own.fingerprint, own.rationale_fingerprint)
    if end != ".csv":
        write_table(folder / "train", ROWS, ".csv")
        write_table(folder / "train", ROWS, ".tsv")
        if end != ".jsonl":  # that is the name in the suite, which goes first
            with pytest.raises(UserError, match="could both be meant"):
                suite.load("mood", data_dir=folder)


def test_a_suite_file_names_any_format(tmp_path: Path) -> None:
    new(write_table(tmp_path / "table", ROWS, ".jsonl"))
    path = Path("plugins/moods/suite.yaml")
    own = Suite.read(path).load("mood")
    for end in (*FORMATS, ""):
        for name in ("train", "test"):
            rows = [dict(record) for _, record in read_records(path.with_name(f"{name}.jsonl"))]
            write_table(path.with_name(f"{name}-copy"), rows, end)
        text = path.read_text(encoding="utf-8")
        text = text.replace("train: train.jsonl", f"train: train-copy{end}").replace(
            ": test.jsonl", f": test-copy{end}"
        )
        path.with_name("other.yaml").write_text(text, encoding="utf-8")
        assert Suite.read(path.with_name("other.yaml")).load("mood").fingerprint == own.fingerprint


# ---------------------------------------------------------------- columns and texts


def made(rows: Sequence[Row], tmp_path: Path, **changes: Any) -> dict[str, list[Row]]:
    """Return the rows of a suite from `rows`, by split."""
    columns: dict[str, Any] = {"text": ("text",), "label": "mood"} | changes
    source = write_table(tmp_path / "rows", rows, ".jsonl")
    files = suite_from_table("moods", Table(source=source, **columns)).files
    return {name: [json.loads(line) for line in files[f"{name}.jsonl"].splitlines()] for name in ("train", "test")}


def test_rows_without_names_are_numbered_as_the_table_counts_them(tmp_path: Path) -> None:
    splits = made(ROWS, tmp_path)
    every = splits["train"] + splits["test"]
    assert {row["row"]: row["text"] for row in every} == {n: row["text"] for n, row in enumerate(ROWS, 1)}


def test_columns_of_any_name_and_classes_of_any_spelling(tmp_path: Path) -> None:
    """Words of templates, of YAML and of Python, signs, spaces, two columns that look alike."""
    words = ["class", "range", "Größe {{ x }}", "a b", "a-b", "1st", "row", "{% if %}", "on"]
    rows = [
        {**dict.fromkeys(words, f"text {n}"), "right?": ["no", "Yes", "{{ y }}", " YES", "#: [}"][n % 5], "id": n}
        for n in range(50)
    ]
    path = write_table(tmp_path / "table", rows, ".csv")
    options = [part for word in words for part in ("--text", word)]
    printed = call("new", "suite", "odd", "--from", path, *options, "--label", "right?").output
    loaded = Suite.read(Path("plugins/odd/suite.yaml")).load("right")
    assert loaded.card.labels in (("#: [}", "no", "Yes", "{{ y }}"), ("#: [}", "no", "YES", "{{ y }}"))
    asked = loaded.train[0].examples[0].example.prompt.text
    assert asked.count("text ") == len(words)
    assert "{{ y }}?" in asked
    assert "dhrd-bench run --suite odd" in printed


def test_numbers_and_truth_values_are_classes(tmp_path: Path) -> None:
    for values, names in (((0, 1.0), ["0", "1"]), ((10, 9), ["9", "10"]), ((True, False), ["False", "True"])):
        rows = [{"text": f"t{n}", "mood": values[n % 2]} for n in range(20)]
        source = write_table(tmp_path / "rows", rows, ".jsonl")
        text = suite_from_table("moods", Table(source=source, text=("text",), label="mood")).files["suite.yaml"]
        assert yaml.safe_load(text)["tasks"]["mood"]["label"]["names"] == names


def test_spreadsheets_of_other_countries_are_read(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_text('\ufeff"Nachricht, lang";Klasse\n' + "".join(f'"a;b {n}";k{n % 2}\n' for n in range(20)), "utf-8")
    assert dict(next(read_records(path))[1]) == {"Nachricht, lang": "a;b 0", "Klasse": "k0"}
    path.write_text("text\tmood\n" + "".join(f"a, b {n}\tk{n % 2}\n" for n in range(20)), "utf-8")
    assert dict(next(read_records(path))[1]) == {"text": "a, b 0", "mood": "k0"}
    path.write_text("text,mood;x\na,b;c\n", "utf-8")
    assert dict(next(read_records(path))[1]) == {"text": "a", "mood;x": "b;c"}


def test_a_very_long_cell_is_read_and_pointed_out(tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS]
    rows[7]["text"] = "word " * 60_000
    path = write_table(tmp_path / "table", rows, ".csv")
    printed = new(path)
    line = 2 + 7 * 2  # a row is two lines, as its text is
    assert f"1 texts are longer than 8000 characters, the longest, at {path}:{line}, has 300000" in printed
    run_as_told(printed)


# ---------------------------------------------------------------- the division


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=12, max_size=80),
    copies=st.integers(1, 3),
    fraction=st.floats(0.05, 0.9),
    seed=st.integers(0, 5),
)
def test_every_class_is_divided_alike_and_no_text_stands_in_both(
    tmp_path_factory: pytest.TempPathFactory, labels: list[int], copies: int, fraction: float, seed: int
) -> None:
    rows = [{"text": f"t{n}", "mood": f"c{label}"} for n, label in enumerate([0, 0, 1, 1, *labels])] * copies
    kept = {name for name, count in Counter(row["mood"] for row in rows).items() if count >= 2 * copies}
    folder = tmp_path_factory.mktemp("divided")
    splits = made(rows, folder, test_fraction=fraction, seed=seed)
    assert made(rows, folder, test_fraction=fraction, seed=seed) == splits
    assert len(splits["train"]) + len(splits["test"]) == len(rows)
    assert not {row["text"] for row in splits["train"]} & {row["text"] for row in splits["test"]}
    for name in kept:
        here = sum(row["mood"] == name for row in splits["test"]) / copies
        texts = len({row["text"] for row in rows if row["mood"] == name})
        assert 1 <= here < texts
        assert abs(here - fraction * texts) <= 1


def test_another_seed_draws_others(tmp_path: Path) -> None:
    drawn = {tuple(row["text"] for row in made(ROWS, tmp_path, seed=seed)["test"]) for seed in range(5)}
    assert len(drawn) == 5


# ---------------------------------------------------------------- mistakes


def changed(number: int, **values: Any) -> list[Row]:
    return [{**row, **values} if n == number else row for n, row in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS, ["--text", "txt"], r"table\.csv has no column 'txt'\. Did you mean 'text'\?"),
        (ROWS, ["--label", "mod"], r"has no column 'mod'\. Did you mean 'mood'\?"),
        (ROWS, ["--id", "ky"], r"has no column 'ky'\. Did you mean 'key'\?"),
        (ROWS, ["--rationale", "whi"], r"has no column 'whi'\. Did you mean 'why'\?"),
        (ROWS, ["--label", "text"], r"'text' is the class and something else"),
        (ROWS, ["--label", "why", "--id", "key"], r"45 values in 45 rows .*: these are no classes"),
        ([{**row, "mood": "sad"} for row in ROWS], [], r"one class only, 'sad'"),
        ([{**row, "mood": ""} for row in ROWS], [], r"There is nothing in the column 'mood'"),
        (changed(3, text=" "), [], r"table\.csv:8: 'text' is empty, in 1 of 60 rows"),
        (changed(3, mood=""), [], r"table\.csv:8: 'mood' is \"\"\. Known labels: \"calm\""),
        (changed(3, mood="\x07"), [], r"'\\x07' in the column 'mood' .* is no name of a class|these are no classes"),
        (changed(9, key="k4"), [], r"table\.csv:20: key 'k4' is taken by .*table\.csv:10"),
        (ROWS[:3], [], r"these are no classes"),
        ([], [], r"table\.csv has no rows"),
        (ROWS, ["--test-fraction", "1"], r"share of 1 cannot be set aside"),
        (ROWS, ["--test", "none.csv"], r"There is no none\.csv"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_told(tmp_path: Path, rows: list[Row], options: list[str], message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(as_text(rows, ".csv") if rows else "key,text,mood,why\n", encoding="utf-8", newline="")
    named = {"--text": "text", "--label": "mood", "--id": "key"} | dict(zip(options[::2], options[1::2], strict=True))
    with pytest.raises(UserError, match=message):
        call("new", "suite", "moods", "--from", path, *(part for pair in named.items() for part in pair))
    assert not Path("plugins").exists(), "nothing is left behind"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"PK", r"has no known format\. Known: \.jsonl"),
        ("t.csv", b"text,text\na,b\n", "two columns have the same name"),
        ("t.csv", "text,mood\nä,b\n".encode("utf-16"), "is not UTF-8"),
        ("t.csv", "text,mood\nä,b\n".encode("latin-1"), "is not UTF-8"),
        ("t.csv.gz", gzip.compress(b"text,mood\n" + b"a,b\n" * 500, mtime=0)[:40], "is damaged"),
        ("t.csv.gz", b"text,mood\na,b\n", "Cannot read"),
        ("t.jsonl.gz", gzip.compress(b'{"text": 1\n', mtime=0), r"t\.jsonl\.gz:1: not JSON"),
        ("t.parquet", b"PAR1 no parquet PAR1", "cannot be read as Parquet"),
        ("t.parquet", b"", "cannot be read as Parquet"),
        ("folder", None, r"is no data set\. Name a file"),
        ("absent.csv", None, r"There is no .*absent\.csv"),
    ],
)
def test_files_that_cannot_be_read_are_told(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "folder":
        path.mkdir()
    with pytest.raises(UserError, match=message):
        call("new", "suite", "moods", "--from", path, "--text", "text", "--label", "mood")


def test_columns_are_listed_to_who_names_none(tmp_path: Path) -> None:
    path = write_table(tmp_path / "table", ROWS, ".csv")
    with pytest.raises(UserError, match=r"with --text .* --label\. Columns of .*table\.csv: key, text, mood, why"):
        call("new", "suite", "moods", "--from", path)
    with pytest.raises(UserError, match="no table"):
        call("new", "suite", "moods", "--text", "text")
    with pytest.raises(UserError, match="A method is not made from a table"):
        call("new", "method", "moods", "--from", path)


def test_a_saved_data_set_that_is_damaged_is_told() -> None:
    Dataset.from_list(ROWS).save_to_disk("saved")
    (data,) = Path("saved").glob("*.arrow")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(UserError, match="saved cannot be read"):
        new(Path("saved"))


def test_texts_that_differ_in_spaces_case_or_commas_stay_together(tmp_path: Path) -> None:
    """Each text twice, spelled in two ways: none of them is on both sides, and training knows that they are one."""
    rows = [f"Message number {n // 2} is here" if n % 2 else f"message  number {n // 2} is here." for n in range(80)]
    table = [{"text": text, "mood": ["low", "high"][n // 2 % 2]} for n, text in enumerate(rows)]
    sides = made(table, tmp_path)
    train, test = ({letters(row["text"]) for row in sides[split]} for split in ("train", "test"))
    assert test
    assert not train & test
