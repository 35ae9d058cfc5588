"""What a method is taught with: stores by name, and treatments of them, as in ``METHOD@NAME``.

A comparison of arms is one of rationales and of nothing else, so all its methods train on the same rows: those
that have a rationale in every arm, or, if the user wants it, those of the plain arm, where another may lack some.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from dhrd_bench.contracts import derive_seed
from dhrd_bench.data.rationales import RationaleStore
from dhrd_bench.data.suite import LoadedTask, Suite, own_store
from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.methods import PLAIN, Arm
from dhrd_bench.shuffling import derange

KEYWORDS = 8
"""Words that are kept of a rationale."""

STOP_SHARE = 0.2
"""A word that stands in more than this share of a task's rationales is a stop word, whatever the language."""


# ---------------------------------------------------------------- treatments


def right(task: LoadedTask) -> dict[str, str]:
    """Keep the rationales whose writer arrived at the gold label.

    Raises
    ------
    UserError
        If no writer said where it arrived.
    """
    if all(row.answer is None for row in task.train):
        raise UserError(
            f"No rationale of task {task.card.name!r} comes with its writer's answer, so none can be told to be right.",
            "Name a store whose lines have an 'answer'.",
        )
    texts = task.rationales()
    return {row.id: texts[row.id] for row in task.train if row.id in texts and row.answer == row.label}


def verdict(task: LoadedTask) -> dict[str, str]:
    """Keep the last sentence of each rationale, where an argument arrives."""
    ends = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')”’]))\s+")
    return {name: ends.split(text.strip())[-1] for name, text in task.rationales().items()}


def keywords(task: LoadedTask) -> dict[str, str]:
    """Keep the `KEYWORDS` content words of each rationale with the largest tf-idf over the task, in its own order.

    Words of more than `STOP_SHARE` of the task's rationales are stop words; case does not count. Each stands once.
    """
    words = {
        name: re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text.lower()) for name, text in task.rationales().items()
    }
    spread = Counter(word for each in words.values() for word in set(each))
    kept: dict[str, str] = {}
    for name, each in words.items():
        weights = {
            word: count * math.log(len(words) / spread[word])
            for word, count in Counter(each).items()
            if spread[word] <= max(1, STOP_SHARE * len(words))
        }
        best = sorted(weights, key=lambda word: -weights[word])[:KEYWORDS]  # of equals those that come first
        kept[name] = " ".join(word for word in weights if word in best)
    return kept


def other(task: LoadedTask) -> dict[str, str]:
    """Give each row the rationale of another row of its label, each to one; drawn once for a task."""
    texts = task.rationales()
    by_label: defaultdict[int, list[str]] = defaultdict(list)
    for row in task.train:
        if row.id in texts:
            by_label[row.label].append(row.id)
    given: dict[str, str] = {}
    for label, names in sorted(by_label.items()):
        own = [texts[name] for name in names]
        takes = derange(own, derive_seed(task.card.name, "rationale of another row", str(label)))
        given |= {name: own[take] for name, take in zip(names, takes, strict=True) if own[take] != texts[name]}
    return given


Treatment = Callable[[LoadedTask], dict[str, str]]
"""Makes rationales by row id of those that a task has; a row that it leaves out has none then."""

TREATMENTS: dict[str, Treatment] = {each.__name__: each for each in (right, verdict, keywords, other)}


# ---------------------------------------------------------------- arms


@dataclass(frozen=True)
class Stores:
    """What may be named after a method's ``@``.

    Attributes
    ----------
    suite
        Whose rationales they are.
    plain
        The store that is read where none is named after a method, see `Suite.store`; None is the suite's own
        rationales.
    folders
        Stores by name: ``FOLDER``, or pinned ``FOLDER@FINGERPRINT``.
    """

    suite: Suite
    plain: str | None
    folders: Mapping[str, str]

    @classmethod
    def of(cls, suite: Suite, plain: str | None, given: Mapping[str, str]) -> Stores:
        """Return the stores of `suite` and those that were `given` by name, which come first."""
        own = {name: str(suite.path.parent / folder) for name, folder in suite.card.stores.items()}
        return cls(suite, plain, own | dict(given))

    def arm(self, name: str) -> Arm:
        """Return what is called `name`: a store, a treatment of what is read anyway, or ``STORE-TREATMENT``.

        A store that is read anyway goes without saying, so that no cell has two names.

        Raises
        ------
        UserError
            If there is no such store or treatment.
        """
        if name in self.folders:
            return Arm(self._said(name))
        store, _, treatment = name.rpartition("-")
        if treatment in TREATMENTS and (not store or store in self.folders):
            return Arm(self._said(store) if store else None, treatment)
        known = [*self.folders, *TREATMENTS, *(f"{each}-{how}" for each in self.folders for how in TREATMENTS)]
        raise UserError(
            f"There are no rationales {name!r} for suite {self.suite.name!r}.",
            f"{did_you_mean(name, known)} A store of yours is named with --store NAME=FOLDER.",
        )

    def _said(self, name: str) -> str | None:
        anyway = self.suite.store(self.plain) if self.plain else own_store(self.suite)
        named = RationaleStore.open(self.folders[name])
        return None if anyway and anyway.folder.resolve() == named.folder.resolve() else name

    def load(
        self, arms: Iterable[Arm], load: Callable[..., LoadedTask], *, keep_rows: bool = False
    ) -> dict[Arm, LoadedTask]:
        """Load a task in each of `arms` and the plain one, all with rationales for the same rows.

        Parameters
        ----------
        arms
            What is compared.
        load
            Loads the task with the `rationales` of a store, as `Suite.load` does.
        keep_rows
            Whether the rows of the plain arm stay as they are, and another arm lacks rationales where it has none.

        Raises
        ------
        UserError
            If a store cannot be read or has nothing for the task, or no row is left.
        """
        wanted = list(dict.fromkeys([PLAIN, *arms]))
        stores = dict.fromkeys(arm.store for arm in wanted)
        tasks = {store: load(rationales=self.folders[store] if store else self.plain) for store in stores}
        if len(wanted) == 1:
            return {PLAIN: tasks[None]}
        texts = {arm: _treated(tasks[arm.store], arm.treatment) for arm in wanted}
        shared = set(texts[PLAIN]) if keep_rows else set.intersection(*(set(each) for each in texts.values()))
        if not all(shared & set(each) for each in texts.values()):
            counts = ", ".join(f"{str(arm) or 'those read without a name'} {len(texts[arm])}" for arm in wanted)
            raise UserError(
                f"No train row of task {tasks[None].card.name!r} has a rationale in every store compared ({counts}).",
                "Compare stores that share rows; --rationales names the one that is read where none is named.",
            )
        taught = {
            arm: tasks[arm.store].taught({row: text for row, text in texts[arm].items() if row in shared})
            for arm in wanted
        }
        notes = tuple(_notes(taught, len(shared), max(map(len, texts.values())), keep_rows=keep_rows))
        plain = taught[PLAIN].rationale_fingerprint
        return {
            arm: replace(task, notes=(*task.notes, *notes), table_fingerprint=plain) for arm, task in taught.items()
        }


def _notes(taught: Mapping[Arm, LoadedTask], shared: int, most: int, *, keep_rows: bool) -> Iterator[str]:
    """Say which rows a comparison leaves out, and which arms it cannot tell apart."""
    if not keep_rows and shared < most:
        yield (
            f"{shared} of {most} rows with a rationale have one in every store compared, and the others go without; "
            "with --keep-rows only the arms that lack one do"
        )
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for arm, task in taught.items():
        alike[task.rationale_fingerprint].append(str(arm) or "what is read without a name")
    yield from (f"{' and '.join(names)} are the same rationales on these rows" for names in alike.values() if names[1:])


def _treated(task: LoadedTask, treatment: str | None) -> dict[str, str]:
    texts = task.rationales() if treatment is None else TREATMENTS[treatment](task)
    return {name: text for name, text in texts.items() if text}
