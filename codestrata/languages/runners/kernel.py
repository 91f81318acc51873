"""Give up rights for good, by Linux's own calls: a user, files, system calls; the runners load it by path.

What this does not do: decide what to give up (``confinement`` and ``seccomp`` do), or work on another system.
"""

import ctypes
import os
import signal
import stat
import struct
from collections.abc import Sequence

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECCOMP = 1, 4, 8, 22
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 47
SECCOMP_MODE_FILTER = 2
PR_CAP_AMBIENT_RAISE = 2

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
CAPABILITY_VERSION_3 = 0x20080522

# One number on every processor: these calls came after the numbers were unified.
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, USE_DEVICE = 1 << 14, 1 << 15
RIGHTS_ON_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | USE_DEVICE
FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
BIND_AND_CONNECT_TCP = 0b11
ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

library = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """The result of a call. Raises OSError: it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def control_process(option: int, *values: int) -> None:
    """Call ``prctl``."""
    words = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    check(library.prctl(option, *words), f"prctl {option}")


def die_with_parent(parent: int) -> None:
    """The kernel kills this process when its parent ends, however that ends; call it after ``become_user``.

    ``parent`` is the number that the parent had when this process began: if it is gone already, so are we.
    """
    control_process(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def refuse_new_privileges() -> None:
    """No program that this process starts can gain rights (setuid files, file capabilities)."""
    control_process(PR_SET_NO_NEW_PRIVS, 1)


def hide_process() -> None:
    """Other processes of this user can no longer read this process's memory; nor can its children."""
    control_process(PR_SET_DUMPABLE, 0)


def become_user(user: int, *, may_read_everything: bool) -> None:
    """Become a user without rights, for good.

    ``may_read_everything`` keeps one capability, that of passing by the permissions of files: for where the
    interpreter lies in a folder that is closed to others. What is out of reach by other means stays so.
    """
    kept = find_reading_capability() if may_read_everything else None
    if kept is not None:
        control_process(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if kept is not None:
        keep_capability(kept)


def find_reading_capability() -> int:
    """The smaller of the two capabilities that pass by permissions, of those that this process has."""
    with open("/proc/self/status", "rb") as file:
        permitted = next(int(line.split()[1], 16) for line in file if line.startswith(b"CapPrm"))
    return CAP_DAC_READ_SEARCH if permitted >> CAP_DAC_READ_SEARCH & 1 else CAP_DAC_OVERRIDE


def keep_capability(capability: int) -> None:
    """Drop all capabilities but one, which also passes to the programs that this process becomes."""
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    sets = struct.pack("=6I", *[1 << capability] * 3, 0, 0, 0)
    check(library.capset(header, sets), "capset")
    control_process(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def find_landlock_version() -> int:
    """The version of Landlock that the kernel speaks. Raises OSError: it speaks none."""
    call = ctypes.c_long(LANDLOCK_CREATE_RULESET)
    nothing, size = ctypes.c_void_p(None), ctypes.c_size_t(0)
    flags = ctypes.c_uint32(LANDLOCK_CREATE_RULESET_VERSION)
    return check(library.syscall(call, nothing, size, flags), "landlock_create_ruleset")


def build_rules(readable: Sequence[str], devices: Sequence[str], writable: str) -> int:
    """The descriptor of rules: files under ``readable``, the ``devices``, everything in ``writable``.

    TCP, abstract sockets and signals to processes outside are forbidden where the kernel's version can.
    """
    version = find_landlock_version()
    rights = FILE_RIGHTS[max(known for known in FILE_RIGHTS if known <= version)]
    words = [rights]
    if version >= 4:
        words.append(BIND_AND_CONNECT_TCP)
    if version >= 6:
        words.append(ABSTRACT_SOCKETS_AND_SIGNALS)
    attributes = struct.pack(f"={len(words)}Q", *words)
    call, size, flags = (
        ctypes.c_long(LANDLOCK_CREATE_RULESET),
        ctypes.c_size_t(len(attributes)),
        ctypes.c_uint32(0),
    )
    rules = check(library.syscall(call, attributes, size, flags), "landlock_create_ruleset")
    for path in readable:
        allow_path(rules, path, rights & (EXECUTE | READ_FILE | READ_DIR))
    for path in devices:
        allow_path(rules, path, rights & (WRITE_FILE | READ_FILE | USE_DEVICE))
    allow_path(rules, writable, rights & ~(EXECUTE | USE_DEVICE))
    return rules


def allow_path(rules: int, path: str, rights: int) -> None:
    """Add to ``rules`` what may be done with a file, or with everything in a folder."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= RIGHTS_ON_A_FILE
    attributes = struct.pack("=Qi", rights, descriptor)
    call, kind = ctypes.c_long(LANDLOCK_ADD_RULE), ctypes.c_int(LANDLOCK_RULE_PATH_BENEATH)
    result = library.syscall(call, ctypes.c_int(rules), kind, attributes, ctypes.c_uint32(0))
    check(result, f"landlock_add_rule {path}")
    os.close(descriptor)


def obey_rules(rules: int) -> None:
    """From now on this process and its children are bound to the rules."""
    call = ctypes.c_long(LANDLOCK_RESTRICT_SELF)
    check(library.syscall(call, ctypes.c_int(rules), ctypes.c_uint32(0)), "landlock_restrict_self")
    os.close(rules)


def filter_calls(program: bytes) -> None:
    """From now on the kernel asks a classic BPF program (``seccomp``) about each system call."""
    instructions = ctypes.create_string_buffer(program, len(program))
    address = ctypes.addressof(instructions)
    # struct sock_fprog: the number of instructions, eight bytes each, and where they are.
    described = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, address))
    control_process(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(described))
