"""What hostile programs try: one table for the self-test, the tests and the documentation.

Every program passes, or says the secret in its error, if it reached its aim, and fails otherwise, so that
success shows. Placeholders: ``@CANARY@`` a file that holds the secret, ``@TARGET@`` a file to write,
``@TCP@`` and ``@UDP@`` ports that listen on this machine, ``@PID@`` a process of the user's.

What this does not do: run anything, or judge (``containment`` does); try faults of the kernel, of V8 or of
Lua.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One kind of harm, and the programs that try it, by language.

    ``contained`` says what containment means. ``tests`` are run after the source. ``probe``: part of the
    start-up self-test. ``lasting``: what the program leaves behind is looked for after its runner has ended.
    """

    name: str
    contained: str
    sources: Mapping[str, str]
    tests: Mapping[str, str] = field(default_factory=dict)
    probe: bool = False
    lasting: bool = False
    timeout_seconds: float = 10.0


# Every way to the engine's own objects that a JavaScript program might find; each is asked to do the deed.
REACH = """
function reach(deed) {
  const found = [];
  const doors = [
    () => Deno,
    () => globalThis.constructor.constructor("return Deno")(),
    () => console.log.constructor("return Deno")(),
    () => require("assert").constructor("return Deno")(),
    () => require("assert").AssertionError.constructor("return Deno")(),
    () => {
      let sites = [];
      Error.prepareStackTrace = (_, all) => { sites = all; return ""; };
      void new Error().stack;
      for (const site of sites) {
        for (const thing of [site.getThis(), site.getFunction()]) {
          try { return thing.constructor.constructor("return Deno")(); } catch {}
        }
      }
      return undefined;
    },
  ];
  for (const door of doors) try { found.push(deed(door())); } catch {}
  return found;
}
"""

ENDLESS_LOOP = Attack(
    name="endless loop",
    contained="it is stopped at its deadline, and the next program runs",
    timeout_seconds=0.5,
    sources={
        "python": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "javascript": "while (true) try { while (true); } catch {}",
        "lua": "while true do pcall(function() while true do end end) end",
    },
)

FORK_BOMB = Attack(
    name="fork bomb",
    contained="it cannot start 40 processes, and none is left",
    lasting=True,
    sources={
        "python": """
import os, time
for number in range(40):
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
""",
        "javascript": REACH
        + """
const started = reach((deno) => {
  for (let i = 0; i < 40; i++) new deno.Command("sleep", { args: ["20"] }).spawn();
});
const workers = [];
const endless = "data:text/javascript,while(true);";
for (let i = 0; i < 40; i++) workers.push(new Worker(endless, { type: "module" }));
if (started.length + workers.length === 0) throw new Error("none");
""",
        "lua": "for _ = 1, 40 do assert(io.popen('sleep 20')) end",
    },
)

MEMORY = Attack(
    name="memory",
    contained="it does not get 2 GiB under a limit of 256 MiB",
    sources={
        "python": "blocks = [b'x' * 2**26 for _ in range(32)]",
        "javascript": "const xs = []; for (let i = 0; i < 32; i++) xs.push(new Uint8Array(2 ** 26).fill(1));",
        "lua": "local text = 'x' for _ = 1, 31 do text = text .. text end",
    },
)

LARGE_FILE = Attack(
    name="disk: a large file",
    contained="it cannot write a file of 80 MiB, and nothing is left",
    sources={
        "python": "with open('large', 'wb') as file:\n    for _ in range(80): file.write(b'x' * 2**20)",
        "javascript": REACH
        + """
const written = reach((deno) => deno.writeFileSync("large", new Uint8Array(80 * 2 ** 20)));
if (written.length === 0) throw new Error("none");
""",
        "lua": "local file = assert(io.open('large', 'w')) file:write(string.rep('x', 80 * 2^20))",
    },
)

MANY_FILES = Attack(
    name="disk: many files",
    contained="it cannot keep 20,000 files, and nothing is left",
    sources={
        "python": """
import os
for number in range(20000):
    open(f"file-{number}", "w").close()
assert len(os.listdir()) == 20000
""",
        "javascript": REACH
        + """
const written = reach((deno) => { for (let i = 0; i < 20000; i++) deno.writeTextFileSync(`file-${i}`, ""); });
if (written.length === 0) throw new Error("none");
""",
        "lua": "for i = 1, 20000 do assert(io.open('file-' .. i, 'w')):close() end",
    },
)

OUTPUT_FLOOD = Attack(
    name="output flood",
    contained="its output is not kept, and the next program runs",
    sources={
        "python": "import sys\nfor _ in range(20000): print('x' * 9999); print(1, file=sys.stderr)\n1 / 0",
        "javascript": "for (let i = 0; i < 20000; i++) console.log('x'.repeat(10000)); throw 1",
        "lua": "local s = ('x'):rep(10000) for _ = 1, 20000 do print(s) io.write(s) end error('end')",
    },
)

HARD_EXIT = Attack(
    name="hard exit with status 0",
    contained="it is no pass",
    sources={
        "python": "import os\nos._exit(0)",
        "javascript": REACH + "reach((deno) => deno.exit(0)); throw new Error('still here')",
        "lua": "os.exit(0, false)",
    },
    tests={"python": "assert False", "javascript": "throw 1", "lua": "error('reached')"},
)

SOFT_EXIT = Attack(
    name="exit before the tests",
    contained="it is no pass",
    sources={
        "python": "raise SystemExit(0)",
        "javascript": "process.exit(0)",
        "lua": "do return end",
    },
    tests={"python": "pass", "javascript": "0", "lua": "local x = 0"},
)

PATCHED_ASSERTS = Attack(
    name="patched asserts",
    contained="wrong results fail although the completion changed what tests judge with",
    sources={
        "python": """
import atexit, builtins, math, os, sys, unittest
class Yes:
    def __call__(self, *arguments, **keywords): return True
    def __enter__(self): return self
    def __exit__(self, *error): return True
builtins.AssertionError = builtins.isinstance = builtins.sorted = builtins.abs = builtins.len = Yes()
isinstance = sorted = AssertionError = Yes()
math.isclose = lambda *arguments, **keywords: True
unittest.TestCase.assertEqual = lambda *arguments: None
unittest.TestCase.failureException = KeyError
unittest.TestCase.assertTrue.__code__ = (lambda self, expr, msg=None: None).__code__
sys.modules["math"] = Yes()
atexit.register(os._exit, 0)
sys.settrace(lambda *arguments: None)
def f(x):
    builtins.isinstance = builtins.abs = Yes()
    return x
""",
        "javascript": """
const yes = () => true;
JSON.stringify = () => "same";
console.assert = Object.is = Number.isFinite = yes;
Array.prototype.every = Array.prototype.some = Array.prototype.includes = yes;
Object.prototype.toJSON = () => 1;
Error = function () {};
globalThis.require = () => new Proxy(yes, { get: () => yes });
isNaN = Object.keys = yes;
function f(x) {
  JSON.stringify = () => "same";
  Array.prototype.every = yes;
  return x;
}
""",
        "lua": """
assert, error, pcall, type = print, print, print, print
string.format, math.abs, tostring = print, print, print
setmetatable(_G, {__index = function() return print end})
getmetatable("").__index = function() return print end
function f(x) assert, error = print, print; math.abs = print; return x end
""",
    },
    tests={
        "python": """
import math, unittest
judged = []
class Judge(unittest.TestCase):
    def judge(self):
        self.assertEqual(f(1), 2)
    def judge_truth(self):
        self.assertTrue(f(0))
def refuses(judge):
    try:
        judge()
    except AssertionError:
        judged.append(judge)
        return True
    return False
assert not all([
    refuses(Judge("judge").judge), refuses(Judge("judge_truth").judge_truth), not math.isclose(f(1), 2),
    not isinstance(f(1), str), abs(f(-1)) == 1, sorted([2, f(1)]) == [1, 2], len(judged) == 2,
])
""",
        "javascript": """
const assert = require("assert");
const refuses = (judge) => { try { judge(); return false; } catch { return true; } };
if ([
  JSON.stringify(f([1])) !== JSON.stringify([2]),
  refuses(() => console.assert(f(false), "false")),
  refuses(() => assert.deepStrictEqual(f([1]), [2])),
  refuses(() => assert.throws(() => f(1))),
  !Object.is(f(1), 2), ![f(1)].every((x) => x === 2), ![f(1)].includes(2), !isNaN(f(1)),
  Object.keys(f({})).length === 0, new Error("text").message === "text", new Error() instanceof Error,
].every((held) => held)) throw new Error("every judgement held");
""",
        "lua": """
local function refuses(judge) return not pcall(judge) end
local judged = {
  refuses(function() assert(f(false)) end), refuses(function() error("wrong") end),
  math.abs(f(-1)) == 1, type(f(1)) == "number", tostring(f(1)) == "1", ("%d"):format(f(1)) == "1",
}
local held = 0
for _, one in ipairs(judged) do if one then held = held + 1 end end
if held == 6 then error("every judgement held") end
""",
    },
)

READ_FILE = Attack(
    name="reading a file outside",
    contained="the secret in the file does not come out",
    probe=True,
    sources={
        "python": "raise ValueError(open(@CANARY@).read())",
        "javascript": REACH
        + """
const loot = reach((deno) => deno.readTextFileSync(@CANARY@));
for (const name of ["fs", "node:fs"]) {
  try { loot.push(require(name).readFileSync(@CANARY@, "utf8")); } catch {}
}
import("node:fs").then((fs) => { throw new Error(fs.readFileSync(@CANARY@, "utf8")); });
if (loot.length > 0) throw new Error(loot.join());
""",
        "lua": "error(io.open(@CANARY@):read('a'))",
    },
)

READ_ENVIRONMENT = Attack(
    name="reading the environment",
    contained="the secret in the user's environment does not come out",
    probe=True,
    sources={
        "python": """
import os
values = list(os.environ.values())
assert any(value.startswith("secret-") for value in values)
raise ValueError(next(value for value in values if value.startswith("secret-")))
""",
        "javascript": REACH
        + """
const values = reach((deno) => Object.values(deno.env.toObject())).flat();
try { values.push(...Object.values(process.env)); } catch {}
throw new Error(values.filter((value) => value.startsWith("secret-")).join());
""",
        "lua": "error(os.getenv('CODESTRATA_CANARY'))",
    },
)

READ_PROCESSES = Attack(
    name="reading other processes",
    contained="the secret in another process's environment does not come out",
    sources={
        "python": """
import os
found = []
for name in ["@PID@", str(os.getppid()), *(name for name in os.listdir("/proc") if name.isdigit())]:
    for part in ("environ", "cmdline"):
        try: found.append(open(f"/proc/{name}/{part}", "rb").read())
        except OSError: pass
text = b" ".join(found)
raise ValueError(text[text.index(b"secret-"):][:80])
""",
        "javascript": REACH
        + 'throw new Error(reach((deno) => deno.readTextFileSync("/proc/@PID@/environ")).join());',
        "lua": "error(io.open('/proc/@PID@/environ'):read('a'))",
    },
)

WRITE_FILE = Attack(
    name="writing outside",
    contained="the file does not exist",
    probe=True,
    sources={
        "python": "open(@TARGET@, 'w').write('here')",
        "javascript": REACH
        + """
const written = reach((deno) => { deno.writeTextFileSync(@TARGET@, "here"); return 1; });
if (written.length === 0) throw new Error("none");
""",
        "lua": "assert(io.open(@TARGET@, 'w')):write('here')",
    },
)

CONNECT_TCP = Attack(
    name="connecting over TCP",
    contained="the listener on this machine sees no connection",
    probe=True,
    sources={
        "python": "import socket\nsocket.create_connection(('127.0.0.1', @TCP@), 1).sendall(b'here')",
        "javascript": REACH
        + """
(async () => {
  const tries = reach((deno) => deno.connect({ hostname: "127.0.0.1", port: @TCP@ }));
  try { tries.push(fetch("http://127.0.0.1:@TCP@/")); } catch {}
  if (tries.length === 0) throw new Error("none");
  await Promise.any(tries);
})();
""",
    },
)

SEND_UDP = Attack(
    name="sending over UDP",
    contained="the listener on this machine gets no datagram",
    sources={
        "python": """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"here", ("127.0.0.1", @UDP@))
""",
        "javascript": REACH
        + """
(async () => {
  const tries = reach((deno) =>
    deno.listenDatagram({ port: 0, transport: "udp" })
      .send(new Uint8Array(4), { transport: "udp", hostname: "127.0.0.1", port: @UDP@ }));
  if (tries.length === 0) throw new Error("none");
  await Promise.any(tries);
})();
""",
    },
)

SIGNAL = Attack(
    name="signalling the user's processes",
    contained="the process still runs",
    probe=True,
    sources={
        "python": "import os, signal\nos.kill(@PID@, signal.SIGTERM)",
        "javascript": REACH
        + """
const sent = reach((deno) => { deno.kill(@PID@, "SIGTERM"); return 1; });
try { process.kill(@PID@); sent.push(1); } catch {}
if (sent.length === 0) throw new Error("none");
""",
        "lua": "assert(os.execute('kill @PID@'))",
    },
)

DAEMON = Attack(
    name="leaving a process behind",
    contained="no process of the program's is left once its runner has ended",
    probe=True,
    lasting=True,
    sources={
        "python": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(20)
    os._exit(0)
""",
        "javascript": REACH
        + """
const started = reach((deno) => new deno.Command("setsid", { args: ["sleep", "20"] }).spawn());
if (started.length === 0) throw new Error("none");
""",
        "lua": "assert(os.execute('setsid sleep 20 &'))",
    },
)

REGULAR_EXPRESSION = Attack(
    name="regular expression bomb",
    contained="it is stopped at its deadline, and the next program runs",
    timeout_seconds=0.5,
    sources={
        "python": "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
        "javascript": "/^(a+)+$/.test('a'.repeat(60) + 'b')",
        "lua": "string.rep('a', 60):find(string.rep('a-', 40) .. 'b')",
    },
)

CRASH = Attack(
    name="crashing the interpreter",
    contained="it is no pass, and the next program runs",
    sources={
        "python": "import ctypes\nctypes.string_at(0)",
        "javascript": "function f() { return f() + f(); } f()",
        "lua": "local function f() return 1 + f() end f()",
    },
)

FORGERY = Attack(
    name="forging a verdict",
    contained="what it writes to every open descriptor is no pass",
    sources={
        "python": """
import os
line = '{"status": "passed", "detail": ""}'
for descriptor in range(256):
    for text in ("passed ", line, "x " + line, "0" * 32 + " " + line, "0" * 32 + "passed "):
        try: os.write(descriptor, (text + "\\n").encode())
        except OSError: pass
os._exit(0)
""",
        "javascript": 'console.log(\'{"status": "passed", "detail": ""}\'); throw 1',
        "lua": "print('passed') error('end')",
    },
)

ATTACKS = (
    ENDLESS_LOOP,
    FORK_BOMB,
    MEMORY,
    LARGE_FILE,
    MANY_FILES,
    OUTPUT_FLOOD,
    HARD_EXIT,
    SOFT_EXIT,
    PATCHED_ASSERTS,
    READ_FILE,
    READ_ENVIRONMENT,
    READ_PROCESSES,
    WRITE_FILE,
    CONNECT_TCP,
    SEND_UDP,
    SIGNAL,
    DAEMON,
    REGULAR_EXPRESSION,
    CRASH,
    FORGERY,
)
