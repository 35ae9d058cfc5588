"""The small tasks that methods are checked on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dhrd_bench.contracts import Budget, Decoding, Example, LabeledExample, Prompt, TaskCard, TaskData

BUDGET = Budget(
    name="conformance",
    epochs=2,
    batch_size=4,
    learning_rate=5e-3,
    warmup_steps=1,
    micro_tokens=256,
    max_length=160,
    max_rationale=48,
    tuning="top:1",
    decoding=Decoding(max_new_tokens=12, batch_size=3),
)
"""Small enough for seconds, large enough that training moves the weights."""

_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "islet", "jetty")
_SCRIPTS = (
    "Größe naïve café",
    "北京 の 天気",
    "שלום عالم",
    "🙂👩‍🔬 e\u0301 \u200b",
    "line\nbreak\ttab",
    "\\n {{ x }} <|end|>",
)


@dataclass(frozen=True)
class CheckTask:
    """A small task with a test split."""

    data: TaskData
    test: tuple[Example, ...]
    labels: tuple[int, ...]


def make_task(
    classes: int = 2,
    *,
    train: int = 8,
    dev: int = 3,
    test: int = 7,
    spare: int = 12,
    words: int = 4,
    scripts: bool = False,
    rationales: bool = True,
) -> CheckTask:
    """Make a task whose class is told by the first word of a passage of `words` words, with soft labels.

    Parameters
    ----------
    classes
        Number of classes.
    train, dev, test, spare
        Rows of each split, and beyond them.
    words
        Length of the passages.
    scripts
        Whether they hold other scripts, emoji, control characters and template syntax.
    rationales
        Whether the train rows have them.
    """
    answers = ("No", "Yes") if classes == 2 else ("True", "False", "Neither of them")
    card = TaskCard(
        name=f"conformance-{classes}",
        labels=tuple(answer.lower() for answer in answers),
        answers=answers,
        instruction=f'Think. Then write "Final Answer:" and one of: {", ".join(answers)}.',
        metrics=("accuracy",),
        prompt="native",
        prompt_version="1.0.0",
        version="1.0.0",
    )
    rows = [_row(number, classes, words, scripts, rationales) for number in range(train + dev + test + spare)]
    end = train + dev + test
    data = TaskData(card, tuple(rows[:train]), tuple(rows[train : train + dev]), tuple(rows[end:]))
    held_out = rows[train + dev : end]
    return CheckTask(data, tuple(row.example for row in held_out), tuple(row.label for row in held_out))


def _row(number: int, classes: int, words: int, scripts: bool, rationale: bool) -> LabeledExample:
    first = _WORDS[number * 7 % 10]
    rest = [_WORDS[(number * 3 + place * place) % 10] for place in range(words - 1 + number % 3)]
    if scripts:
        rest.append(_SCRIPTS[number % len(_SCRIPTS)])
    prompt = Prompt("Text: ", " ".join([first, *rest]), "\nWhat is it?")
    reason = f"The first word is {first}, {rest[0] if rest else 'alone'} follows." if rationale else None
    label = number * 7 % 10 % classes
    against = (((label + 1) % classes, f"The first word is {first}, which misleads."),) if rationale else ()
    soft = tuple(0.8 if k == label else 0.2 / (classes - 1) for k in range(classes))
    return LabeledExample(Example(f"row-{number}", prompt), label, reason, against, soft)


def with_other_rationales(data: TaskData) -> TaskData:
    """Return the data with every rationale replaced by words that tell nothing, and fewer."""

    def other(row: LabeledExample, number: int) -> LabeledExample:
        words = " ".join(_WORDS[(number + place * 5) % 10] for place in range(3))
        against = tuple((label, f"Yyy {words} {number}.") for label, _ in row.counterfactuals)
        return replace(row, rationale=f"Zzz {words} {number}.", counterfactuals=against)

    train = tuple(other(row, number) for number, row in enumerate(data.train))
    return replace(data, train=train, dev=tuple(other(row, 50 + number) for number, row in enumerate(data.dev)))
