"""Files that appear whole or not at all: written under a temporary name beside the target, then renamed."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from onnxcam.errors import InputError, OnnxcamError

PathLike = str | os.PathLike[str]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO}  # of the disk, not of what was asked for


def write(path: Path, content: bytes) -> None:
    """Write `content` to `path`; see `replacing`."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` in the end, or leaves nothing where writing fails.

    Raises InputError where the place cannot be written, OnnxcamError where the disk is full.
    """
    temporary, target = None, place(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:80]}.")
        with os.fdopen(handle, "wb") as file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def named(path: object) -> str:
    """A path as text. Raises InputError for what is none, or empty."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise InputError(f"Files and folders are named by a path, not by {path!r}.")
    if not text:
        raise InputError("There is no file and no folder of an empty name. Give '.' for the folder you are in.")
    return text


def place(path: PathLike) -> Path:
    """Where a file of that name is written: a link is followed, and stays. Raises InputError for what is no file."""
    named(path)
    real = Path(os.path.realpath(path))
    if os.path.isdir(real) or os.fspath(path).endswith(("/", os.sep)):
        raise InputError(f"Cannot write '{path}': it is a folder. Give the name of a file.")
    if os.path.islink(real):
        raise InputError(f"Cannot write '{path}': it is a link to itself.")
    if os.path.lexists(real) and not os.path.isfile(real):
        raise InputError(f"Cannot write '{path}': it is no regular file.")
    return real


def folder(path: Path) -> None:
    """Make a folder, and those above it. Raises as `replacing` does."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"Cannot write into '{path}': it is a file, not a folder.") from error
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> OnnxcamError:
    kind = OnnxcamError if error.errno in _FULL else InputError
    return kind(f"Cannot write '{path}': {error.strerror or error}.")
