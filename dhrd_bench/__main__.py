"""The program ``dhrd-bench``, as which this package is run, too: ``python -m dhrd_bench``."""

from __future__ import annotations

import os
import sys

from dhrd_bench import hugepages


def program() -> None:
    """Run the command line, in huge pages where it takes another start to have them."""
    if more := hugepages.asking():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | more)  # noqa: S606
    from dhrd_bench.cli import main

    main()


if __name__ == "__main__":
    program()
