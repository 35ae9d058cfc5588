"""The calibration behind the estimates of a dry run."""

from __future__ import annotations

import pytest
import torch

from dhrd_bench.backbones import Backbone
from dhrd_bench.contracts import Budget
from dhrd_bench.grid.estimate import calibrate


@pytest.mark.parametrize("tuning", ["top:1", "lora", "full", "head"])
def test_rates_are_measured_and_the_backbone_is_left_alone(tiny: Backbone, budget: Budget, tuning: str) -> None:
    tiny.reset()  # another test may have left fitted weights in place
    before = {name: parameter.clone() for name, parameter in tiny.model.named_parameters()}
    rates = calibrate(tiny, budget.model_copy(update={"tuning": tuning}))
    assert rates.forward > 0
    assert rates.decode > 0
    assert rates.train > 0
    assert rates.lm >= 0
    assert (rates.frozen > 0) == (tuning in ("top:1", "head"))
    after = dict(tiny.model.named_parameters())
    assert list(after) == list(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not tiny.frozen_states
