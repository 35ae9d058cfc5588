"""The studies of a folder, as the site shows them."""

from __future__ import annotations

from pathlib import Path

from dhrd_bench.errors import UserError
from dhrd_bench.site.studies import ShownStudy
from dhrd_bench.studies.frozen import frozen_path, read_frozen
from dhrd_bench.studies.page import on_site
from dhrd_bench.studies.study import read_study
from dhrd_bench.studies.verdict import judge

STUDIES = Path("studies")
"""Where studies are looked for, in the working folder."""


def shown_studies(folder: Path | None, results: Path) -> tuple[ShownStudy, ...]:
    """Judge the frozen studies of a folder by the records in the folder `results`, and name the others.

    Parameters
    ----------
    folder
        None is `STUDIES`, if there is such a folder.

    Raises
    ------
    UserError
        If there is no such folder.
    """
    if folder is None and not STUDIES.is_dir():
        return ()
    folder = folder or STUDIES
    if not folder.is_dir():
        raise UserError(f"No folder of studies at {folder}.", "Name the folder of their YAML files with --studies.")
    return tuple(_shown(path, results) for path in sorted(folder.glob("*.yaml")))


def _shown(path: Path, results: Path) -> ShownStudy:
    """Return one study; a file that is none stops no other."""
    try:
        study, frozen = read_study(path), frozen_path(path)
        if frozen.exists():
            return on_site(judge(study, read_frozen(frozen), results), path)
    except UserError as error:
        return ShownStudy(name=path.stem, status="unreadable", notes=(str(error),))
    return ShownStudy(
        name=path.stem, status="draft", hypothesis=" ".join(study.hypothesis.split()), margin=study.margin
    )
