"""Memory in huge pages, where Linux gives them to a process that asks.

A pass over a model walks through more memory than a processor keeps the addresses of in pages of 4 KiB. Looking them up
may take longer than computing, above all in a virtual machine. Where huge pages are given on request (``madvise``, as
most distributions have it), glibc's allocator asks for them if a variable says so when the process starts.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
_ASKING = "glibc.malloc.hugetlb=1"
_POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def asking() -> dict[str, str]:
    """Return the variables with which a new process asks for huge pages.

    There are none where it has them anyway, cannot have them, or `VARIABLE` is set: then it is the user who decides.
    """
    if VARIABLE in os.environ or not _is_glibc() or "[madvise]" not in _policy():
        return {}
    return {VARIABLE: _ASKING}


def given() -> bool:
    """Whether memory of this process comes in huge pages where it can."""
    asked = _is_glibc() and _ASKING in os.environ.get(VARIABLE, "")
    return "[always]" in _policy() or (asked and "[madvise]" in _policy())


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows; another library
        return False


def _policy() -> str:
    try:
        return _POLICY.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
