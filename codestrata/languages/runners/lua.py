"""Run Lua programs one after another, each in a fresh Lua 5.4 state; a script that ``sandbox`` starts.

Arguments: a JSON object of options (``memory_mib`` of a state, ``filter``), and the name of the runner's
folder. Reads lines ``{"token": ..., "source": ..., "tests": ...}`` on standard input; answers each with the
token, a blank and ``{"status": ..., "detail": ...}``. The first line it writes is ``ready``.

Completion and tests are one chunk, because tests may use a completion's local names. Between the two a
function puts the libraries back, and the tests get the names of the libraries as locals of their own.

What this does not do: run programs that end in a ``return`` of their own, or that need ``require`` or files.
"""

import base64
import importlib
import json
import os
import secrets
import sys

from lupa.lua54 import LuaError, LuaRuntime

DETAIL_CHARACTERS = 300

# Bytecode is refused by `load` because a forged one can take over the interpreter.
PRELUDE = """
local load_any = load
function load(chunk, name, _, ...) return load_any(chunk, name, "t", ...) end
local function discard() end
print, warn, io = discard, discard, {write = discard}
os = {clock = os.clock, date = os.date, difftime = os.difftime, time = os.time}
debug = {traceback = debug.traceback}
python, package, require, dofile, loadfile = nil, nil, nil, nil, nil
math.randomseed(0)  -- a score must not change from run to run
"""

# What judging needs, in the order in which RESTORE returns it.
TOOLS = tuple(
    "assert error ipairs math next pairs pcall rawequal rawget rawlen select string table tonumber "
    "tostring type utf8".split()
)

# Gives the function that puts all libraries back and returns copies of the tools.
RESTORE = """
local next, type, setmetatable, getmetatable, unpack = next, type, setmetatable, getmetatable, table.unpack
local function copy(from)
  local to = {}
  for key, value in next, from do to[key] = value end
  return to
end
local globals, saved, libraries = _G, {}, {}
for name, value in next, globals do
  saved[name] = value
  if type(value) == "table" and value ~= globals then libraries[value] = copy(value) end
end
local texts, of_texts = getmetatable(""), copy(getmetatable(""))
local names = {...}
return function()
  setmetatable(globals, nil)
  local function put_back(target, kept)
    setmetatable(target, nil)
    for key in next, copy(target) do if kept[key] == nil then target[key] = nil end end
    for key, value in next, kept do target[key] = value end
  end
  for library, kept in next, libraries do put_back(library, kept) end
  put_back(texts, of_texts)
  local tools = {}
  for number = 1, #names do
    local tool = saved[names[number]]
    tools[number] = type(tool) == "table" and copy(tool) or tool
  end
  return unpack(tools, 1, #names)
end
"""


def main() -> None:
    """Answer requests until standard input ends."""
    options = json.loads(sys.argv[1])
    requests, replies = sys.stdin.buffer, sys.stdout
    run_program("", "", options["memory_mib"] * 2**20)  # whatever is loaded late is loaded now
    if options["filter"]:
        confine_further(base64.b64decode(options["filter"]))
    print("ready", file=replies, flush=True)
    for line in requests:
        request = json.loads(line)
        status, detail = run_program(request["source"], request["tests"], options["memory_mib"] * 2**20)
        reply = json.dumps({"status": status, "detail": detail})
        print(request["token"], reply, file=replies, flush=True)


def confine_further(filter_program: bytes) -> None:
    """Bind this process itself by the filter for programs: it starts no other."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    kernel = importlib.import_module("kernel")
    kernel.hide_process()
    kernel.filter_calls(filter_program)


def run_program(source: str, tests: str, memory_bytes: int) -> tuple[str, str]:
    """Run a program in a state of its own and say whether its last statement was reached."""
    # Latin-1 reads every byte string that Lua may hand out; UTF-8 would fail on some.
    runtime = LuaRuntime(
        encoding="latin-1", register_eval=False, register_builtins=False, max_memory=memory_bytes
    )
    runtime.execute(PRELUDE)
    restore = runtime.execute(RESTORE, *(name.encode() for name in TOOLS))
    compile_alone = runtime.eval("load")
    try:
        # By itself first: a comment or a block left open must not take in the tests.
        wrong = compile_alone(encode(source), b"=program")
        if isinstance(wrong, tuple):
            return "failed", describe(wrong[1])
        # A local name drawn now cannot be known to the completion. `do return end` leaves a program early;
        # only its end returns what it cannot know.
        back, end = f"back_{secrets.token_hex(8)}", secrets.token_hex(16)
        judging = f"local {','.join(TOOLS)} = {back}() {tests}\n" if tests else ""
        chunk = f"local {back} = ... {source}\n{judging}return '{end}'"
        returned = runtime.execute(encode(chunk), restore, name="=program", mode="t")
    except LuaError as error:
        return "failed", f"{type(error).__name__}: {describe(str(error))}"[:DETAIL_CHARACTERS]
    if returned != end:
        return "failed", "returned before its last statement"
    return "passed", ""


def encode(program: str) -> bytes:
    """A program as bytes; lone surrogates, which UTF-8 has no bytes for, become something that is no Lua."""
    return program.encode("utf-8", "surrogatepass")


def describe(message: str) -> str:
    """The first line of what Lua said."""
    return message.encode("latin-1", "replace").decode("utf-8", "replace").partition("\n")[0]


if __name__ == "__main__":
    main()
