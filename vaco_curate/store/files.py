"""Files: paths here and in object stores, atomic replacement, and the user's cache folder."""

from __future__ import annotations

import atexit
import ctypes
import errno
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

from vaco_curate.errors import CurateError

CLIENTS = {"s3": "s3fs", "gs": "gcsfs"}
"""Packages for the stores that are supported, by the scheme of their addresses."""

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of Linux's renameat2: relative to the current directory; both names change places."""

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where there is no room to write."""


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Let a full disk within the block name what was being written: a library may say no more than that."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK and error.filename is None:
            error.filename = str(path)
        raise


FolderLike: TypeAlias = str | os.PathLike[str]
"""Where something lies: an address, a path, or the result of a function that wrote there."""


def address_of(source: FolderLike) -> str:
    """The address of a place; one that is an address already may be no path, but the id of a dataset."""
    return source if isinstance(source, str) else str(place(source))


def place(address: FolderLike) -> Path:
    """The path of an address: of a file here, or in an object store (``s3://bucket/rows``, ``gs://...``).

    A path in a store does what a path here does, but for moving files and removing folders; ``move`` and
    ``remove`` do it for both.

    Raises:
        CurateError: no address; another kind of store, or the package for this one is not installed.
    """
    if isinstance(address, Path) or hasattr(address, "protocol"):
        return cast(Path, address)
    if not isinstance(address, str | os.PathLike):
        raise CurateError(
            f"a path is needed, not {type(address).__name__}", fix="give a path, or the result of what wrote it"
        )
    address = os.fspath(address)
    if "://" not in address:
        return Path(address).expanduser() if address.startswith("~") else Path(address)
    scheme = address.partition("://")[0].lower()
    if scheme not in CLIENTS:
        raise CurateError(
            f"{address}: {scheme}:// is not supported, only s3:// and gs:// are",
            fix="copy the files here, or to one of these stores",
        )
    packages = {"upath": "universal-pathlib", CLIENTS[scheme]: CLIENTS[scheme]}
    lacking = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
    if lacking:
        raise CurateError(
            f"{address}: what reads {scheme}:// is not installed: {' and '.join(lacking)}",
            fix=f"pip install {' '.join(lacking)}",
        )
    from upath import UPath  # deferred: optional

    logging.getLogger(CLIENTS[scheme]).setLevel(logging.CRITICAL)  # gcsfs prints tracebacks of what it raises
    return cast(Path, UPath(address))


def is_local(path: Path) -> bool:
    """Whether a path is one of this machine's file system."""
    return isinstance(path, Path)


def store_unusable(address: str, error: Exception) -> CurateError:
    """The refusal of an object store whose client raised an error of its own."""
    reason = str(error).strip().splitlines()
    fix = "check the address, the network, and the credentials "
    if address.startswith("gs:"):
        fix += "(GOOGLE_APPLICATION_CREDENTIALS)"
    else:
        fix += "(AWS_PROFILE or AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL)"
    return CurateError(
        f"{address}: the object store cannot be used",
        details=(f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}",),
        fix=fix,
    )


def is_hidden(name: str) -> bool:
    """Whether a file is one that systems leave beside data: ``._a.parquet``, ``.DS_Store``, ``_SUCCESS``."""
    return name.startswith((".", "_"))


def move(source: Path, target: Path) -> None:
    """Give a file another name in the same folder or below; in a store by a copy that appears at once."""
    if is_local(source):
        source.replace(target)
    else:
        store = cast(Any, source)
        store.fs.mv(store.path, cast(Any, target).path)


def remove(folder: Path) -> None:
    """Remove a folder and what is in it, if it is there."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        store = cast(Any, folder)
        store.fs.rm(store.path, recursive=True)


def stamp(path: Path) -> tuple[tuple[int, int, int], ...]:
    """What changes when a file, or one in a folder, is replaced or written to; nothing in a store."""
    if not is_local(path):
        return ()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    facts = [file.stat() for file in files]
    return tuple((found.st_ino, found.st_size, found.st_mtime_ns) for found in facts)


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path is a folder, or somewhere in it."""
    inner, outer = str(path.resolve()), str(folder.resolve()).rstrip("/")
    return inner == outer or inner.startswith(f"{outer}/")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the contents of ``path``; on any failure what stood there stays, and nothing else is left.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    encoded = content.encode() if isinstance(content, str) else content
    if not is_local(path):
        path.write_bytes(encoded)  # in a store, an object appears when it is complete
        return
    unfinished = path.with_name(f"{path.name}.partial")
    try:
        with naming_full_disk(path):
            unfinished.write_bytes(encoded)
            sync(unfinished)
        unfinished.replace(path)
        sync(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Wait until the contents of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """``sync`` of a folder and of all that is in it."""
    for inner in folder.rglob("*"):
        if inner.is_file() or inner.is_dir():
            sync(inner)
    sync(folder)


def exchanged(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; False where the system cannot."""
    system = ctypes.CDLL(None, use_errno=True)
    if not hasattr(system, "renameat2"):
        return False
    paths = os.fsencode(one), os.fsencode(other)
    done: int = system.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE)
    return done == 0


def beside(folder: Path, name: str) -> Path:
    """The path of the given name in the folder that ``folder`` is in; also for ``.`` and ``..``."""
    plain = folder.name not in ("", "..")
    return folder.with_name(name) if plain else folder.resolve().with_name(name)


def hidden(folder: Path, purpose: str) -> Path:
    """``.NAME.purpose`` beside a folder."""
    target = folder.resolve()
    return target.with_name(f".{target.name}.{purpose}")


def require_space(folder: Path, size: int) -> None:
    """Refuse to write what would fill the disk: HDF5 ends the process when it finds none left.

    Raises:
        OSError: less than ``size`` bytes are free.
    """
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def user_cache() -> Path:
    """The user's cache folder, or where it cannot be written to, one that ends with the process."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vaco-curate"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # no home directory is a RuntimeError
        pass
    temporary = tempfile.mkdtemp(prefix="vaco-curate-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary)
