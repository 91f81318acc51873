"""Carry out attacks on a rung and look at the world for harm: files, listeners, processes, verdicts.

What this does not do: find harm of a kind that no attack of the table tries.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from codestrata.languages.attacks import ATTACKS, Attack
from codestrata.languages.runtimes import choose_limits
from codestrata.languages.sandbox import Outcome, Program, Runner

MEMORY_MIB = 256
TIMEOUT_SECONDS = 20.0
LAST_BREATH_SECONDS = 1.0
"""How long a killed process may take to go; on a busy machine it waits for its turn."""
VARIABLE = "CODESTRATA_CANARY"

HONEST = {
    "python": Program("def f(x):\n    return x + 1", "assert f(1) == 2"),
    "javascript": Program("const f = (x) => x + 1;", "if (f(1) !== 2) throw new Error('f(1)');"),
    "lua": Program("local function f(x) return x + 1 end", "if f(1) ~= 2 then error('f(1)') end"),
}


class World:
    """What attacks aim at: a secret in a file and in environments, a file to write, two listeners, a process.

    Everything is gone after the ``with`` block. Runners are started with ``folder`` as the place of their own
    folders, whose path marks their processes.
    """

    def __enter__(self) -> "World":
        with ExitStack() as stack:
            self.secret = f"secret-{secrets.token_hex(16)}"
            self.root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="codestrata-world-")))
            self.folder, self.canary, self.target = (
                self.root / name for name in ("runners", "canary", "open/target")
            )
            self.canary.write_text(self.secret, encoding="utf-8")
            # Open to every user, so that only the confinement stands between a program and its aim.
            for folder, mode in ((self.root, 0o755), (self.folder, 0o755), (self.target.parent, 0o777)):
                folder.mkdir(exist_ok=True)
                folder.chmod(mode)
            self.listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            self.mailbox = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self.mailbox.bind(("127.0.0.1", 0))
            self.listener.setblocking(False)
            self.mailbox.setblocking(False)
            stack.enter_context(set_variable(VARIABLE, self.secret))
            self.victim = self.start_victim()
            stack.callback(lambda: end_process(self.victim))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def start_victim(self) -> subprocess.Popen[bytes]:
        """A process that does nothing, with the secret in its environment."""
        sleep = shutil.which("sleep") or "/bin/sleep"
        return subprocess.Popen([sleep, "600"], env={VARIABLE: self.secret}, start_new_session=True)

    def aim(self, attack: Attack, language: str) -> Program:
        """The attack's program, with the places of this world filled in."""
        source = attack.sources[language]
        for name, value in {
            "@CANARY@": json.dumps(str(self.canary)),
            "@TARGET@": json.dumps(str(self.target)),
            "@TCP@": str(self.listener.getsockname()[1]),
            "@UDP@": str(self.mailbox.getsockname()[1]),
            "@PID@": str(self.victim.pid),
        }.items():
            source = source.replace(name, value)
        return Program(source, attack.tests.get(language, ""))

    def list_harm(self, outcome: Outcome) -> list[str]:
        """What a program did that it must not; the world is as before afterwards."""
        harm = ["reached its end"] if outcome.status == "passed" else []
        if self.secret in outcome.detail:
            harm.append("read the secret")
        if self.target.exists():
            harm.append("wrote the file")
            self.target.unlink()
        with suppress(BlockingIOError):
            self.listener.accept()[0].close()
            harm.append("connected")
        with suppress(BlockingIOError):
            self.mailbox.recv(64)
            harm.append("sent a datagram")
        with suppress(subprocess.TimeoutExpired):
            # A signal takes a moment; where none was sent, so does this.
            self.victim.wait(0.02)
            harm.append("ended the process")
            self.victim = self.start_victim()
        return harm

    def list_remains(self) -> list[str]:
        """What is left of runners that have ended; it is removed."""
        harm = []
        processes = list_lasting_processes(str(self.folder))
        for number in processes:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        if processes:
            harm.append(f"left {len(processes)} processes" if len(processes) > 1 else "left a process")
        left = list(self.folder.iterdir())
        if left:
            harm.append("left files")
            for path in left:
                shutil.rmtree(path, ignore_errors=True)
        return harm


@contextmanager
def set_variable(name: str, value: str) -> Iterator[None]:
    """Have a variable in this process's environment, and what it was before afterwards."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and wait for its end."""
    process.kill()
    process.wait()


def list_processes(mark: str) -> list[int]:
    """The numbers of the processes whose command line or environment holds ``mark``, this one left out."""
    if not Path("/proc/self/cmdline").exists():
        listing = subprocess.run(["ps", "-A", "-o", "pid=,args="], capture_output=True, text=True, check=True)
        lines = (line.split(None, 1) for line in listing.stdout.splitlines() if mark in line)
        return [int(number) for number, _ in lines if int(number) != os.getpid()]
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        for part in ("cmdline", "environ"):
            with suppress(OSError):  # it ended, or is another user's
                if mark.encode() in (folder / part).read_bytes():
                    found.append(int(folder.name))
                    break
    return found


def list_lasting_processes(mark: str) -> list[int]:
    """As ``list_processes``, without those that were killed and are about to go."""
    deadline = time.monotonic() + LAST_BREATH_SECONDS
    while (found := list_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def find_attacks(language: str, *, probes: bool = False) -> list[Attack]:
    """The attacks that there are for a language; ``probes`` keeps those of the self-test."""
    return [attack for attack in ATTACKS if language in attack.sources and (attack.probe or not probes)]


def carry_out(language: str, rung: str, attacks: Sequence[Attack]) -> dict[str, tuple[str, ...]]:
    """The harm that each attack did on a rung, by its name; nothing for a contained one.

    Raises: ExecutionError: the rung does not start here.
    """
    harms: dict[str, tuple[str, ...]] = {}
    with World() as world:
        waiting = [attack for attack in attacks if not attack.lasting]
        while waiting:
            with open_runner(language, rung, world) as runner:
                while waiting and runner.alive:
                    attack = waiting.pop(0)
                    harms[attack.name] = tuple(assault(attack, language, world, runner))
            if remains := world.list_remains():
                harms[attack.name] += tuple(remains)
        for attack in attacks:
            if attack.lasting:
                with open_runner(language, rung, world) as runner:
                    harm = assault(attack, language, world, runner)
                harms[attack.name] = (*harm, *world.list_remains())
    return {attack.name: harms[attack.name] for attack in attacks}


def open_runner(language: str, rung: str, world: World) -> Runner:
    """A runner in a world."""
    limits = choose_limits(language, len(ATTACKS), TIMEOUT_SECONDS, MEMORY_MIB)
    return Runner(language, rung, limits=limits, memory_mib=MEMORY_MIB, within=world.folder)


def assault(attack: Attack, language: str, world: World, runner: Runner) -> list[str]:
    """The harm done by one attack, and to the honest program after it where the runner still lives."""
    outcome = runner.run(world.aim(attack, language), attack.timeout_seconds)
    harm = world.list_harm(outcome)
    if attack.probe and outcome.status == "timeout":
        harm.append("did not come to its end, so nothing is known")
    if runner.alive and runner.run(HONEST[language], TIMEOUT_SECONDS).status != "passed":
        harm.append("spoiled the next program")
    return harm
