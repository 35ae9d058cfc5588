"""The inputs of test rows, where they are at hand and may be shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from dhrd_bench.cards import Reference
from dhrd_bench.data.suite import LoadedTask, Suite
from dhrd_bench.errors import UserError

_OPEN = re.compile(r"(CC0|CC-BY|Apache|MIT|BSD|ODC|PDDL|public domain)", re.IGNORECASE)
"""Licences, by SPDX, under which the data may be handed on."""

NOT_AT_HAND = "the data is not at hand: name its folder with --data-dir"


@dataclass(frozen=True)
class Inputs:
    """Texts by row; none where `reason` says why.

    Attributes
    ----------
    texts
        By the row's name.
    licence
        That of the data, empty where it is not known.
    open
        Whether what methods wrote may be shown as well: it quotes what they read.
    rationales
        By the row's name, where the data have one.
    """

    texts: dict[str, str]
    reason: str = ""
    licence: str = ""
    open: bool = False
    rationales: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InputSource:
    """Where inputs come from, and who is to see them.

    Attributes
    ----------
    data_dir
        Folder with the files of suites that are not embedded; None takes the environment's.
    private
        Whether nobody but the user sees the page, so that no licence has to allow it.
    """

    data_dir: Path | None = None
    private: bool = False

    def of(self, suite: str, task: str, prompt: str, fingerprint: str) -> Inputs:
        """Return the inputs of a task's test rows, which have to be those of `fingerprint`.

        Nothing is fetched from the hub.
        """
        try:
            known = Suite.named(Reference.parse(suite).name)
        except UserError:
            return Inputs({}, "its suite is not known here: name its folder with --include", open=self.private)
        definition = known.card.tasks.get(task)
        if definition is None:
            return Inputs({}, "its suite has no such task here", open=self.private)
        licence = definition.licence or known.card.licence
        allowed = self.private or _OPEN.match(licence) is not None
        if not allowed:
            return Inputs({}, "the licence of the data does not say that it may be handed on", licence)
        place = self.data_dir or (Path(given) if (given := os.environ.get("DHRD_DATA_DIR")) else None)
        # Rows that a suite brings along come before those of a folder; the hub is never asked.
        on_hub = definition.hub is not None and definition.hub.path is not None
        folders = [*([] if on_hub else [None]), *([place] if place else [])]
        reason = NOT_AT_HAND
        for folder in folders:
            try:
                loaded = _loaded(known.path, task, prompt, folder)
            except UserError as error:
                reason = str(error)
                continue
            if loaded.fingerprint == fingerprint:
                texts = ("\n\n".join(text) for text in loaded.test.texts())
                named = dict(zip(loaded.test.ids, texts, strict=True))
                return Inputs(named, "", licence, allowed, loaded.test.rationales)
            reason = "the data at hand are other rows than those of the records"
        return Inputs({}, reason, licence, allowed)


@lru_cache(maxsize=16)  # a page that is served is made again and again
def _loaded(suite: Path, task: str, prompt: str, data_dir: Path | None) -> LoadedTask:
    return Suite.read(suite).load(task, prompt=prompt, data_dir=data_dir)
