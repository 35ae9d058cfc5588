"""The program ``dhrd-bench``, as which this package is run, too: ``python -m dhrd_bench``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from dhrd_bench import hugepages

_ENDS_AT_ONCE = {"-h", "--help", "--version"}
_AGAIN = "DHRD_STARTED_AGAIN"
"""Set in a process that was started again: a privileged Python does not hear what was asked for."""


def program() -> None:
    """Run the command line, in huge pages where it takes another start to have them."""
    works = sys.argv[1:] and not _ENDS_AT_ONCE.intersection(sys.argv)
    if works and _AGAIN not in os.environ and (more := hugepages.asking()):
        words, environment = [sys.executable, *sys.orig_argv[1:]], os.environ | more | {_AGAIN: "1"}
        with suppress(OSError):  # it does without
            os.execve(sys.executable, words, environment)  # noqa: S606
    from dhrd_bench.cli import main

    main()


if __name__ == "__main__":
    program()
