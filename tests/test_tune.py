"""The search for settings: trials on dev rows, what is chosen, and its way into a run and a report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

import dhrd_bench as db
from dhrd_bench import plugins
from dhrd_bench.cli import app
from dhrd_bench.contracts import Budget, Range, Setting, Space
from dhrd_bench.data.splits import dev_split
from dhrd_bench.errors import UserError
from dhrd_bench.grid.plan import Plan, make_plan
from dhrd_bench.progress import Display
from dhrd_bench.registry import budgets
from dhrd_bench.request import RunRequest
from dhrd_bench.results.store import read_records
from dhrd_bench.results.tuned import Search, TunedMethod, read_tuned, write_tuned
from dhrd_bench.search.space import combined, drawn, read_space, space_of
from dhrd_bench.search.tune import SearchSettings, Tuner
from dhrd_bench.stats.best_of import best_so_far, chance, expected_best

FAST = "smoke[train_rows=8,dev_rows=6,test_rows=8,epochs=1,tuning=top:1,max_length=96]"
OWN = '''
from __future__ import annotations
import dhrd_bench as db

@db.register
class Dial(db.Method):
    """Answers the class that its setting names, and has it fail or be found out if so set."""

    card = db.MethodCard(name="dial", summary="s", objective="o", trains=False, inference="none")

    class Params(db.MethodParams):
        answer: int = 0
        broken: bool = False

    def fit(self, task: db.TaskData, context: db.Context) -> None:
        if self.params.broken:
            raise RuntimeError("the dial is broken")
        self.known = {row.example for row in (*task.train, *task.dev)}  # a warm-up predicts train rows

    def predict(self, examples, context: db.Context) -> db.Predictions:
        strange = [example.id for example in examples if example not in self.known]
        if strange:
            raise RuntimeError("neither a train row nor a dev row: " + strange[0])
        return db.Predictions([self.params.answer] * len(examples), tokens_in=[0] * len(examples))
'''
SPACE = "kind: space\nmethods:\n  dial: {answer: [0, 1], broken: [true, false]}\n"


@pytest.fixture
def dials(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "dials"
    folder.mkdir()
    (folder / "dial.py").write_text(OWN)
    (folder / "space.yaml").write_text(SPACE)
    with plugins.isolated():
        plugins.include(folder)
        yield folder


def request(results: Path, **changes: Any) -> RunRequest:
    wanted: dict[str, Any] = {"methods": "dial", "tasks": "rte", "backbone": "tiny", "budget": FAST, "seeds": "2"}
    return RunRequest(**({"results": results, "isolation": "none"} | wanted | changes))


def tuner(results: Path, settings: SearchSettings, **changes: Any) -> Tuner:
    plan = make_plan(request(results, **changes))
    return Tuner(plan, settings, results / "tuning.yaml", plan.request.budget)


def quiet(cells: int = 9) -> Display:
    return Display(Console(quiet=True), cells)


def command(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


# ---------------------------------------------------------------- what trials come to

scores_of_trials = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=7)


@given(scores_of_trials)
def test_the_expected_best_is_the_mean_over_all_subsets_with_the_first_trial(scores: list[float]) -> None:
    first, *others = scores
    for n, value in enumerate(expected_best(scores), 1):
        subsets = list(combinations(others, n - 1))
        assert value == pytest.approx(math.fsum(max((first, *subset)) for subset in subsets) / len(subsets))


@given(scores_of_trials)
def test_more_trials_are_never_expected_to_do_worse_and_all_of_them_do_as_well_as_the_best(scores: list[float]) -> None:
    for curve in (expected_best(scores), best_so_far(scores)):
        assert len(curve) == len(scores)
        assert curve[0] == scores[0]
        assert curve[-1] == pytest.approx(max(scores))
        assert all(later >= earlier - 1e-9 for earlier, later in pairwise(curve))


def test_expected_best_by_hand() -> None:
    # One of three others: (50 + 70 + 60) / 3, as 40 is no more than the first; two: 60, 70 and 70.
    assert expected_best([50, 40, 70, 60]) == pytest.approx([50, 60, 200 / 3, 70])
    assert chance(50, 25) == pytest.approx(10)


# ---------------------------------------------------------------- what is drawn

ranges = st.one_of(
    st.builds(lambda low, more, log: Range(low=low, high=low + more, log=log), st.integers(1, 50), st.integers(1, 50),
              st.booleans()),
    st.builds(lambda low, times, log: Range(low=low, high=low * times, log=log), st.floats(1e-6, 1e3),
              st.floats(1.5, 1e4), st.booleans()),
)  # fmt: skip


@given(ranges, st.integers(0, 9), st.integers(1, 99))
def test_values_lie_in_their_range_and_are_short(setting: Range, seed: int, trial: int) -> None:
    value = drawn({"a": setting}, seed, trial)["a"]
    assert setting.low <= value <= setting.high
    assert isinstance(value, int) == isinstance(setting.low, int)
    assert value in (setting.low, setting.high) or value == float(f"{value:.3g}")


def test_a_logarithmic_range_is_drawn_evenly_by_decade() -> None:
    values = [drawn({"a": Range(low=0.01, high=100.0, log=True)}, 0, trial)["a"] for trial in range(1, 2001)]
    by_decade = [sum(low <= value < low * 10 for value in values) / 2000 for low in (0.01, 0.1, 1, 10)]
    assert by_decade == pytest.approx([0.25] * 4, abs=0.04)


def test_methods_try_the_same_values_of_what_they_share() -> None:
    budget = budgets.get("smoke")
    spaces = [space_of(db.method_spec(name), budget, None) for name in ("pooled", "dhrd")]
    one, other = (drawn(space, 3, 5) for space in spaces)
    assert set(one) == {"learning_rate", "epochs"}
    assert set(other) == {"learning_rate", "epochs", "alpha"}
    assert one == {key: other[key] for key in one}
    assert drawn(spaces[0], 4, 5) != one


def test_a_space_is_that_of_the_method_less_what_its_reference_sets(tmp_path: Path) -> None:
    budget = budgets.get("smoke")
    assert "alpha" not in space_of(db.method_spec("dhrd[alpha=2]"), budget, None)
    assert "alpha" in space_of(db.method_spec("dhrd-only-label"), budget, None)  # derived
    assert space_of(db.method_spec("majority"), budget, None) == {}
    path = tmp_path / "mine.yaml"
    path.write_text("kind: space\nall: {learning_rate: [0.001, 0.002]}\nmethods: {pooled: {pooling: [last, mean]}}\n")
    own: dict[str, Setting] = space_of(db.method_spec("pooled"), budget, read_space(path))
    assert own == {"learning_rate": (0.001, 0.002), "pooling": ("last", "mean")}
    with pytest.raises(UserError, match=r"no setting 'poling' to search.*Did you mean 'pooling'"):
        space_of(db.method_spec("pooled"), budget, Space(methods={"pooled": {"poling": ("last", "mean")}}))


# ---------------------------------------------------------------- settings of a method's own


def test_own_settings_are_part_of_a_reference_and_of_the_identity(tmp_path: Path) -> None:
    names = "dhrd,dhrd[learning_rate=1e-3,alpha=0.5],dhrd[epochs=1]"
    plan = make_plan(request(tmp_path, methods=names, seeds="1"))
    plain, own = plan.cells  # the budget has one epoch: the third is the first
    assert own.cell.method == "dhrd[alpha=0.5,learning_rate=0.001]"
    assert own.budget == plan.budget.model_copy(update={"learning_rate": 0.001})
    assert plain.budget == plan.budget
    assert own.parts.method.params["learning_rate"] == 0.001
    assert "learning_rate" not in plain.parts.method.params  # as in records from before
    assert own.identity != plain.identity
    assert own.parts.version == plain.parts.version  # one table


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("majority[learning_rate=0.1]", "'majority' fine-tunes nothing"),
        ("dhrd[learning_rate=0]", "learning_rate"),
        ("dhrd[epochs=none]", "epochs"),
    ],
)
def test_settings_that_cannot_be_are_refused(reference: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        db.method_spec(reference)


# ---------------------------------------------------------------- trials


def test_trials_see_dev_rows_only_and_the_best_is_chosen(dials: Path, tmp_path: Path) -> None:
    """A failed trial is not chosen; the score is that of the dev rows, counted here by hand."""
    tuning = tuner(tmp_path, SearchSettings(trials=12))
    search = tuning.run(quiet())
    found = search.methods["dial"]
    assert len(found.trials) == 12
    assert set(found.trials) == {"dial", "dial[answer=1]", "dial[broken=true]", "dial[answer=1,broken=true]"}
    assert [error for error in found.errors if "the dial is broken" in error]
    assert found.scores["dial[broken=true]"] == {"RTE": {0: None, 1: None}}
    for planned in tuning.plan.cells:
        labels = [row.label for row in planned.data.dev]
        for answer, trial in enumerate(("dial", "dial[answer=1]")):
            share = 100 * labels.count(answer) / len(labels)
            assert found.scores[trial]["RTE"][planned.cell.seed] == pytest.approx(share)
    means = {trial: sum(filter(None, found.scores[trial]["RTE"].values())) / 2 for trial in found.trials}
    assert means[found.choice] == max(means.values())
    assert read_tuned(tmp_path / "tuning.yaml") == search
    assert not read_records(tmp_path)[0]  # a trial leaves no record


def test_the_rows_of_a_trial_are_the_dev_rows_also_where_candidates_are_asked(tmp_path: Path) -> None:
    for task in ("copa", "multirc", "cb"):
        for planned in make_plan(request(tmp_path, methods="majority", tasks=task)).cells:
            dev = dev_split(planned.loaded, planned.data)
            assert dev.examples == tuple(row.example for row in planned.data.dev)
            assert len(dev.examples) == len(dev) * dev.candidates
            assert not set(dev.examples) & {*(row.example for row in planned.data.train), *planned.test.examples}
            assert not set(dev.ids) & set(planned.test.ids) or planned.test.ids[0] in {
                r.id for r in planned.loaded.train
            }
            rows = {row.id: row.label for row in planned.loaded.train}
            assert [rows[row] for row in dev.ids] == list(dev.labels)


class _Interrupts(Display):
    """Interrupts when so many cells have ended."""

    def __init__(self, after: int) -> None:
        super().__init__(Console(quiet=True), 9)
        self.after = after

    def end(self, outcome: str = "") -> None:
        super().end(outcome)
        if self.done == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("sampler", ["random", "grid", "tpe"])
def test_a_search_that_was_interrupted_goes_on_as_if_it_had_not_been(sampler: Any, dials: Path, tmp_path: Path) -> None:
    if sampler == "tpe":
        pytest.importorskip("optuna")
    answers = (0, 1) if sampler == "grid" else Range(low=0, high=1)
    space = Space(methods={"dial": {"answer": answers}})
    settings = SearchSettings(trials=5, sampler=sampler, space=space)
    (tmp_path / "a").mkdir()
    whole = tuner(tmp_path / "a", settings).run(quiet())
    cut = tuner(tmp_path / "b", settings)
    with pytest.raises(KeyboardInterrupt):
        cut.run(_Interrupts(1))
    again = tuner(tmp_path / "b", settings)
    assert again.missing < cut.missing + 1
    assert again.run(quiet()) == whole
    assert tuner(tmp_path / "b", settings).missing == 0 or sampler == "tpe"


def test_a_grid_goes_through_all_combinations_and_then_from_the_start() -> None:
    space = {"rate": (1, 2, 3), "width": ("a", "b")}
    found = [combined(space, trial) for trial in range(1, 8)]
    assert found[:3] == [{"rate": 1, "width": "a"}, {"rate": 1, "width": "b"}, {"rate": 2, "width": "a"}]
    assert len({tuple(each.values()) for each in found}) == 6
    assert found[6] == found[0]
    assert combined({}, 3) == {}
    with pytest.raises(UserError, match="cannot go through the range of 'rate'"):
        combined({"rate": Range(low=0, high=1)}, 1)


def test_a_search_grows_and_is_not_mixed_with_another(dials: Path, tmp_path: Path) -> None:
    first = tuner(tmp_path, SearchSettings(trials=2)).run(quiet())
    more = tuner(tmp_path, SearchSettings(trials=4), methods="dial,majority").run(quiet())
    assert more.methods["dial"].trials[:2] == first.methods["dial"].trials
    assert [len(found.trials) for found in more.methods.values()] == [4, 4]
    assert more.methods["majority"].trials == ["majority"] * 4  # it has no settings: one trial does for all
    with pytest.raises(UserError, match="random_seed 0, not 1"):
        tuner(tmp_path, SearchSettings(trials=2, random_seed=1))
    other = SearchSettings(trials=4, space=Space(methods={"dial": {"answer": (5, 6, 7)}}))
    with pytest.raises(UserError, match=r"trial 2 of dial.*another space"):
        tuner(tmp_path, other).run(quiet())


def test_without_dev_rows_there_is_nothing_to_choose_by(dials: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no dev rows of RTE.*--dev-rows"):
        tuner(tmp_path, SearchSettings(trials=2), budget=FAST.replace("dev_rows=6", "dev_rows=0"))


# ---------------------------------------------------------------- the file


def a_search(**scores: list[float | None]) -> Search:
    """A search of one task and seed, whose trials have these scores."""
    methods = {}
    for name, each in scores.items():
        trials = [name, *(f"{name}[a={k}]" for k in range(1, len(each)))]
        found = {trial: {"rte": {0: score}} for trial, score in zip(trials, each, strict=True)}
        methods[name] = TunedMethod(identity="i", choice=name, trials=trials, scores=found)
    most = max(map(len, scores.values()))
    return Search(
        suite="mini7", tasks=["rte"], backbone="tiny", budget="smoke", seeds=[0], dev_rows={"rte": 16},
        sampler="random", random_seed=0, trials=most, methods=methods,
    ).with_choices()  # fmt: skip


def test_the_earlier_of_equals_is_chosen_and_a_failed_trial_never(tmp_path: Path) -> None:
    search = a_search(one=[50.0, 60.0, 60.0], two=[50.0, 50.0, None], three=[None, None, None])
    assert {name: found.choice for name, found in search.methods.items()} == {
        "one": "one[a=1]", "two": "two", "three": "three",
    }  # fmt: skip
    assert search.scores("two") == [50, 50, 0]
    assert search.chosen(()) == ("one[a=1]", "two", "three")
    assert search.chosen(("two", "one[a=1]")) == ("two", "one[a=1]")
    with pytest.raises(UserError, match=r"'thre' was not tuned.*Did you mean 'three'"):
        search.chosen(("thre",))
    write_tuned(search, tmp_path / "t.yaml")
    assert read_tuned(tmp_path / "t.yaml") == search


@pytest.mark.parametrize(("text", "words"), [("a: 1", "no file of trials"), ("schema_version: 2.0.0", "version 2.0.0")])
def test_files_that_are_no_trials_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        read_tuned(tmp_path / "t.yaml")


# ---------------------------------------------------------------- end to end


def test_from_trials_to_a_leaderboard_that_says_so(tmp_path: Path) -> None:
    """The command of the help page, then its run, which is the run of the same settings given by hand."""
    tuned, results = tmp_path / "tuning.yaml", tmp_path / "results"
    cells = ["--suite", "mini7", "--tasks", "rte", "--backbone", "tiny", "--budget", FAST, "--seeds", "1"]
    said = command("tune", "--methods", "pooled,dhrd", *cells, "--trials", "3", "--output", str(tuned))
    assert "3 trials of 2 methods: 6 cells to run." in said
    search = read_tuned(tuned)
    assert [len(search.scores(name)) for name in ("pooled", "dhrd")] == [3, 3]
    by_hand = ",".join(found.choice for found in search.methods.values())

    command("run", "--tuned", str(tuned), *cells, "--results", str(results))
    records, _ = read_records(results)
    assert sorted(record.cell.method for record in records) == sorted(search.chosen(()))
    plan: Plan = make_plan(request(results, methods=by_hand, seeds="1"))
    assert not plan.missing
    assert all(record.request and record.request.tuned is None for record in records)

    board = db.analyse(db.load_results(results), resamples=100)
    assert "Tuned on dev rows, 3 trials each" in board.render("markdown")
    assert "Score against trials" in board.render("markdown")
    figures = json.loads(board.render("json"))["leaderboards"][0]["searches"][0]["methods"]["dhrd"]
    assert figures["best_of"] == pytest.approx(expected_best(search.scores("dhrd")))
    assert "dev score of the best of 3" in board.render("csv")


def test_more_dev_rows_for_the_choice_are_not_another_budget_of_what_is_run(tmp_path: Path, dials: Path) -> None:
    tuned = tmp_path / "t.yaml"
    cells = ["--tasks", "rte", "--backbone", "tiny", "--budget", FAST, "--seeds", "1", "--include", str(dials)]
    command("tune", "--methods", "dial", *cells, "--isolation", "none", "--trials", "2", "--dev-rows", "12",
            "--output", str(tuned), "--space", str(_only_answers(tmp_path)))  # fmt: skip
    search = read_tuned(tuned)
    assert search.dev_rows == {"RTE": 12}
    reference: Budget = make_plan(request(tmp_path)).budget
    assert reference.dev_rows == 6
    assert search.budget == make_plan(request(tmp_path)).request.budget


def _only_answers(folder: Path) -> Path:
    path = folder / "answers.yaml"
    path.write_text("kind: space\nmethods: {dial: {answer: [0, 1]}}\n")
    return path
