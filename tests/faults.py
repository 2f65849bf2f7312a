"""Processes that are killed, and disks that are full."""

import os
import resource
import signal
from contextlib import contextmanager, suppress


@contextmanager
def forked(action):
    """A process that calls action() again and again, until it is killed with its children."""
    process = os.fork()
    if process == 0:
        os.setpgid(0, 0)
        with suppress(BaseException):
            while True:
                action()
        os._exit(1)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # too young for a group of its own
            os.killpg(process, signal.SIGKILL)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


@contextmanager
def no_file_grows_beyond(size: int):
    """As on a full disk, writing fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
