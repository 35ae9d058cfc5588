"""What grids cost: ``python benchmarks/scaling.py --write docs/scaling.md`` makes the tables of that page.

From ``scaling.json`` (rows and tokens), ``results-gpu.json`` and ``results.json`` (speeds that were measured), the
records below ``results/`` and the program's own estimate, `dhrd_bench.grid.estimate.cell_seconds`. Assumptions are
options.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import nnls

from dhrd_bench import registry
from dhrd_bench.contracts import Budget, MethodCard
from dhrd_bench.grid.estimate import Rates, Sizes, cell_seconds
from dhrd_bench.results.schema import CellRecord
from dhrd_bench.results.store import read_records
from dhrd_bench.stats.validate import write_between

HERE = Path(__file__).parent
BEGIN, END = "<!-- scaling: begin -->", "<!-- scaling: end -->"
RELEASE = {"BoolQ": 9427, "CB": 250, "COPA": 400, "MultiRC": 27243, "RTE": 2490, "WiC": 5428, "WSC": 554}
"""Train rows of SuperGLUE's release."""
DEV_AT_MOST = 3
"""Dev takes one row of so many at most."""
SEEDS = 5


@dataclass(frozen=True)
class Shape:
    """Weights of a decoder: those of its blocks, and those of its LM head."""

    name: str
    blocks: int
    head: int

    @classmethod
    def of(cls, name: str, layers: int, width: int, queries: int, keys: int, inner: int, words: int) -> Shape:
        """Count the weights of a Llama-style decoder; `queries` and `keys` are widths of projections."""
        return cls(name, layers * width * (2 * queries + 2 * keys + 3 * inner), width * words)


SMALL = Shape.of("smollm2-135m", 30, 576, 576, 192, 1536, 49152)
PAPER = (
    Shape.of("llama-3.1-8b", 32, 4096, 4096, 1024, 14336, 128256),
    Shape.of("llama-3.2-3b", 28, 3072, 3072, 1024, 8192, 128256),
    Shape.of("qwen3-8b", 36, 4096, 4096, 1024, 12288, 151936),
    Shape.of("qwen3-4b", 36, 2560, 4096, 1024, 9728, 151936),
)


@dataclass(frozen=True)
class Assumed:
    """What was not measured, each with its least and its greatest value.

    Attributes
    ----------
    training, reading
        Share of the measured matmul peak that LoRA training and reading inputs reach at 3B to 8B.
    decoding
        Share of `bandwidth` (bytes a second) at which weights are read for each token that is generated.
    fixed
        Seconds of a cell that no token accounts for: its share of loading, tokenising, recording.
    price
        For a million tokens into and out of a teacher, None if nobody has stated one.
    """

    training: tuple[float, float]
    reading: tuple[float, float]
    decoding: tuple[float, float]
    bandwidth: float
    fixed: tuple[float, float]
    price: tuple[float, float] | None


# ---------------------------------------------------------------- rates


def measured_rates() -> tuple[Rates, Rates]:
    """Return the slowest and the fastest round at 135M on an H100: LoRA steps, pooled inference, decoding."""
    rows = json.loads((HERE / "results-gpu.json").read_text(encoding="utf-8"))
    tokens = 149  # of an input of the pooled row, as its setting says

    def rates(pick: Callable[[list[float]], float]) -> Rates:
        train = 1 / pick(rows["lora-step"]["ours"])
        forward = 1 / (tokens * pick(rows["pooled-inference"]["ours"]))
        return Rates(forward, 0.0, train, train * SMALL.head / SMALL.blocks, 1 / pick(rows["decoding"]["ours"]))

    return rates(min), rates(max)


def peak() -> float:
    """Return the FLOP/s of a matrix product that were measured beside the 8B row."""
    row = json.loads((HERE / "results-gpu.json").read_text(encoding="utf-8"))["pooled-inference-8b"]
    (said,) = [check for check in row["checks"] if check.startswith("matmul peak")]
    return float(said.split(": ")[1].split()[0]) * 1e12


def scaled_rates(shape: Shape, batch: int, assumed: Assumed) -> tuple[Rates, Rates]:
    """Return the slowest and the fastest rates for a larger backbone, by counting operations.

    A token costs 2 FLOPs a weight forward, and as many again backward to what adapters need; weights that are frozen
    have no gradient. A generated token costs its share of reading all weights once, in bfloat16.
    """

    def rates(end: int) -> Rates:
        train = 4 * shape.blocks / (assumed.training[end] * peak())
        forward = 2 * shape.blocks / (assumed.reading[end] * peak())
        decode = 2 * (shape.blocks + shape.head) / (assumed.decoding[end] * assumed.bandwidth) / batch
        return Rates(forward, 0.0, train, train * shape.head / shape.blocks, decode)

    return rates(0), rates(1)


# ---------------------------------------------------------------- grids


def tasks() -> dict[str, Any]:
    """Return rows and tokens by task."""
    found: dict[str, Any] = json.loads((HERE / "scaling.json").read_text(encoding="utf-8"))["tasks"]
    return found


def sizes_of(task: str, counted: Any, *, every_row: bool) -> Sizes:
    """Return the sizes of a cell: with the rationales there are, or with one for every row of the release."""
    rows, tokens = counted["rows"], counted["tokens"]
    if not every_row:
        return Sizes(
            rows["train"], rows["dev"], rows["test"], tokens["input"], tokens["rationale"], tokens["input_test"]
        )
    dev = min(200, RELEASE[task] // DEV_AT_MOST)
    rest = (tokens["input_all"], tokens["rationale"], tokens["input_test"])
    return Sizes(RELEASE[task] - dev, dev, rows["test"], *rest)


@dataclass(frozen=True)
class Pace:
    """How fast a backbone works, and seconds that a cell takes besides."""

    rates: Rates
    fixed: float

    def hours(self, cards: Sequence[MethodCard], budget: Budget, *, every_row: bool = False) -> float:
        """Return the hours of `cards` x all tasks x seeds on one card."""
        sizes = [sizes_of(task, counted, every_row=every_row) for task, counted in tasks().items()]
        cells = [cell_seconds(card, each, budget, self.rates) for card in cards for each in sizes]
        return SEEDS * (sum(cells) + sum(seconds > 0 for seconds in cells) * self.fixed) / 3600

    def longer(self, writing: int, budget: Budget) -> float:
        """Return the hours it takes beyond that if so many methods write texts up to the budget's limit."""
        every = [
            each["rows"]["test"] * (budget.decoding.max_new_tokens - each["tokens"]["rationale"])
            for each in tasks().values()
        ]
        return SEEDS * writing * sum(every) * self.rates.decode / 3600


Paces = tuple[Pace, Pace]
"""The fastest and the slowest."""


def paces(rates: tuple[Rates, Rates], assumed: Assumed) -> Paces:
    """Return the fastest and the slowest pace of slowest and fastest rates."""
    return Pace(rates[1], assumed.fixed[0]), Pace(rates[0], assumed.fixed[1])


def methods() -> list[MethodCard]:
    """Return the cards of all built-in methods."""
    return [registry.methods.get(name).card for name in registry.methods.names()]


def hours(low: float, high: float) -> str:
    """Write a range."""
    return " to ".join(f"{each:,.0f}" if each >= 10 else f"{each:.1f}" for each in (low, high))


def grids(assumed: Assumed) -> Iterator[str]:
    """Yield the tables of GPU hours."""
    budget = registry.budgets.get("paper")
    cards, batch = methods(), budget.decoding.batch_size
    cells = len(cards) * len(RELEASE) * SEEDS
    every = [(SMALL, paces(measured_rates(), assumed))]
    every += [(shape, paces(scaled_rates(shape, batch, assumed), assumed)) for shape in PAPER]
    four = [pace for _, pace in every[1:]]
    yield "### The full grid\n"
    grid = f"{len(cards)} methods x {len(RELEASE)} tasks x {SEEDS} seeds"
    yield f"{grid} a backbone, budget `paper`, GPU hours on one H100:\n"
    yield "| backbone | cells | with the rationales there are | with one for every train row | seconds a token |"
    yield "|---|---|---|---|---|"
    sums = np.zeros(4)
    for shape, ends in every:
        both = [pace.hours(cards, budget, every_row=each) for each in (False, True) for pace in ends]
        sums += np.array(both) if shape is not SMALL else 0
        how = "measured" if shape is SMALL else "assumed"
        yield f"| {shape.name} | {cells:,} | {hours(*both[:2])} | {hours(*both[2:])} | {how} |"
    yield f"| the paper's four | {4 * cells:,} | {hours(*sums[:2])} | {hours(*sums[2:])} | assumed |"
    yield "\nOf the paper's four with the rationales there are, by what a method does at test time:\n"
    yield "| at test time | methods | GPU hours |"
    yield "|---|---|---|"
    for kind in ("pooled", "score", "generate", "none"):
        of_kind = [card for card in cards if ("none", *card.kinds)[-1] == kind]
        low, high = (sum(pair[end].hours(of_kind, budget) for pair in four) for end in (0, 1))
        yield f"| {kind} | {len(of_kind)} | {hours(low, high)} |"
        if kind == "generate":
            low, high = (sum(pair[end].longer(len(of_kind), budget) for pair in four) for end in (0, 1))
            most = budget.decoding.max_new_tokens
            yield f"| beyond that if every text runs to {most} tokens | {len(of_kind)} | {hours(low, high)} |"
    yield from contributors(cards, four, budget)


def contributors(cards: Sequence[MethodCard], four: Sequence[Paces], budget: Budget, many: int = 100) -> Iterator[str]:
    """Yield what so many methods from outside add, each as dear as one that learns from rationales and is pooled."""
    like = next(card for card in cards if card.uses_rationales and card.kinds == ("pooled",))
    size = record_bytes() / 1e9
    row = json.loads((HERE / "results.json").read_text(encoding="utf-8"))["scale"]
    report = median(10_500 / rate for rate in row["ours"]) / 10_500
    a_backbone = many * len(RELEASE) * SEEDS
    yield f"\n### {many} contributors\n"
    yield "Each adds a method that learns from rationales and answers from the pooled state:\n"
    yield "| backbones | cells | GPU hours | records | one report on them |"
    yield "|---|---|---|---|---|"
    low, high = ([many * pair[end].hours([like], budget) for pair in four] for end in (0, 1))
    for name, count, span in (("one", 1, (min(low), max(high))), ("the paper's four", 4, (sum(low), sum(high)))):
        cells = count * a_backbone
        yield f"| {name} | {cells:,} | {hours(*span)} | {cells * size:.1f} GB | {cells * report:,.0f} s |"


# ---------------------------------------------------------------- teachers


def teacher(assumed: Assumed) -> Iterator[str]:
    """Yield the table of a teacher's tokens, and of what they cost at a price that was stated."""
    yield "\n### The teacher\n"
    yield "One reply for every train row of the release:\n"
    yield "| task | rows | million tokens in | million tokens out |" + (" cost |" if assumed.price else "")
    yield "|---|---|---|---|" + ("---|" if assumed.price else "")
    total = np.zeros(2)
    for task, counted in tasks().items():
        each = np.array([counted["tokens"]["teacher_in"], counted["tokens"]["rationale"]]) * RELEASE[task] / 1e6
        total += each
        yield _teacher_row(task, RELEASE[task], each, assumed.price)
    yield _teacher_row("all", sum(RELEASE.values()), total, assumed.price)


def _teacher_row(name: str, rows: int, tokens: Any, price: tuple[float, float] | None) -> str:
    cost = f" {float(tokens @ np.array(price)):,.2f} |" if price else ""
    return f"| {name} | {rows:,} | {tokens[0]:.2f} | {tokens[1]:.2f} |{cost}"


# ---------------------------------------------------------------- how well the model fits


def study_records() -> list[CellRecord]:
    """Return the records of the project's study whose methods run a backbone."""
    return [
        record
        for record in read_records(HERE.parent / "results")[0]
        if (record.cell.suite, record.cell.budget) == ("derivations-short", "overnight") and record.train.tokens
    ]


def record_bytes() -> float:
    """Return the mean size of a record with all test rows, from what a row takes in those there are."""
    test = sum(counted["rows"]["test"] for counted in tasks().values()) / len(RELEASE)
    found = []
    for record in study_records():
        assert record.rows is not None
        rows = len(record.rows.model_dump_json(exclude_none=True))
        found.append(len(record.model_dump_json(exclude_none=True)) - rows + test * rows / len(record.rows.id))
    return sum(found) / len(found)


def fitted(records: Sequence[CellRecord]) -> tuple[float, float, float, float]:
    """Fit, to ratios of measured to expected, seconds a token: training, its LM loss, reading, generating."""
    train = [(*_training(each), each.train.seconds or 0.0) for each in records if each.train.seconds]
    test = [(t.tokens_in, t.tokens_out, t.seconds) for each in records if (t := each.timing) and t.tokens_in]
    both = []
    for rows in (train, test):
        table = np.array(rows, dtype=float)
        both += list(nnls(table[:, :2] / table[:, 2:], np.ones(len(table)))[0])
    return tuple(both)  # type: ignore[return-value]


def _training(record: CellRecord) -> tuple[float, float]:
    tokens = float(record.train.tokens or 0)
    return tokens, tokens * record.method.uses_rationales


def checked() -> Iterator[str]:
    """Yield how far the model is from cells that were run, each task foretold from the other."""
    records = study_records()
    misses: dict[str, list[float]] = {"training": [], "test": []}
    found, foretold = 0.0, 0.0
    for task in sorted({record.cell.task for record in records}):
        train, lm, forward, decode = fitted([record for record in records if record.cell.task != task])
        for record in (each for each in records if each.cell.task == task):
            tokens, timing = _training(record), record.timing
            assert timing is not None
            assert record.train.seconds is not None
            pairs = {
                "training": (tokens[0] * train + tokens[1] * lm, record.train.seconds),
                "test": (timing.tokens_in * forward + timing.tokens_out * decode, timing.seconds),
            }
            for name, (expected, measured) in pairs.items():
                misses[name].append(max(expected / measured, measured / expected))
                found, foretold = found + measured, foretold + expected
    yield "\n### The model against cells that were run\n"
    yield (
        f"{len(records)} cells of `derivations-short`, smollm2-135m, budget `overnight`, two at a time on two CPU "
        f"cores: {found / 3600:.2f} hours were measured, {foretold / 3600:.2f} foretold, each task from rates "
        "fitted to the other.\n"
    )
    yield "| of a cell | off by a factor of (median) | in nine of ten cells at most |"
    yield "|---|---|---|"
    for name, factors in misses.items():
        yield f"| {name} | {median(factors):.2f} | {float(np.quantile(factors, 0.9)):.2f} |"


# ---------------------------------------------------------------- the page


def tables(assumed: Assumed) -> str:
    """Return all tables."""
    return "\n".join([*grids(assumed), *teacher(assumed), *checked()]) + "\n"


def assumptions(arguments: Sequence[str] | None = None) -> tuple[Assumed, Path | None]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, least, most in (("training", 0.2, 0.6), ("reading", 0.5, 0.75), ("decoding", 0.2, 0.6)):
        parser.add_argument(f"--{name}", type=float, nargs=2, default=(least, most), help="least and greatest share")
    parser.add_argument("--bandwidth", type=float, default=3.35e12, help="bytes a second from the card's memory")
    parser.add_argument(
        "--fixed", type=float, nargs=2, default=(2.0, 30.0), help="seconds of a cell besides its tokens"
    )
    parser.add_argument("--price", type=float, nargs=2, help="of a million tokens into and out of a teacher")
    parser.add_argument("--write", type=Path, help=f"page in which to replace what stands between {BEGIN} and {END}")
    given = parser.parse_args(arguments)
    price = (given.price[0], given.price[1]) if given.price else None
    shares = (tuple(given.training), tuple(given.reading), tuple(given.decoding))
    return Assumed(*shares, given.bandwidth, tuple(given.fixed), price), given.write


def main() -> None:
    """Print the tables and, if asked, write them into the page."""
    assumed, page = assumptions()
    text = tables(assumed)
    sys.stdout.write(text)
    if page:
        write_between(page, BEGIN, END, text)


if __name__ == "__main__":
    main()
