"""Gains pooled over backbones and prompts."""

from __future__ import annotations

import json

import fakes
import numpy as np
import pytest
from scipy import stats
from sites import unpacked
from statsmodels.stats.meta_analysis import combine_effects

from dhrd_bench.report.leaderboard import analyse
from dhrd_bench.results.table import long_table
from dhrd_bench.site.build import site_files
from dhrd_bench.stats.pooling import pool, pooled_gains
from dhrd_bench.stats.validate_further import run

GAINS, VARIANCES = [2.0, 5.0, -1.0, 3.5, 8.0], [1.0, 2.0, 1.5, 0.8, 3.0]


def test_pooling_agrees_with_statsmodels():
    ours, theirs = pool(GAINS, VARIANCES), combine_effects(np.array(GAINS), np.array(VARIANCES), method_re="dl")
    assert ours.figure.value == pytest.approx(theirs.mean_effect_re)
    assert ours.tau == pytest.approx(np.sqrt(theirs.tau2))
    assert ours.q == pytest.approx(theirs.q)
    assert ours.i2 == pytest.approx(theirs.i2)
    assert ours.p == pytest.approx(stats.chi2.sf(theirs.q, 4))
    assert ours.figure.se == pytest.approx(np.sqrt(max(theirs.var_hksj_re, theirs.var_eff_w_re)))
    assert ours.figure.df == pytest.approx(4)
    half = stats.t.isf(0.025, 3) * np.hypot(ours.tau, ours.figure.se)
    assert (ours.new_low, ours.new_high) == pytest.approx((ours.figure.value - half, ours.figure.value + half))


def test_gains_that_agree_more_than_chance_lets_them_get_no_shorter_interval():
    alike = pool([2.0, 2.01, 1.99], [1.0, 1.0, 1.0])
    assert (alike.tau, alike.i2) == (0, 0)
    assert alike.figure.se == pytest.approx(np.sqrt(1 / 3))
    assert pool([2.0, 3.0], [1.0, 1.0]).new_low is None


def test_what_is_shared_stays_however_many_backbones_there_are():
    many = pool([1.0] * 200, [2.0] * 200, shared=1.0)
    assert many.figure.se**2 == pytest.approx(1 + 1 / 200)
    assert many.shared == pytest.approx(1 / (1 + 1 / 200))
    assert pool([1.0] * 200, [2.0] * 200).figure.se ** 2 == pytest.approx(2 / 200)


def test_intervals_hold_and_ignoring_what_is_shared_makes_them_too_short():
    found = {what: entry.rate for (what, _), entry in run(400, ["pooling"]).items()}
    for what, rate in found.items():
        if what.startswith("interval"):
            assert rate >= 92, what
    assert found["the same, examples taken to be others, 10 backbones, tau 0"] < 85


def on(backbone, shift, methods=fakes.THREE, seeds=(0, 1, 2), tasks=fakes.SMALL):
    changed = [fakes.FakeMethod(m.name, m.accuracy - shift, m.role, m.inference, m.qps) for m in methods]
    return [
        record.model_copy(update={"cell": record.cell.model_copy(update={"backbone": backbone})})
        for record in fakes.records(tasks, changed, seeds)
    ]


def test_boards_that_differ_in_their_backbone_are_pooled():
    board = analyse(long_table([*on("a", 0), *on("b", 0.1), *on("c", 0.2)]), resamples=300, margin=5)
    found = {one.method: one for one in pooled_gains([one.analysis for one in board.boards], "backbones")}
    assert set(found) == {"better", "slow"}
    assert list(found["better"].gains) == ["a", "b", "c"]
    gains = [next(line for line in b.analysis.lines if line.method == "better").versus.gain for b in board.boards]
    assert list(found["better"].gains.values()) == gains
    # The fakes answer the same examples, and which are hard is the same for all backbones.
    assert found["better"].pooled.shared > 0
    document = json.loads(board.render("json"))
    pooled = {one["method"]: one["pooled"]["figure"] for one in document["pooled_over_backbones"]}
    assert pooled["better"]["value"] == found["better"].pooled.figure.value


def test_other_tasks_or_a_single_backbone_are_not_pooled():
    mixed = analyse(long_table([*on("a", 0), *on("b", 0, tasks=fakes.SMALL[:2])]), resamples=200)
    assert pooled_gains([one.analysis for one in mixed.boards], "backbones") == []
    lacking = analyse(long_table([*on("a", 0), *on("b", 0, methods=fakes.THREE[:2])]), resamples=200)
    assert [one.method for one in pooled_gains([one.analysis for one in lacking.boards], "backbones")] == ["better"]


def asked(prompt, shift, default="native"):
    """The records of a prompt: in the name of the suite, unless it is the suite's default, and in their parts."""
    made = []
    for record in on("a", shift):
        task = record.parts.task.model_copy(update={"prompt": prompt})
        suite = "fake[unshared=true]" if prompt == default else f"fake[prompt={prompt},unshared=true]"
        cell, parts = record.cell.model_copy(update={"suite": suite}), record.parts.model_copy(update={"task": task})
        made.append(record.model_copy(update={"cell": cell, "parts": parts}))
    return made


def test_boards_that_differ_in_their_prompt_are_pooled_and_shown():
    made = [*asked("native", 0), *asked("paper", 0.1), *asked("plain", 0.2), *on("b", 0)]
    found = analyse(long_table(made), resamples=300)
    better, _ = pooled_gains([one.analysis for one in found.boards], "prompts")
    assert (better.suite, better.backbone, better.method) == ("fake[unshared=true]", "a", "better")
    assert sorted(better.gains) == ["native", "paper", "plain"]
    assert better.pooled.shared > 0
    # The same answers pool to the same, whatever it is that boards differ in.
    backbones = analyse(long_table([*on("x", 0), *on("y", 0.1), *on("z", 0.2)]), resamples=300)
    like, _ = pooled_gains([one.analysis for one in backbones.boards], "backbones")
    assert better.pooled.figure.value == pytest.approx(like.pooled.figure.value)
    assert better.pooled.shared == pytest.approx(like.pooled.shared)
    for form in ("terminal", "markdown", "html", "latex"):
        text = found.render(form, details=True)
        assert "Gains over prompts" in text
        assert "Further prompt" in text
        assert "Gains over backbones" not in text
    document = json.loads(found.render("json"))
    assert [one["method"] for one in document["pooled_over_prompts"]] == ["better", "slow"]
    assert document["pooled_over_prompts"][0]["pooled"]["figure"]["value"] == better.pooled.figure.value
    assert document["pooled_over_backbones"] == []
    index = unpacked(site_files(found)["data/index.js"])
    assert [table["title"] for table in index["across"]] == ["Gains over prompts"]
