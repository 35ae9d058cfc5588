"""Files of strangers are data: each reader takes them or tells the user which file is wrong and why."""

from __future__ import annotations

import copy
import gzip
import io
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import fakes
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, note, settings
from hypothesis import strategies as st
from readers import READERS, RECORD, SUITE, attempt

from dhrd_bench.data import prompts
from dhrd_bench.data.files import read_records
from dhrd_bench.errors import UserError
from dhrd_bench.results.loading import load_results
from dhrd_bench.results.store import record_path
from dhrd_bench.untrusted import YAML_BYTES, YAML_DEPTH, parse_yaml

CHEAP = settings(
    max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate)
)
"""A failure is not made smaller: `note` says what was replaced by what."""

VALUES: list[Any] = [
    None, True, -1, 10**400, 2**63, float("nan"), float("inf"), 1e308, "", " ", "x" * 100_000, "\x1b]52;c;aGk=\x07",
    "\u009b2J", "\x00", "\u202e", "../../../etc/passwd", "/etc/passwd", "C:\\con", "[red]", "{{ 7 * 7 }}", "<script>",
    [], {}, [[]], {"": {}}, [None], ["x", "x"], {"a": {"b": {"c": []}}},
]  # fmt: skip
"""What is put in the place of a value that is well."""

NAMES = sorted(READERS)
BINARY = {"inspect archive", "parquet", "tensors"}
ROWS = {"csv", "tsv"}


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, each in inner for place in places(each, (*here, key)))]


def replaced(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    made = copy.deepcopy(document)
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return made


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_are_read_or_told(name: str) -> None:
    @CHEAP
    @given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="replace")))
    @example(b"")
    @example(b"\xff\xfe\x00")
    @example(b"[" * 100_000)
    @example(b'{"a":' * 100_000)
    @example(b"- " * 5_000)
    @example(b"1" * 5_000)
    @example(b"null")
    @example(b"{}\n[]\n")
    @example(b'"\\ud800"')
    def reads(content: bytes) -> None:
        attempt(name, content)

    reads()


@pytest.mark.parametrize("name", sorted(set(NAMES) - BINARY - ROWS))
def test_a_value_of_another_kind_is_read_or_told(name: str) -> None:
    """A document that is well but for one value; JSON is YAML, too."""
    documents = [yaml.safe_load(seed) for seed in READERS[name].seeds if len(seed) < 5000]
    every = [(document, place) for document in documents for place in places(document)]

    @settings(CHEAP, max_examples=10 if name == "record" else 40)
    @given(st.data())
    def reads(data: st.DataObject) -> None:
        document, place = every[data.draw(st.integers(0, len(every) - 1))]
        value = VALUES[data.draw(st.integers(0, len(VALUES) - 1))]
        note(f"{place}: {value!r:.100}")
        attempt(name, json.dumps(replaced(document, place, value)).encode())

    reads()


@pytest.mark.parametrize("name", sorted(BINARY | ROWS))
def test_a_damaged_file_is_read_or_told(name: str) -> None:
    (seed,) = READERS[name].seeds

    @settings(CHEAP, max_examples=40)
    @given(st.integers(0, len(seed) - 1), st.binary(max_size=8), st.integers(0, 8))
    def reads(at: int, put: bytes, over: int) -> None:
        attempt(name, seed[:at] + put + seed[at + over :])

    reads()


# ---------------------------------------------------------------- YAML


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "1: the key 'a' is there twice"),
        ("a: &x [*x]\n", "1: an alias stands inside what it stands for"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("a: !!binary aGk=\n", "could not determine a constructor"),
        ("a: !!set {b}\n", "could not determine a constructor"),
        ('a: "\\ud800"\n', "half a character"),
        ("a: 2001-99-99\n", "month must be in 1..12"),
        (f"a: {'1' * 5000}\n", "Exceeds the limit"),
        ("[" * (YAML_DEPTH + 1), f"nested more than {YAML_DEPTH} deep"),
        ("a: &a " + "x" * 9000 + "\nb: &b [" + "*a," * 200 + "]\nc: [" + "*b," * 200 + "]\n", "too long a text"),
        ("a: &a {b: 1}\nc: &c {<<: [" + "*a," * 9000 + "]}\nd: {<<: [" + "*c," * 9000 + "]}\n", "too long a text"),
        ("a: 1\n---\nb: 2\n", "but found another document"),
    ],
)
def test_yaml_that_is_no_plain_document_is_refused_with_its_line(text: str, problem: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(UserError) as refused:
        parse_yaml(text, "card.yaml")
    assert str(refused.value).startswith("card.yaml:")
    assert problem in str(refused.value)
    assert time.perf_counter() - begun < 10


def test_a_billion_laughs_are_none() -> None:
    lines = ["a0: &a0 [lol, lol]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    for wanted in ("name", "version", "title", "extends"):
        text = "\n".join(lines) + f"\nkind: suite\n{wanted}: *a11\n"
        told = attempt("suite", text.encode())
        assert told is not None
        assert "too long a text" in str(told)
        assert "too long a text" in str(attempt("card", text.encode()) or "too long a text")


@settings(CHEAP, max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc é:#'\""), inner, max_size=4),
        max_leaves=12,
    )
)
def test_what_yaml_writes_is_read_as_it_was(value: Any) -> None:
    """The limits take nothing from plain documents: an independent writer's output comes back whole."""
    assert parse_yaml(yaml.safe_dump(value), "x") == value


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("name", ["record", "jsonl"])
@pytest.mark.parametrize("content", [b'{"a": "%s"}' % (b"x" * 50_000_000), b'{"a":' * 100_000 + b"1" + b"}" * 100_000])
def test_a_field_of_megabytes_and_any_depth_are_survived(name: str, content: bytes) -> None:
    begun = time.perf_counter()
    attempt(name, content)
    assert time.perf_counter() - begun < 20


def test_a_card_of_megabytes_is_refused_without_reading_it() -> None:
    assert "longer than" in str(attempt("suite", b"name: " + b"x" * YAML_BYTES))


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.csv.gz"])
def test_a_compressed_file_of_one_endless_row_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhrd_bench.data.files.ROW_LIMIT", 2**20)
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'{"a": "' + b"x" * 50_000_000, 1))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"rows.*1: the line has more than 1,048,576 characters"):
            list(read_records(path))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 10 ** 10 }}", "{{ message * 9999999999 }}", "{{ '%9999999999d' % 1 }}", "{{ 2 ** 10 ** 10 }}",
        "{{ message.ljust(9999999999) }}", "{{ message | center(9999999999) }}", "{{ message | indent(9999999999) }}",
        "{{ '%9999999999s' | format(message) }}", "{% for i in range(99999) %}x{% endfor %}",
        "{% set a = message ~ message %}{% set a = a ~ a %}{{ a }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in message %}{% for b in message %}{% for c in message %}x{% endfor %}{% endfor %}{% endfor %}",
        "{{ message | join(message) | join(message) | join(message) }}",
        "{{ message | replace('e', message | replace('e', message)) }}",
        "{{ message.__class__.__mro__ }}", "{% include '/etc/passwd' %}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "{{ " + "9" * 5000 + " }}",
        "{% if 1 %}" * 200 + "{% endif %}" * 200,
    ],
)  # fmt: skip
def test_no_template_fills_the_memory_or_reaches_python(template: str) -> None:
    begun = time.perf_counter()
    told = attempt(
        "suite",
        SUITE.replace("{{ message | trim }} Urgent?", json.dumps(template)[1:-1])
        .replace('{text: "', '{"text": "')
        .encode(),
    )
    assert told is not None
    assert time.perf_counter() - begun < 5


def test_templates_may_still_do_what_a_prompt_needs() -> None:
    for template in (
        "{{ a | trim }}", "{% for x in a %}{{ x }}, {% endfor %}", "{{ a | join(', ') | upper }}",
        "{{ a | replace('x', 'y') }} {{ b | replace('y', 'z') }}", "{% if a == 1 %}one{% elif b %}two{% endif %}",
        "{{ a ~ '.' ~ b }}", "{{ a | default('-') | truncate(9) }}", "{{ a[0] if a is string else a.first }}",
    ):  # fmt: skip
        assert prompts.inspect(template)[0] == "", template


# ---------------------------------------------------------------- stores of records


def test_one_hostile_record_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    good = fakes.records(seeds=(0,))
    fakes.write(tmp_path, good)
    one = good[0].cell.model_copy(update={"seed": 7})
    raw = json.loads(RECORD)
    bad: list[Any] = [
        raw | {"cell": raw["cell"] | {"seed": 10**4400}},
        raw | {"rows": raw["rows"] | {"label": [9] * len(raw["rows"]["label"])}},
        raw | {"rows": raw["rows"] | {"prediction": [-2] * len(raw["rows"]["label"])}},
        raw | {"rows": raw["rows"] | {"label": [2**70] * len(raw["rows"]["label"])}},
        raw | {"timing": raw["timing"] | {"tokens_in": 10**300}},
        raw | {"x" * 10_000_000: 1, "schema_version": "2.0.0"},
    ]
    for number, document in enumerate(bad):
        path = record_path(tmp_path, one.model_copy(update={"seed": 100 + number}))
        path.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        json.dump(document, text) if number else text.write('{"cell": {"seed": ' + "1" * 4400 + "}}")
        path.write_text(text.getvalue())
    table = load_results(tmp_path)
    assert len(table.cells) == len(good)
    assert len(table.problems) == len(bad)
    assert all(len(problem.reason) < 5000 for problem in table.problems)


def test_parquet_with_false_metadata_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    false = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a"]}}}}
    for number, told in enumerate(["{", "\xff", json.dumps(false)]):
        table = pa.Table.from_pandas(pd.DataFrame({"label": [7]})).replace_schema_metadata({"huggingface": told})
        path = tmp_path / f"{number}.parquet"
        pq.write_table(table, path)
        with pytest.raises(UserError, match=f"{number}.parquet cannot be read as Parquet"):
            list(read_records(path))
