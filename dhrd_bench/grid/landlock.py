"""Taking files and the network away from this process for good: Landlock, which Linux offers to every user.

Nothing of the package is imported, so that a process can close itself off before it loads anything else.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

# Numbers of the system calls, the same on all processors, and of <linux/landlock.h>.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _REFER, _CONNECT_TCP = 1 << 2, 1 << 13, 1 << 1
_NO_NEW_PRIVILEGES, _PARENT_DEATH_SIGNAL = 38, 1
_REFER_FROM, _NETWORK_FROM = 2, 4


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # what a packed structure is called from Python 3.14 on
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """Return the version of Landlock that this kernel has; 0 if it has none or has it turned off."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def restrict(readable: Iterable[Path], *, network: bool) -> None:
    """Let this process, and all that it starts, open the files at or below `readable` for reading and no others.

    What is open stays open. Listing, writing and deleting stay as they were, so nothing else is to be expected of
    it; moving a file to where it would be readable is refused by the kernel, as is looking into the memory of a
    process that is not closed off in the same way.

    Parameters
    ----------
    readable
        Files and folders, no links among them.
    network
        Whether TCP connections may still be opened; a kernel before 6.7 leaves them open in any case.

    Raises
    ------
    OSError
        If the kernel refuses.
    """
    found = version()
    files = _READ_FILE | (_REFER if found >= _REFER_FROM else 0)
    handled = _Ruleset(files, 0 if network or found < _NETWORK_FROM else _CONNECT_TCP)
    # A kernel without rules for the network takes the shorter structure, or the longer one filled up with zeros.
    ruleset = _call(_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(ctypes.sizeof(handled)), ctypes.c_uint32(0))
    try:
        for path in readable:
            _allow(ruleset, path, files)
        if _libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise _error()
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def end_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends, however that comes about."""
    _libc().prctl(_PARENT_DEATH_SIGNAL, 9, 0, 0, 0)


def _allow(ruleset: int, path: Path, files: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone, or not ours to enter
        return
    try:
        rule = _Beneath(files if path.is_dir() else files & _READ_FILE, handle)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(handle)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(number, *arguments))
    if result < 0:
        raise _error()
    return result


def _error() -> OSError:
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
