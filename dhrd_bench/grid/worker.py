"""The process that performs cells without being able to read test labels: closed off first, then everything else.

``python -m dhrd_bench.grid.worker HANDLE`` speaks through the socket HANDLE with `dhrd_bench.grid.isolation`, whose
counterpart it is. Nothing heavy and nothing foreign is imported before the process is closed off.
"""

from __future__ import annotations

import json
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dhrd_bench.grid import landlock

if TYPE_CHECKING:
    from dhrd_bench.backbones import Backbone
    from dhrd_bench.grid.energy import Meter
    from dhrd_bench.grid.seal import Seal

QUIET_SECONDS = 0.1
"""Progress of one phase is told no more often than this."""


def main(handle: int) -> None:
    """Close this process off as the first message says, load the backbone, then perform cell after cell."""
    connection = Connection(handle)
    landlock.end_with_parent()
    try:
        setup = json.loads(connection.recv_bytes())
        if setup["sealed"]:
            landlock.restrict(map(Path, setup["readable"]), network=setup["network"])
        seal, backbone, meter = _set_up(setup)
    except Exception as error:
        _send(connection, failed=f"{type(error).__name__}: {error}")
        return
    _send(connection, ready=True)
    task = ""
    while True:
        try:
            sent = json.loads(connection.recv_bytes())
        except EOFError:  # no more cells
            return
        if sent["card"]["name"] != task:
            backbone.frozen_states.clear()
            task = sent["card"]["name"]
        if setup["rank"]:
            _send(connection, **_help(sent, seal, backbone))
        else:
            _send(connection, **_perform(sent, seal, backbone, meter, connection))


def _set_up(setup: dict[str, Any]) -> tuple[Seal, Backbone, Meter | None]:
    import torch

    from dhrd_bench import plugins
    from dhrd_bench.backbones.loading import load_fresh
    from dhrd_bench.contracts import BackboneCard
    from dhrd_bench.grid.energy import meter_of
    from dhrd_bench.grid.seal import Seal

    seal = Seal(frozenset(map(Path, setup["closed"])), frozenset(map(Path, setup["open"])))
    if setup["sealed"]:
        _try(seal)
    torch.set_num_threads(setup["threads"])
    for folder in setup["include"]:
        plugins.include(Path(folder))
    card = BackboneCard.model_validate(setup["backbone"])
    if setup["processes"] > 1:
        from dhrd_bench.training.parallel import join

        join(setup["rank"], setup["processes"], Path(setup["rendezvous"]), cpu=card.device == "cpu")
    backbone = load_fresh(card)
    meter = meter_of(setup["energy"], str(backbone.device)) if setup["energy"] else None
    return seal, backbone, meter


def _try(seal: Seal) -> None:
    """Make sure that what is to be closed is closed: a file of each folder is tried."""
    for place in seal.closed:
        files = [place] if place.is_file() else place.rglob("*")
        file = next((each for each in files if each.is_file() and seal.closer(each.resolve()) is not None), None)
        try:
            if file is not None:
                file.open("rb").close()
        except PermissionError:
            continue
        if file is not None:
            raise RuntimeError(f"{file} can be read all the same")


def _perform(
    sent: dict[str, Any], seal: Seal, backbone: Backbone, meter: Meter | None, connection: Connection
) -> dict[str, Any]:
    from dhrd_bench.contracts import Context
    from dhrd_bench.grid.perform import perform
    from dhrd_bench.grid.record import describe, plain
    from dhrd_bench.grid.seal import refusing
    from dhrd_bench.grid.wire import answer, budget_of, data_of, examples_of, method_of

    spoke, of = 0.0, ""

    def step(phase: str, done: int, total: int, figures: dict[str, float]) -> None:
        nonlocal spoke, of
        if phase != of or done >= total or time.perf_counter() - spoke >= QUIET_SECONDS:
            spoke, of = time.perf_counter(), phase
            _send(connection, step=plain([phase, done, total, figures]))

    data = data_of(sent)
    context = Context(backbone, budget_of(sent), data.card.name, sent["seed"], step)
    backbone.reset()
    try:
        with refusing(seal):
            method = method_of(sent)
            performance = perform(method, data, examples_of(sent), context, meter)
            if sent["keep"]:
                method.save(Path(sent["keep"]))
        result = {"answer": plain(answer(performance))}
    except (Exception, SystemExit) as error:
        result = {"error": describe(error)}
    return result | {"train_log": plain(context.train_log)}


def _help(sent: dict[str, Any], seal: Seal, backbone: Backbone) -> dict[str, Any]:
    """Take the training steps of a cell together with the process that leads, and nothing else."""
    from dhrd_bench.contracts import Context
    from dhrd_bench.grid.record import describe
    from dhrd_bench.grid.seal import refusing
    from dhrd_bench.grid.wire import budget_of, data_of, method_of

    data = data_of(sent)
    backbone.reset()
    try:
        with refusing(seal):
            method_of(sent).fit(data, Context(backbone, budget_of(sent), data.card.name, sent["seed"]))
    except (Exception, SystemExit) as error:
        return {"error": describe(error)}
    return {}


def _send(connection: Connection, **message: Any) -> None:
    connection.send_bytes(json.dumps(message).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))
