"""Become another program that dies with the supervisor: `python -I -S launch.py PARENT SIGNAL USER -- argv…`.

A process of its own, and not a `preexec_fn`: Python code between fork and exec can hang once threads run. It imports
the standard library alone, so that it costs about 15 ms. USER is `-`, or `uid:gid` to give up root.
"""

import ctypes
import os
import signal
import sys

# prctl(2), capabilities(7) of Linux.
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522


def die_with(parent: int, death_signal: int) -> None:
    """Ask the kernel to send `death_signal` to this process when its parent ends."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the supervisor has gone")


def give_up_root(uid: int, gid: int) -> None:
    """Become `uid`, able to pass through directories of root's, to which the data directory is closed with 0700.

    Without it, every directory from / to the data directory and the binaries would have to be opened to everybody.
    NO_SETUID_FIXUP makes access(2), which Postgres asks about itself, look at that capability too.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    held = _held_capabilities()
    capability = _CAP_DAC_READ_SEARCH if held >> _CAP_DAC_READ_SEARCH & 1 else _CAP_DAC_OVERRIDE
    libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    mask = (1 << capability) & held
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0))
    if mask:
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def _held_capabilities() -> int:
    with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib would double the start-up time
        for line in status:
            if line.startswith("CapPrm:"):
                return int(line.split()[1], 16)
    return 0


def main(arguments: list[str]) -> None:
    parent, death_signal, user, separator, *command = arguments
    if separator != "--" or not command:
        sys.exit("usage: launch.py PARENT SIGNAL USER -- argv…")
    if user != "-":
        uid, gid = (int(part) for part in user.split(":"))
        give_up_root(uid, gid)
    die_with(int(parent), int(death_signal))  # last: the kernel forgets it when the user changes
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
