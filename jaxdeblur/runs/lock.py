"""One process at a time owns a run's folder: a lock that the operating system releases however the process ends.

The lock is `flock` on `<folder>/.lock`. It holds on local disks and on network file systems that pass locks to their
server: NFSv4, NFSv3 with its lock service, CephFS, GPFS, and Lustre mounted with `flock`. After a crash of the whole
machine the server releases it when the client's lease ends, for NFSv4 after about 90 s. NFS mounted with `nolock` or
`local_lock` and Lustre mounted with `localflock` keep locks to one machine and do not say so: there, two machines are
not kept apart. A file system without locks says so, and so do we.
"""

import datetime
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxdeblur.console import say
from jaxdeblur.errors import InputError

NAME = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class RunLock:
    """Ownership of a run's folder, until `release` or the end of this process."""

    def __init__(self, folder: Path):
        """Take the lock.

        Raises:
            InputError: another process owns the run (code "run-locked"), or the lock file cannot be written.
        """
        path = folder / NAME
        try:
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            words = f"{path}: cannot be written ({error.strerror}). Choose another --workdir."
            raise InputError(words, code="workdir-not-writable") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                say(f"{folder}: this file system has no locks; make sure that no other process trains in this folder.")
                return
            owner = os.pread(self._descriptor, 1000, 0).decode("utf-8", "replace").strip() or "another process"
            self.release()
            if not isinstance(error, BlockingIOError):
                raise InputError(
                    f"{path}: cannot be locked ({error.strerror}).", code="workdir-not-writable"
                ) from error
            raise InputError(
                f"--workdir: {folder} is in use by {owner}. Wait for it or stop it, or choose another --workdir; "
                "--mode evaluate scores a run while it is training.",
                code="run-locked",
            ) from error
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {since}\n".encode(), 0)

    def release(self) -> None:
        """Let another process own the run."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def wait_for_lock(folder: Path) -> Iterator[None]:
    """Keep other processes out of the same block for the same folder: they wait. Without locks nobody waits."""
    descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)
