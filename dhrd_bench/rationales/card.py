"""A store's data card: facts by hand and from its lines, as YAML and as Markdown."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from dhrd_bench.cards import read_card
from dhrd_bench.contracts import Card
from dhrd_bench.data.rationales import Rationale, RationaleStore
from dhrd_bench.errors import UserError
from dhrd_bench.report.text import escaped
from dhrd_bench.results.store import write_text_atomically
from dhrd_bench.untrusted import read_yaml


class Recipe(Card):
    """One way in which rationales of a store were made.

    Attributes
    ----------
    teacher
        ``openai:MODEL``, ``local:BACKBONE``, or a description.
    prompt
        ``name@version+hash`` of the template, or a description.
    label_seen
        Whether the teacher was shown the gold label.
    parameters
        The settings that shaped the text.
    """

    teacher: str = "unknown"
    prompt: str = "unknown"
    label_seen: bool | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)


class TaskContents(Card):
    """What a store holds for one task; `labels` counts the usable rationales by gold label."""

    rows: int
    usable: int
    rejected: dict[str, int] = Field(default_factory=dict)
    labels: dict[str, int] = Field(default_factory=dict)
    words: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    cost: dict[str, float] = Field(default_factory=dict)
    seconds: float = 0.0
    fingerprint: str


class StoreCard(Card):
    """The whole card. Everything from `contents` on is measured; the rest is kept as it was written.

    Attributes
    ----------
    recipes
        How the rationales were made. A line that does not say it itself follows the first.
    language
        ISO 639-1 code of the language the rationales are in.
    notes
        Markdown for people: rules given to the teacher, selection of rows, known faults.
    """

    name: str
    description: str = ""
    language: str = "en"
    licence: str = "unstated"
    recipes: tuple[Recipe, ...] = ()
    notes: str = ""
    contents: dict[str, TaskContents] = Field(default_factory=dict)
    fingerprint: str = ""


def recipe_of(row: Rationale, card: StoreCard) -> Recipe:
    """Return how `row` was made, taking from the card what the line leaves out."""
    common = card.recipes[0] if card.recipes else Recipe()
    return Recipe(
        teacher=row.teacher or common.teacher,
        prompt=row.prompt or common.prompt,
        label_seen=common.label_seen if row.label_seen is None else row.label_seen,
        parameters=common.parameters if row.parameters is None else row.parameters,
    )


def contents_of(rows: Sequence[Rationale], fingerprint: str) -> TaskContents:
    """Count what `rows`, the lines of one task, hold."""
    usable = [row for row in rows if row.usable]
    cost: dict[str, float] = defaultdict(float)
    for row in rows:
        if row.cost is not None:
            cost[row.currency or "USD"] += row.cost
    return TaskContents(
        rows=len({row.key for row in usable}),
        usable=len(usable),
        rejected=dict(sorted(Counter(row.rejected for row in rows if row.rejected).items())),
        labels=dict(sorted(Counter(str(row.label) for row in usable).items())),
        words=round(statistics.mean(len(row.rationale.split()) for row in usable), 1) if usable else None,
        tokens_in=sum(row.tokens_in or 0 for row in rows),
        tokens_out=sum(row.tokens_out or 0 for row in rows),
        cost={currency: round(amount, 6) for currency, amount in cost.items()},
        seconds=round(sum(row.seconds or 0.0 for row in rows), 3),
        fingerprint=fingerprint,
    )


def read_store_card(store: RationaleStore) -> StoreCard:
    """Return the card as it stands in ``card.yaml``; an empty one if there is none.

    Raises
    ------
    UserError
        If the file is no card.
    """
    path = store.folder / "card.yaml"
    if not path.exists():
        return StoreCard(name=store.folder.resolve().name)
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path} is no card.", "Mend it, or delete it and let it be written anew.")
    return read_card(StoreCard, raw, path)


def make_card(store: RationaleStore) -> StoreCard:
    """Measure `store` anew and return its card; what was written by hand stays."""
    card = read_store_card(store)
    recipes = list(card.recipes[:1])
    contents = {}
    for task in store.tasks():
        rows = store.rows(task)
        contents[task] = contents_of(rows, store.fingerprint(task))
        for row in rows:
            if (recipe := recipe_of(row, card)) not in recipes:
                recipes.append(recipe)
    return card.model_copy(update={"recipes": tuple(recipes), "contents": contents, "fingerprint": store.fingerprint()})


def write_card(store: RationaleStore) -> StoreCard:
    """Write ``card.yaml`` and ``README.md`` of `store` as they should be now, and return the card."""
    card = make_card(store)
    save_card(store.folder, card)
    write_text_atomically(store.folder / "README.md", to_markdown(card))
    return card


def save_card(folder: Path, card: StoreCard) -> None:
    """Write `card` as ``card.yaml`` of `folder`."""
    text = yaml.dump(card.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    write_text_atomically(folder / "card.yaml", text)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def to_markdown(card: StoreCard) -> str:
    """Lay the card out for people."""
    lines = [f"# Rationales: {escaped(card.name)}", ""]
    if card.description:
        lines += [card.description.strip(), ""]
    facts = f"Language: {escaped(card.language)}. Licence: {escaped(card.licence)}."
    lines += [f"{facts} Fingerprint: `{card.fingerprint[:16]}`.", ""]
    lines += ["| teacher | prompt | gold label | parameters |", "|---|---|---|---|"]
    for recipe in card.recipes:
        seen = {True: "shown", False: "hidden", None: "unknown"}[recipe.label_seen]
        settings = ", ".join(f"{key} {value}" for key, value in recipe.parameters.items()) or "unknown"
        lines.append(f"| {escaped(recipe.teacher)} | {escaped(recipe.prompt)} | {seen} | {escaped(settings)} |")
    lines += [
        "",
        "| task | rows | rationales | rejected | by gold label | words | tokens in / out | cost | fingerprint |",
    ]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for task, held in card.contents.items():
        rejected = escaped(", ".join(f"{count} {reason}" for reason, count in held.rejected.items())) or "0"
        labels = escaped(", ".join(f"{count} {label}" for label, count in held.labels.items()))
        tokens = f"{held.tokens_in:,} / {held.tokens_out:,}" if held.tokens_out else "unknown"
        cost = escaped(", ".join(f"{amount:.4f} {currency}" for currency, amount in held.cost.items())) or "unknown"
        words = "" if held.words is None else f"{held.words:.1f}"
        lines.append(
            f"| {escaped(task)} | {held.rows} | {held.usable} | {rejected} | {labels} | {words} | {tokens} | {cost} "
            f"| `{held.fingerprint[:16]}` |"
        )
    if card.notes:
        lines += ["", card.notes.strip()]
    return "\n".join(lines) + "\n"
