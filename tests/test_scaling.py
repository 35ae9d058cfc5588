"""The page on what grids cost is what its script makes, and the script reckons as it says."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from grids import plan, registry_as_it_was

from dhrd_bench import registry
from dhrd_bench.contracts import Decoding
from dhrd_bench.grid.estimate import Rates, Sizes, cell_seconds
from dhrd_bench.results.schema import CellRecord

__all__ = ["plan", "registry_as_it_was"]  # a fixture that every test here uses

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def scaling() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scaling", ROOT / "benchmarks" / "scaling.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scaling"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def assumed(scaling: ModuleType) -> Any:
    return scaling.assumptions([])[0]


def test_the_page_holds_what_the_script_makes(scaling: ModuleType, assumed: Any) -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    between = page.partition(f"{scaling.BEGIN}\n")[2].partition(scaling.END)[0]
    assert between == scaling.tables(assumed), "python benchmarks/scaling.py --write docs/scaling.md"


def test_seconds_of_a_cell_are_tokens_times_rates() -> None:
    rates = Rates(forward=1.0, frozen=99.0, train=10.0, lm=100.0, decode=1000.0)
    sizes = Sizes(train=4, dev=3, test=2, input=5.0, rationale=7.0, test_input=6.0)
    budget = registry.budgets.get("paper").model_copy(update={"epochs": 3, "decoding": Decoding(max_new_tokens=500)})
    names = ("pooled", "dhrd", "cot", "majority", "cot-zeroshot")
    seconds = {name: cell_seconds(registry.methods.get(name).card, sizes, budget, rates) for name in names}
    assert seconds["pooled"] == 3 * 5 * (4 + 1) * 10 + 2 * 6
    assert seconds["dhrd"] == 3 * 12 * (4 + 1) * 10 + 3 * 12 * 4 * 100 + 2 * 6
    assert seconds["cot"] == seconds["dhrd"] + 2 * 7 * 1000
    assert seconds["cot-zeroshot"] == 2 * 6 + 2 * 7 * 1000
    assert seconds["majority"] == 0
    limited = budget.model_copy(update={"decoding": Decoding(max_new_tokens=3)})
    assert cell_seconds(registry.methods.get("cot-zeroshot").card, sizes, limited, rates) == 2 * 6 + 2 * 3 * 1000


def test_weights_are_those_of_the_models(scaling: ModuleType) -> None:
    """By the makers' names: with the embedding, which is the head's size, beside the head where it is not the head."""
    total = {shape.name: (shape.blocks + shape.head) / 1e9 for shape in (scaling.SMALL, *scaling.PAPER)}
    apart = {shape.name: shape.head / 1e9 for shape in scaling.PAPER if shape.name.endswith("8b")}
    known = {
        "smollm2-135m": 0.1345, "llama-3.1-8b": 8.03, "llama-3.2-3b": 3.21, "qwen3-8b": 8.19, "qwen3-4b": 4.02,
    }  # fmt: skip
    for name, billions in known.items():
        assert total[name] + apart.get(name, 0) == pytest.approx(billions, rel=0.003)


def test_less_of_the_peak_takes_longer_and_bounds_stay_in_order(scaling: ModuleType, assumed: Any) -> None:
    budget = registry.budgets.get("paper")
    cards = scaling.methods()

    def ends(given: Any) -> list[float]:
        rates = scaling.scaled_rates(scaling.PAPER[0], 64, given)
        return [pace.hours(cards, budget) for pace in scaling.paces(rates, given)]

    low, high = ends(assumed)
    assert 0 < low < high
    for name in ("training", "reading", "decoding"):
        worse = ends(replace(assumed, **{name: tuple(share / 2 for share in getattr(assumed, name))}))
        assert worse[0] > low
        assert worse[1] > high
    assert ends(replace(assumed, fixed=(3602.0, 3630.0)))[0] == pytest.approx(
        low + sum(bool(card.kinds) for card in cards) * 7 * 5  # an hour more a cell of a method that runs the backbone
    )


def test_costs_stand_there_when_a_price_is_stated(scaling: ModuleType, assumed: Any) -> None:
    assert "cost" not in "".join(scaling.teacher(assumed))
    *_, total = scaling.teacher(replace(assumed, price=(1.0, 10.0)))
    _, name, rows, told_in, told_out, cost, _ = (part.strip() for part in total.split("|"))
    assert (name, rows) == ("all", "45,792")
    assert float(cost) == pytest.approx(float(told_in) + 10 * float(told_out), abs=0.1)


def test_a_fit_finds_the_rates_that_made_the_times(scaling: ModuleType) -> None:
    made: list[CellRecord] = []
    for record in scaling.study_records():
        tokens = record.train.tokens
        timing = record.timing
        train = record.train.model_copy(update={"seconds": tokens * (0.002 + 0.003 * record.method.uses_rationales)})
        timing = timing.model_copy(update={"seconds": timing.tokens_in * 0.001 + timing.tokens_out * 0.02})
        made.append(record.model_copy(update={"train": train, "timing": timing}))
    assert scaling.fitted(made) == pytest.approx((0.002, 0.003, 0.001, 0.02))
