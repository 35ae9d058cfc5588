"""Joining stores: more tasks, more rows, or several rationales a row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dhrd_bench.data.rationales import Rationale, RationaleStore, to_line
from dhrd_bench.errors import UserError
from dhrd_bench.rationales.card import StoreCard, read_store_card, recipe_of, save_card, write_card
from dhrd_bench.results.store import write_text_atomically


def merge(target: Path, sources: Sequence[RationaleStore]) -> StoreCard:
    """Write a new store at `target` with all lines of `sources`, and return its card.

    The order of `sources` is an order of preference: a row's samples are numbered through in it, and
    training takes the first usable one. A line that is in several sources is taken once; each line
    is given what its source's card says of it, so that nothing depends on the cards any more.

    Raises
    ------
    UserError
        If `target` holds a store already, or two sources disagree on an example's input.
    """
    if RationaleStore(target).tasks():
        raise UserError(f"There is a rationale store at {target} already.", "Merge into a new folder.")
    cards = [read_store_card(source) for source in sources]
    joined = {task: _join(task, sources, cards) for task in sorted({task for s in sources for task in s.tasks()})}
    card = StoreCard(
        name=target.resolve().name,
        description="Merged from " + ", ".join(card.name for card in cards) + ".",
        language=", ".join(dict.fromkeys(card.language for card in cards)),
        licence="; ".join(dict.fromkeys(card.licence for card in cards)),
        notes="\n\n".join(f"## {card.name}\n\n{card.notes.strip()}" for card in cards if card.notes),
    )
    save_card(target, card)
    for task, rows in joined.items():
        write_text_atomically(RationaleStore(target).path(task), "".join(to_line(row).decode() for row in rows))
    return write_card(RationaleStore(target))


def _join(task: str, sources: Sequence[RationaleStore], cards: Sequence[StoreCard]) -> list[Rationale]:
    by_row: dict[str, list[Rationale]] = defaultdict(list)
    for source, card in zip(sources, cards, strict=True):
        for row in sorted(source.rows(task), key=lambda row: row.sample):
            known = by_row[row.key[0]]
            if known and known[0].key != row.key:
                raise UserError(
                    f"{task} {row.key[0]}: {source.folder} has another input than the stores before it.",
                    "The stores were made from different data; they cannot be joined.",
                )
            row = row.model_copy(update=recipe_of(row, card).model_dump() | {"sample": len(known)})
            if not any(row.model_copy(update={"sample": other.sample}) == other for other in known):
                known.append(row)
    return [row for rows in by_row.values() for row in rows]
