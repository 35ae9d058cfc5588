"""Which cells make a leaderboard: nothing is mixed, nothing left out silently."""

from __future__ import annotations

import fakes
import numpy as np
import pytest
from fakes import SMALL, THREE, FakeMethod

from dhrd_bench.errors import UserError
from dhrd_bench.grid.identity import method_version
from dhrd_bench.results.table import long_table
from dhrd_bench.stats.analysis import analyse_selection
from dhrd_bench.stats.design import Group
from dhrd_bench.stats.selection import groups, select

HERE = Group("fake", "tiny", "smoke")


def chosen(made, **names):
    return select(long_table(made), HERE, **names)


def without(made, **where):
    return [r for r in made if not all(getattr(r.cell, key) == value for key, value in where.items())]


def change(made, update, **where):
    return [
        update(r) if all(getattr(r.cell, key) == value for key, value in where.items()) else r for r in made
    ]  # fmt: skip


def at_version(**parts):
    return lambda record: record.model_copy(update={"parts": record.parts.model_copy(update=parts)})


def test_a_whole_grid_leaves_nothing_out():
    found = chosen(fakes.records())
    assert found.notes == ()
    assert found.grid.methods == ("base", "better", "slow")
    assert [task.name for task in found.grid.tasks] == ["alpha", "beta", "gamma"]
    assert (found.baseline, found.reference) == ("base", "slow")
    gamma = found.grid.tasks[2]
    assert gamma.predictions.shape == (3, 3, 120)
    assert gamma.n_clusters == 10
    assert len(set(gamma.groups)) == 40


def test_groups_are_told_apart_and_found_by_name():
    other = [r.model_copy(update={"cell": r.cell.model_copy(update={"budget": "laptop"})}) for r in fakes.records()]
    table = long_table([*fakes.records(), *other])
    assert groups(table) == [Group("fake", "tiny", "laptop"), HERE]
    assert groups(table, budget="SMOKE") == [HERE]
    assert "laptop" in select(table, HERE).notes[0]
    with pytest.raises(UserError, match="Did you mean 'laptop'"):
        groups(table, budget="labtop")
    with pytest.raises(UserError, match="no records"):
        groups(long_table([]))


def test_a_missing_seed_is_left_out_for_its_method_only_and_said():
    found = chosen(without(fakes.records(), method="better", task="beta", seed=1))
    assert [task.seeds for task in found.grid.tasks] == [(0, 1, 2)] * 3
    beta = found.grid.tasks[1]
    assert beta.present.tolist() == [[True] * 3, [True, False, True], [True] * 3]
    assert beta.shared([0, 1]).tolist() == [True, False, True]
    assert beta.shared([0, 2]).tolist() == [True] * 3
    assert len(found.notes) == 1
    assert found.notes[0].startswith("No result of better for beta (seeds 1): ")
    assert "the seeds that both have" in found.notes[0]


def test_a_failed_cell_is_named_with_its_error():
    made = [*without(fakes.records(), method="better", task="beta", seed=1), fakes.failed(SMALL[1], THREE[1], 1)]
    assert "Failed: better on beta, seed 1: out of memory." in chosen(made).notes


def test_a_method_that_lacks_a_task_is_compared_on_what_it_has():
    found = chosen(without(fakes.records(), method="better", task="beta"))
    assert found.grid.methods == ("base", "slow")
    assert [task.name for task in found.partial["better"].tasks] == ["alpha", "gamma"]
    assert any("better is not ranked" in note and "beta" in note for note in found.notes)
    line = next(line for line in analyse_selection(found, resamples=200).lines if line.method == "better")
    assert line.rank is None
    assert not line.ranked
    assert line.versus.gain is not None
    assert [task.task for task in line.tasks] == ["alpha", "gamma"]


def test_a_method_with_few_seeds_does_not_take_them_from_the_others():
    made = [r for r in fakes.records(seeds=range(5)) if r.cell.method != "better" or r.cell.seed == 0]
    found = chosen(made)
    assert [len(task.seeds) for task in found.grid.tasks] == [5, 5, 5]
    assert found.partial["better"].tasks[0].seeds == (0,)


def test_extra_tasks_of_a_method_are_said():
    found = chosen(without(fakes.records(), method="base", task="beta"))
    assert [task.name for task in found.grid.tasks] == ["alpha", "gamma"]
    assert any("better: beta (seeds 0, 1, 2) left out" in note for note in found.notes)


@pytest.mark.parametrize(
    ("part", "where", "kept"),
    [
        ("version", {"seed": 2}, (0, 1)),
        ("data_version", {"task": "beta", "seed": 2}, (0, 1)),
        ("method_version", {"method": "better", "task": "beta", "seed": 2}, (0, 1)),
    ],
)
def test_versions_are_never_mixed(part, where, kept):
    found = chosen(change(fakes.records(), at_version(**{part: "new"}), **where))
    beta = next(task for task in found.grid.tasks if task.name == "beta")
    better = beta.present[found.grid.methods.index("better")]
    assert tuple(seed for seed, there in zip(beta.seeds, better, strict=True) if there) == kept
    assert any("another version" in note for note in found.notes)


def test_of_equally_many_versions_the_newest_is_kept():
    made = change(
        fakes.records(seeds=(0, 1)),
        lambda r: r.model_copy(
            update={"parts": r.parts.model_copy(update={"version": "new"}), "finished": "2026-02-01T00:00:00Z"}
        ),
        seed=1,
    )
    assert {task.seeds for task in chosen(made).grid.tasks} == {(1,)}


def test_methods_may_have_versions_of_their_own():
    made = fakes.records()
    for method in ("base", "better", "slow"):
        made = change(made, at_version(method_version=method), method=method)
    for task in ("alpha", "beta", "gamma"):
        made = change(made, at_version(data_version=task), task=task)
    assert chosen(made).notes == ()


def test_examples_are_paired_by_id_and_label():
    def fewer(record):
        rows = record.rows
        return fakes.with_rows(record, id=rows.id[5:], label=rows.label[5:], prediction=rows.prediction[5:])

    def relabelled(record):
        label = list(record.rows.label)
        label[-1] = 1 - label[-1]
        return fakes.with_rows(record, label=label)

    made = change(fakes.records(), fewer, task="beta", method="better", seed=0)
    made = change(made, relabelled, task="beta", method="slow", seed=1)
    found = chosen(made)
    assert found.grid.tasks[1].predictions.shape[-1] == 94
    assert "beta: 7 of 101 examples left out, as not all cells have them." in found.notes


def test_the_order_of_rows_does_not_matter():
    def shuffled(record):
        order = np.random.default_rng(record.cell.seed).permutation(len(record.rows.id))
        columns = {
            name: [column[i] for i in order]
            for name in ("id", "label", "prediction", "cluster", "group")
            if (column := getattr(record.rows, name)) is not None
        }
        return fakes.with_rows(record, **columns)

    plain, mixed = chosen(fakes.records()).grid, chosen([shuffled(r) for r in fakes.records()]).grid
    for one, other in zip(plain.tasks, mixed.tasks, strict=True):
        assert np.array_equal(one.predictions, other.predictions)
        assert np.array_equal(one.clusters, other.clusters)
        assert np.array_equal(one.groups, other.groups)


def test_a_question_is_never_torn_apart():
    def across(record):
        return fakes.with_rows(record, cluster=[f"c{i // 2}" for i in range(len(record.rows.id))])

    gamma = chosen(change(fakes.records(), across, task="gamma")).grid.tasks[2]
    for group in set(gamma.groups):
        assert len(set(gamma.clusters[gamma.groups == group])) == 1


def test_names_are_found_whatever_their_case_and_near_ones_suggested():
    made = fakes.records()
    assert chosen(made, methods=["BASE", "better"]).grid.methods == ("base", "better")
    assert [task.name for task in chosen(made, tasks=["Beta"]).grid.tasks] == ["beta"]
    assert chosen(made, baseline="SLOW").baseline == "slow"
    with pytest.raises(UserError, match="Did you mean 'better'"):
        chosen(made, methods=["beter"])
    with pytest.raises(UserError, match="Did you mean 'gamma'"):
        chosen(made, tasks=["gama"])
    with pytest.raises(UserError, match="Did you mean 'base'"):
        chosen(made, baseline="bas")


def test_roles_are_found_in_the_cells_not_in_the_names():
    plain = chosen(fakes.records(methods=[FakeMethod("one"), FakeMethod("two")]))
    assert (plain.baseline, plain.reference) == (None, None)
    assert any("--baseline" in note for note in plain.notes)
    assert any("--reference" in note for note in plain.notes)
    several = [FakeMethod("two[a=1]", role="baseline"), FakeMethod("one", role="baseline"), FakeMethod("m")]
    found = chosen(fakes.records(methods=several))
    assert found.baseline == "one"
    assert any("Several methods have the role 'baseline'" in note for note in found.notes)


def test_an_unknown_metric_has_a_point_and_no_interval():
    task = fakes.FakeTask("odd", 40, ("evaluate:chrf",))
    found = analyse_selection(chosen(fakes.records((task,))), resamples=200)
    line = next(line for line in found.lines if line.method == "better")
    assert line.score.value == pytest.approx(np.mean([r.score for r in fakes.records((task,), THREE[1:2])]))
    assert line.score.low is None
    assert line.versus.test is None
    assert any("evaluate:chrf" in note for note in found.notes)


def test_a_single_text_has_no_interval():
    task = fakes.FakeTask("one", 30, per_cluster=30)
    found = analyse_selection(chosen(fakes.records((task,))), resamples=200)
    assert all(line.score.low is None for line in found.lines)
    assert any("one text" in note for note in found.notes)


def test_nothing_finished_is_an_error():
    with pytest.raises(UserError, match="No finished cell"):
        chosen([fakes.failed(SMALL[0], THREE[0], 0)])


def test_soft_labels_differ_by_task_and_split_no_table():
    """Each task has soft labels of its own; two kinds of them on one task are not mixed."""

    def taught(record, soft):
        parts = record.parts.model_copy(update={"soft": soft})
        return record.model_copy(
            update={"parts": parts.model_copy(update={"method_version": method_version(parts)})}
        )  # fmt: skip

    made = fakes.records(SMALL[:2], THREE, (0, 1))
    found = chosen(change(made, lambda record: taught(record, record.cell.task), method="better"))
    assert not [note for note in found.notes if "better" in note]
    assert set(found.cells["task"][found.cells["method"] == "better"]) == {"alpha", "beta"}
    found = chosen(change(made, lambda record: taught(record, str(record.cell.seed)), method="better"))
    notes = [note for note in found.notes if "another version of rationale store" in note]
    assert len(notes) == 2
