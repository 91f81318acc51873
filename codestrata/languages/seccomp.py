"""Which system calls programs may make, as classic BPF that the kernel runs on each of them.

Three strictnesses: a ``runner`` starts programs as children, an ``engine`` holds programs itself (deno, which
has still to be started by ``execve``), a ``program`` is generated code. Forbidden calls fail with EPERM;
``clone3``, whose flags a filter cannot see, and calls newer than this table fail with ENOSYS, as on an older
kernel, so that libraries fall back on what is known here.

What this does not do: install the filter (``runners/kernel.py`` does), or look behind pointers: which file is
opened is Landlock's matter or that of the file system a program sees.

Source of the numbers: Linux's ``asm/unistd_64.h`` (x86_64) and ``asm-generic/unistd.h`` (aarch64); of the
layout: ``linux/seccomp.h``, ``linux/filter.h``, ``linux/audit.h``.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Literal

Strictness = Literal["runner", "engine", "program"]

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name:number on x86_64:number on aarch64
FORBIDDEN = """
    socket:41:198
    ptrace:101:117 process_vm_readv:310:270 process_vm_writev:311:271 process_madvise:440:440
    process_mrelease:448:448 kcmp:312:272 pidfd_open:434:434 pidfd_getfd:438:438
    setsid:112:157 setpgid:109:154 setpriority:141:140 ioprio_set:251:30
    mount:165:40 umount2:166:39 pivot_root:155:41 chroot:161:51 unshare:272:97 setns:308:268
    open_tree:428:428 move_mount:429:429 fsopen:430:430 fsconfig:431:431 fsmount:432:432 fspick:433:433
    mount_setattr:442:442 statmount:457:457 listmount:458:458
    open_by_handle_at:304:265 name_to_handle_at:303:264
    keyctl:250:219 add_key:248:217 request_key:249:218 bpf:321:280 perf_event_open:298:241
    userfaultfd:323:282 io_uring_setup:425:425 io_uring_enter:426:426 io_uring_register:427:427
    init_module:175:105 finit_module:313:273 delete_module:176:106 kexec_load:246:104
    kexec_file_load:320:294 reboot:169:142 swapon:167:224 swapoff:168:225 acct:163:89 quotactl:179:60
    quotactl_fd:443:443 syslog:103:116
    settimeofday:164:170 clock_settime:227:112 adjtimex:159:171 clock_adjtime:305:266 sethostname:170:161
    setdomainname:171:162 personality:135:92 ioperm:173:- iopl:172:- modify_ldt:154:- vhangup:153:58
    lookup_dcookie:212:18 nfsservctl:180:42 uselib:134:-
    shmget:29:194 shmat:30:196 shmctl:31:195 semget:64:190 semop:65:193 semtimedop:220:192 semctl:66:191
    msgget:68:186 msgsnd:69:189 msgrcv:70:188 msgctl:71:187 mq_open:240:180 mq_unlink:241:181
    fanotify_init:300:262 inotify_add_watch:254:27
    truncate:76:45 chmod:90:- fchmod:91:52 fchmodat:268:53 fchmodat2:452:452 chown:92:- lchown:94:-
    fchown:93:55 fchownat:260:54 setxattr:188:5 lsetxattr:189:6 fsetxattr:190:7 removexattr:197:14
    lremovexattr:198:15 fremovexattr:199:16
    utime:132:- utimes:235:- utimensat:280:88 futimesat:261:- mknod:133:- mknodat:259:33
"""
"""Sockets, other processes, sessions, mounts, keys, kernel, clock, shared memory, attributes of files."""

FORK = """
    fork:57:- vfork:58:-
"""
"""Starting a process other than by ``clone``."""

BECOME_ANOTHER = """
    execve:59:221 execveat:322:281
"""
"""Becoming another executable."""

SEND_SIGNALS = """
    kill:62:129 tkill:200:130 tgkill:234:131 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240
    pidfd_send_signal:424:424
"""
"""Signals, to itself too: a filter cannot tell who is meant."""

ON_ITSELF_ONLY = """
    prlimit64:302:261 sched_setaffinity:203:122 sched_setscheduler:144:119 sched_setattr:314:274
    sched_setparam:142:118 migrate_pages:256:238 move_pages:279:239
"""
"""Allowed where the first argument is 0."""

HIDDEN = """
    clone3:435:435
"""
"""Calls that fail as on a kernel that does not have them."""

NEW_CALLS_FROM = 463
"""Calls from this number on were not known when the table was made; it also refuses x86_64's x32 calls."""

CLONE = (56, 220)
CLONE_THREAD = 0x10000
CLONE_NEW_NAMESPACES = 0x7E020000

FORBIDDEN_COMMANDS = {
    # Both make the kernel send signals to a process of the caller's choice.
    (72, 25): (8, 15),  # fcntl: F_SETOWN, F_SETOWN_EX
    # Typing into a terminal, the same of a console, FIOSETOWN, SIOCSPGRP.
    (16, 29): (0x5412, 0x541C, 0x8901, 0x8902),  # ioctl
}

LOAD_WORD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_OFFSET, ARCHITECTURE_OFFSET, FIRST_ARGUMENT_OFFSET, SECOND_ARGUMENT_OFFSET = 0, 4, 16, 24
ALLOW, KILL = 0x7FFF0000, 0x80000000
NOT_PERMITTED, UNKNOWN_CALL = 0x00050001, 0x00050026  # EPERM, ENOSYS

Instruction = tuple[int, int, int, int]


def build_filter(machine: str, strictness: Strictness) -> bytes | None:
    """The filter as the kernel takes it; ``None`` for a processor whose numbers are not in the tables.

    Args:
        machine: As ``platform.machine`` names it.
        strictness: Who is bound by it.
    """
    if machine not in ARCHITECTURES:
        return None
    column = list(ARCHITECTURES).index(machine)
    instructions = [
        (LOAD_WORD, 0, 0, ARCHITECTURE_OFFSET),
        (JUMP_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD_WORD, 0, 0, NUMBER_OFFSET),
        (JUMP_IF_AT_LEAST, 0, 1, NEW_CALLS_FROM),
        (RETURN, 0, 0, UNKNOWN_CALL),
        *answer(read_numbers(HIDDEN, column), UNKNOWN_CALL),
        *answer(list_forbidden(strictness, column), NOT_PERMITTED),
        *refuse_clone(CLONE[column], strictness),
        *refuse_others(read_numbers(ON_ITSELF_ONLY, column)),
        *refuse_commands(column),
        (RETURN, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def read_numbers(table: str, column: int) -> list[int]:
    """The numbers of a table's calls on one processor."""
    numbers = (entry.split(":")[1 + column] for entry in table.split())
    return [int(number) for number in numbers if number != "-"]


def list_forbidden(strictness: Strictness, column: int) -> list[int]:
    """The numbers of the calls that fail whatever their arguments."""
    tables = {
        "runner": (FORBIDDEN,),
        "engine": (FORBIDDEN, FORK, SEND_SIGNALS),
        "program": (FORBIDDEN, FORK, SEND_SIGNALS, BECOME_ANOTHER),
    }
    return [number for table in tables[strictness] for number in read_numbers(table, column)]


def answer(numbers: Sequence[int], verdict: int) -> Iterator[Instruction]:
    """Instructions that answer calls of these numbers with one verdict."""
    for number in numbers:
        yield JUMP_IF_EQUAL, 0, 1, number
        yield RETURN, 0, 0, verdict


def refuse_clone(number: int, strictness: Strictness) -> Iterator[Instruction]:
    """Instructions that let ``clone`` make threads, for a runner also processes, never namespaces."""
    yield JUMP_IF_EQUAL, 0, 5, number
    yield LOAD_WORD, 0, 0, FIRST_ARGUMENT_OFFSET
    yield JUMP_IF_ANY_BIT, 1, 0, CLONE_NEW_NAMESPACES
    if strictness == "runner":
        yield RETURN, 0, 0, ALLOW
    else:
        yield JUMP_IF_ANY_BIT, 1, 0, CLONE_THREAD
    yield RETURN, 0, 0, NOT_PERMITTED
    yield RETURN, 0, 0, ALLOW


def refuse_others(numbers: Sequence[int]) -> Iterator[Instruction]:
    """Instructions that let calls pass whose first argument, a process, is 0: the caller itself."""
    for number in numbers:
        yield JUMP_IF_EQUAL, 0, 4, number
        yield LOAD_WORD, 0, 0, FIRST_ARGUMENT_OFFSET
        yield JUMP_IF_EQUAL, 1, 0, 0
        yield RETURN, 0, 0, NOT_PERMITTED
        yield RETURN, 0, 0, ALLOW


def refuse_commands(column: int) -> Iterator[Instruction]:
    """Instructions that refuse some commands (second argument) of calls that are allowed otherwise."""
    for numbers, commands in FORBIDDEN_COMMANDS.items():
        yield JUMP_IF_EQUAL, 0, 2 + 2 * len(commands), numbers[column]
        yield LOAD_WORD, 0, 0, SECOND_ARGUMENT_OFFSET
        yield from answer(commands, NOT_PERMITTED)
        yield RETURN, 0, 0, ALLOW
