"""Members of a zip archive that a stranger wrote, in memory and within limits; nothing is extracted to a disk."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dhrd_bench.errors import UserError

MEMBER_LIMIT = 64 * 2**20
"""Bytes of a member: one sample with all that happened in it."""
MOST_MEMBERS = 1_000_000
ZSTANDARD = 93
"""The method of compression that `zipfile` lacks before Python 3.14."""

_HEADER = struct.Struct("<4s5H3I2H")


class Archive:
    """An open zip archive, whose members are read whole and one by one."""

    def __init__(self, path: Path, opened: zipfile.ZipFile) -> None:
        self.path, self._opened = path, opened
        if len(opened.infolist()) > MOST_MEMBERS:
            raise UserError(f"{path} has more than {MOST_MEMBERS:,} members.", "Is it a log?")

    def names(self) -> list[str]:
        """Return the names of the members, each once."""
        return list(dict.fromkeys(self._opened.namelist()))

    def read(self, name: str) -> bytes:
        """Return the content of a member.

        Raises
        ------
        UserError
            If it is too long, or damaged.
        """
        try:
            member = self._opened.getinfo(name)
            if member.file_size > MEMBER_LIMIT:
                raise ValueError(f"{name!r} has more than {MEMBER_LIMIT:,} bytes")
            if member.compress_type == ZSTANDARD:
                return self._unpacked(member)
            return self._opened.read(member)  # no more than it was said to hold
        except (OSError, EOFError, ValueError, LookupError, RuntimeError, NotImplementedError, struct.error) as error:
            raise _damaged(self.path, error) from error
        except (zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(self.path, error) from error

    def _unpacked(self, member: zipfile.ZipInfo) -> bytes:
        """Return what a member holds that is compressed by Zstandard, which Arrow can undo."""
        import pyarrow as pa

        with self.path.open("rb") as stream:
            stream.seek(member.header_offset)
            header = _HEADER.unpack(stream.read(_HEADER.size))
            stream.seek(header[-2] + header[-1], io.SEEK_CUR)
            packed = stream.read(min(member.compress_size, MEMBER_LIMIT + 1))
        with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as unpacked:
            content = bytes(unpacked.read(member.file_size + 1))
        if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
            raise ValueError(f"{member.filename!r} is damaged")
        return content


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the zip archive at `path`.

    Raises
    ------
    UserError
        If it is none.
    """
    try:
        opened = zipfile.ZipFile(path)
    except (
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        struct.error,
        zipfile.BadZipFile,
    ) as error:
        raise _damaged(path, error) from error
    with opened:
        yield Archive(path, opened)


def _damaged(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UserError(f"{path} cannot be read as a log: {reason.rstrip('.')}.", "Take it as the harness wrote it.")
