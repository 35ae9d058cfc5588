"""What the tests of a board show, as claims and in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dhrd_bench.report.figures import FOUND_IN_SUITE, found_less, many, number, p_said, three_digits
from dhrd_bench.report.timed import TimedMethod
from dhrd_bench.stats.analysis import Analysis, Line
from dhrd_bench.stats.claims import Claim, best_first, claims_of, idle_methods, several_runs, shared_machine
from dhrd_bench.stats.finding import Finding
from dhrd_bench.stats.intervals import Estimate

NAMED = 3
"""Methods that a sentence names before it counts the rest."""
TOLD = 2
"""Methods of which speed and cost are told."""


@dataclass(frozen=True)
class Verdict:
    """What a board shows: sentences for a reader, and the claims that they are made of."""

    sentences: tuple[str, ...]
    claims: tuple[Claim, ...]


def verdict(analysis: Analysis, timed: Sequence[TimedMethod] = ()) -> Verdict:
    """Say what `analysis` shows: by its tests, whatever the point estimates look like.

    Parameters
    ----------
    timed
        The methods of the board that were timed side by side.
    """
    claims = claims_of(analysis)
    scores, speeds = ([each for each in claims if each.claim == kind] for kind in ("score", "speed"))
    idle = idle_methods(analysis)
    # What reads nothing is a yardstick, and of note where it is beaten by nobody or beats the baseline.
    reading = [claim for claim in scores if claim.method not in idle or claim.finding == "better"] or scores
    told = _worth_a_word(reading)
    sentences = [
        _on_scores(analysis, reading),
        *_on_idle(best_first(analysis), idle),
        _joined([*_on_speed(analysis, told, speeds), *_side_by_side(told, timed), *_on_costs(analysis, told)]),
        *_cautions(analysis, scores),
    ]
    return Verdict(tuple(filter(None, sentences)), tuple(claims))


# ---------------------------------------------------------------- sentences


def _on_scores(analysis: Analysis, claims: Sequence[Claim]) -> str:
    """Say what is better, equivalent, undecided and worse, in this order."""
    base = analysis.selection.baseline
    if base is None:
        return "There is no baseline among these methods, so that none was tested against it; ranks are all there is."
    if not claims:
        return f"There is nothing beside {base} to compare it with."
    found: Mapping[Finding, list[Claim]] = {
        kind: [claim for claim in claims if claim.finding == kind]
        for kind in ("better", "worse", "equivalent", "undecided")
    }
    parts = [] if found["better"] else [f"No method was shown to score higher than {base}"]
    if better := found["better"]:
        parts.append(_listed(better, "scores", "score", f"higher than {base}", analysis))
    if same := found["equivalent"]:
        parts.append(_listed(same, "is", "are", f"equivalent to {base} within {analysis.margin:g} %", analysis))
    if undecided := found["undecided"]:
        parts.append(_listed(undecided, "was", "were", f"not shown to differ from {base}", analysis))
        parts[-1] += f", {_detectable(analysis, undecided)}"
    if worse := found["worse"]:
        parts.append(_listed(worse, "scores", "score", f"lower than {base}", analysis))
    return _joined(parts)


def _joined(parts: Sequence[str]) -> str:
    """Return one sentence of `parts`; none of none."""
    return f"{'; '.join(parts)}." if parts else ""


def _listed(claims: Sequence[Claim], one: str, several: str, what: str, analysis: Analysis) -> str:
    """Return what is shown of some methods: by name, as long as they are few, each with its size and p."""
    named = [f"{claim.method} ({_size(claim, len(analysis.suite.names))})" for claim in claims[:NAMED]]
    if rest := len(claims) - len(named):
        named.append(f"{rest} more")
    return f"{_and(named)} {one if len(claims) == 1 else several} {what}"


def _size(claim: Claim, tasks: int) -> str:
    points = claim.difference
    parts = [f"{number(points.value, sign=True)} points{_interval(points)}"]
    p = claim.equivalent_p if claim.finding == "equivalent" else claim.p
    parts.append("not tested" if p is None else f"corrected {p_said(p)}")
    if claim.tasks < tasks:
        parts.append(f"on {claim.tasks} of {many(tasks, 'task')}")
    return ", ".join(parts)


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" [{number(estimate.low, sign=True)}, {number(estimate.high, sign=True)}]"


def _detectable(analysis: Analysis, undecided: Sequence[Claim]) -> str:
    """Say what could have been seen where nothing was."""
    points = sorted(claim.detectable for claim in undecided if claim.detectable is not None)
    if not points:
        return "and no difference, however large, was sure to be"
    ends = list(dict.fromkeys(number(end) for end in (points[0], points[-1])))
    few = found_less(analysis, FOUND_IN_SUITE)
    share = f"{few} of simulated cases" if few else "four of five cases"
    return f"where a true difference of {' to '.join(ends)} points would have been found in {share}"


def _on_idle(lines: Sequence[Line], idle: set[str]) -> Iterator[str]:
    """Say which methods were not shown to differ from one that does not even read its input."""
    for blind in (line for line in lines if line.method in idle and line.tied):
        ties = [line.method for line in lines if line.method not in idle and set(line.tied) & set(blind.tied)]
        if ties:
            was = "was" if len(ties) == 1 else "were"
            yield f"{_and(_few(ties))} {was} not shown to differ from {blind.method}, which reads nothing of its input."


def _worth_a_word(claims: Sequence[Claim]) -> list[Claim]:
    """Return the methods whose speed and cost are told: the better ones, or else those that are not worse.

    Of many that were not told apart none is told: the tables have them all.
    """
    for kind in ("better", "equivalent", "undecided", "worse"):
        if found := [claim for claim in claims if claim.finding == kind]:
            return found[:TOLD] if kind == "better" or len(found) <= TOLD else []
    return []


def _on_speed(analysis: Analysis, told: Sequence[Claim], speeds: Sequence[Claim]) -> Iterator[str]:
    if told and speeds and shared_machine(analysis):
        yield "No speed is told, as cells ran beside others on one machine"
        return
    for method in (claim.method for claim in told):
        if beside := [claim for claim in speeds if claim.method == method]:
            units = [" examples a second", *[""] * (len(beside) - 1)]
            ratios = [_ratio(claim, unit, analysis.margin) for claim, unit in zip(beside, units, strict=True)]
            yield f"{method} answers {_and(ratios)}"


def _ratio(claim: Claim, unit: str, margin: float | None) -> str:
    ratio = claim.difference
    interval = "" if ratio.low is None or ratio.high is None else (
        f" [{three_digits(ratio.low)}, {three_digits(ratio.high)}]"
    )  # fmt: skip
    text = f"{three_digits(ratio.value)}×{interval} as many{unit} as {claim.baseline}"
    if claim.p is None:
        return f"{text} (not tested)"
    if claim.finding == "equivalent":
        return f"{text} (equivalent within {margin:g} %)"
    return text if claim.finding != "undecided" else f"{text} (not shown to differ)"


def _side_by_side(told: Sequence[Claim], timed: Sequence[TimedMethod]) -> Iterator[str]:
    """Say what runs that were timed with all examples at once show; what is invalid is not quoted."""
    for method in (claim.method for claim in told):
        runs = [each for each in timed if each.method == method and each.record.scenario == "offline"]
        valid = [each for each in runs if each.measurement.verdict == "VALID" and not each.other_version]
        ratios = [each.measurement.ratio_to_baseline.value for each in valid if each.measurement.ratio_to_baseline]
        if ratios:
            ends = list(dict.fromkeys(three_digits(end) for end in (min(ratios), max(ratios))))
            base = valid[0].record.baseline
            yield f"timed side by side {method} has {' to '.join(ends)}× the QPS of {base} ({many(len(ratios), 'run')})"
        if len(valid) < len(runs):
            yield f"{len(runs) - len(valid)} of {many(len(runs), 'timing')} of {method} side by side may not be quoted"


def _on_costs(analysis: Analysis, told: Sequence[Claim]) -> Iterator[str]:
    """Say what training took; these are counts, which need no test."""
    lines = {line.method: line for line in analysis.lines}
    base = lines.get(analysis.selection.baseline or "")
    for claim in told:
        costs = lines[claim.method].costs
        tokens, teacher = costs["tokens"].mean, costs["teacher_tokens"].mean
        if base is None or not tokens or not (theirs := base.costs["tokens"].mean):
            continue
        handed = f", and rationales of {three_digits(teacher)} teacher tokens" if teacher else ""
        yield (
            f"training {claim.method} took {three_digits(tokens / theirs)}× the tokens of {base.method} "
            f"({three_digits(tokens)} a cell{handed})"
        )


def _cautions(analysis: Analysis, claims: Sequence[Claim]) -> Iterator[str]:
    if claims and not several_runs(analysis):
        yield "One seed: all this is about these trained models, not about the methods."
    frail = [line.method for line in analysis.lines if any(task.collapsed for task in line.tasks)]
    if frail and any(claim.collapsed for claim in claims):
        yield f"Seeds of {_and(_few(sorted(frail)))} collapsed to one answer: what is compared with them may not hold."


def _few(names: Sequence[str]) -> list[str]:
    rest = len(names) - NAMED
    return [*names[:NAMED], *([f"{rest} more"] if rest > 0 else [])]


def _and(parts: Sequence[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
