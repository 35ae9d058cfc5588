"""Whether the folders that a request names are there: told before anything heavy is imported."""

from __future__ import annotations

import os
from pathlib import Path

from dhrd_bench.request import RunRequest


def check_places(request: RunRequest) -> None:
    """Load the plug-in folders and look whether the data folder has the tasks' files; no row is read.

    Raises
    ------
    UserError
        If a folder is not there, or not what is wanted.
    """
    from dhrd_bench import plugins
    from dhrd_bench.cards import Reference
    from dhrd_bench.data.sources import DataFolder, find
    from dhrd_bench.data.suite import Suite

    for folder in request.include:
        plugins.include(folder)
    where = DataFolder(request.data_dir) if request.data_dir else None
    if where is None and (folder_of_all := os.environ.get("DHRD_DATA_DIR")) and not Path(folder_of_all).is_dir():
        where = DataFolder(Path(folder_of_all), named=False)
    if where is None:
        return
    suite = Suite.named(Reference.parse(request.suite).name)
    tasks = suite.resolve_tasks(request.tasks)
    for task in tasks:
        find(suite.card, task, suite.path.parent, DataFolder(where.path, where.named, alone=len(tasks) == 1))
