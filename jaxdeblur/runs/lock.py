"""An exclusive lock on a run's folder, which the operating system releases however the process ends.

The lock is `flock` on `<folder>/.lock`. It works on local disks and on network file systems that forward locks to the
server: NFSv4, NFSv3 with its lock service, CephFS, GPFS, and Lustre mounted with `flock`. If the whole machine crashes,
the server releases the lock when the client's lease expires, about 90 s later on NFSv4. NFS mounted with `nolock` or
`local_lock` and Lustre mounted with `localflock` silently keep locks local to one machine and cannot exclude another
machine. On a file system without locks the user is warned.
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

LOCK_FILE = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class RunLock:
    """Ownership of a run's folder, until `release` or the end of this process."""

    def __init__(self, folder: Path):
        """Take the lock.

        Raises:
            InputError: another process owns the run (code "run-locked"), or the lock file cannot be written (code
                "workdir-not-writable").
        """
        path = folder / LOCK_FILE
        self._descriptor: int | None = None
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            message = f"{path}: cannot be written ({error.strerror}). Choose another --workdir."
            raise InputError(message, code="workdir-not-writable") from error
        self._descriptor = descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                say(
                    f"warning: the file system of {folder} does not support locks. Make sure that no other process "
                    "trains in this folder."
                )
                return
            owner = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip() or "another process"
            self.release()
            if not isinstance(error, BlockingIOError):
                message = f"{path}: cannot be locked ({error.strerror}). Choose another --workdir."
                raise InputError(message, code="workdir-not-writable") from error
            raise InputError(
                f"--workdir: {folder} is in use by {owner}. Wait for it or stop it, or choose another --workdir; "
                "--mode evaluate can score a run while it is training.",
                code="run-locked",
            ) from error
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {since}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock; calling it twice is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def wait_for_lock(folder: Path) -> Iterator[None]:
    """Make the block exclusive among processes that use the same folder; without lock support, run it unlocked."""
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        yield
    finally:
        os.close(descriptor)
