"""A file that was damaged is never read as something else than what was written."""

from __future__ import annotations

import json
from pathlib import Path

import fakes
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dhrd_bench as db
from dhrd_bench.contracts import Context, TaskData
from dhrd_bench.errors import UserError
from dhrd_bench.results.checksum import with_checksum, without_checksum
from dhrd_bench.results.store import broken_path, read_record, record_path, superseded_path, write_record
from dhrd_bench.results.timed import read_timed, timed_path, write_timed

RECORD = fakes.record(fakes.SMALL[0], fakes.THREE[0], 0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = write_record(tmp_path_factory.mktemp("records"), RECORD)
    return path, path.read_bytes()


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_record_with_a_flipped_bit_is_refused_or_read_as_it_was(
    written: tuple[Path, bytes], data: st.DataObject
) -> None:
    path, whole = written
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
    try:
        assert read_record(path) == RECORD  # the flip was in the name of the checksum, or in the space behind it
    except ValueError:
        return
    body = whole.rindex(b',"checksum"')
    assert place >= body


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_record_that_was_cut_short_is_refused(written: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = written
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 2))])
    with pytest.raises(ValueError):
        read_record(path)


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), min_size=1), st.sampled_from([None, 1]))
def test_what_was_written_is_read(content: dict[str, object], indent: int | None) -> None:
    text = json.dumps(content, indent=indent)
    assert json.loads(without_checksum(with_checksum(text).encode())) == content
    assert set(json.loads(with_checksum(text))) == {*content, "checksum"}


def test_a_record_from_before_there_were_checksums_is_read(tmp_path: Path) -> None:
    fakes.write(tmp_path, [RECORD])
    path = record_path(tmp_path, RECORD.cell)
    assert b"checksum" not in path.read_bytes()
    assert read_record(path) == RECORD


def test_a_throughput_record_with_another_digit_is_named(tmp_path: Path) -> None:
    record = fakes.throughput(fakes.SMALL[0])
    write_timed(tmp_path, record)
    assert read_timed(tmp_path) == ([record], [])
    path = timed_path(tmp_path, record)
    path.write_text(path.read_text().replace('"margin": 5.0', '"margin": 6.0'))
    records, (problem,) = read_timed(tmp_path)
    assert not records
    assert problem.path == path
    assert "checksum" in problem.reason


def test_what_is_no_record_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    path = write_record(tmp_path, RECORD)
    path.write_text(path.read_text().replace('"seed":0', '"seed":1', 1))
    write_record(tmp_path, RECORD)
    assert read_record(path) == RECORD
    assert '"seed":1' in broken_path(path).read_text()


def test_the_old_record_stays_in_its_place_if_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_record(tmp_path, RECORD)
    moves, move = [], Path.replace

    def full_by_then(source: Path, target: Path) -> None:
        moves.append(target)
        if target == path:
            raise OSError(28, "No space left on device")
        move(source, target)

    monkeypatch.setattr(Path, "replace", full_by_then)
    with pytest.raises(UserError, match=r"No space left on device. Make room"):
        write_record(tmp_path, RECORD.model_copy(update={"identity": "f" * 16}))
    assert moves == [superseded_path(path, RECORD.identity), path]
    assert read_record(path) == read_record(superseded_path(path, RECORD.identity)) == RECORD
    assert not list(tmp_path.rglob("*.tmp"))


def test_damaged_fitted_weights_are_refused_and_old_ones_read(toy: TaskData, context: Context, tmp_path: Path) -> None:
    method = db.method("pooled")()
    method.fit(toy, context)
    method.save(tmp_path)
    weights, about = tmp_path / "fitted.safetensors", tmp_path / "fitted.json"
    examples = [row.example for row in toy.train]
    expected = method.predict(examples, context).scores
    whole, said = weights.read_bytes(), about.read_bytes()

    def scores() -> object:
        context.backbone.reset()
        fresh = db.method("pooled")()
        fresh.load(tmp_path, toy.card, context)
        return fresh.predict(examples, context).scores

    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-8], b""):
        weights.write_bytes(damaged)
        with pytest.raises(UserError, match=r"What was fitted cannot be read .*safetensors.* Fit and save it again"):
            scores()
    weights.write_bytes(whole)
    for damaged in (said.replace(b'"mlp"', b'"mlq"'), said[:-9], b""):
        about.write_bytes(damaged)
        with pytest.raises(UserError, match="Fit and save it again"):
            scores()
    about.write_text(json.dumps({"head": "mlp", "task": "toy"}))  # as it was before there were digests
    with torch.no_grad():
        assert scores() == expected
