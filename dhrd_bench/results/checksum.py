"""A checksum inside a JSON file, as its last key: a bit that a disk has lost may leave a file that reads well."""

from __future__ import annotations

import hashlib

_MARK = ',"checksum":"'


def with_checksum(text: str) -> str:
    """Return the JSON object `text`, which is not empty, with a SHA-256 over all that stands before it as last key."""
    body = text.rstrip().removesuffix("}").rstrip()
    return f'{body}{_MARK}{_digest(body.encode())}"}}\n'


def without_checksum(content: bytes) -> bytes:
    """Return a JSON object as `with_checksum` was given it; one that has no checksum is returned as it is.

    Raises
    ------
    ValueError
        If it is another than the checksum was made of.
    """
    body, fits = parted(content)
    if fits is False:
        raise ValueError("damaged or edited: its checksum is that of another content")
    return body


def parted(content: bytes) -> tuple[bytes, bool | None]:
    """Return a JSON object without its checksum, and whether that is the object's; None if it has none."""
    body, mark, rest = content.rpartition(_MARK.encode())
    if not mark:
        return content, None
    return body + b"}", rest.rstrip() == f'{_digest(body)}"}}'.encode()


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
