"""Run Lua programs one after another, each in a fresh Lua 5.4 state; a script that ``sandbox`` starts.

The one argument is the memory of a state in MiB. Reads lines ``{"token": ..., "source": ...}`` on standard
input; answers each with the token, a blank and ``{"status": ..., "detail": ...}``. The first line it writes
is ``ready``.

What this does not do: run programs that end in a ``return`` of their own, or that need ``require`` or files.
"""

import json
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


def main() -> None:
    """Answer requests until standard input ends."""
    memory_bytes = int(sys.argv[1]) * 2**20
    print("ready", flush=True)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        verdict = judge(request["source"], memory_bytes)
        print(request["token"], json.dumps(verdict), flush=True)


def judge(source: str, memory_bytes: int) -> dict[str, str]:
    """Run a program in a state of its own and say whether its last statement was reached."""
    # Latin-1 reads every byte string that Lua may hand out; UTF-8 would fail on some.
    runtime = LuaRuntime(
        encoding="latin-1", register_eval=False, register_builtins=False, max_memory=memory_bytes
    )
    runtime.execute(PRELUDE)
    # `do return end` leaves a program early; only its end returns what it cannot know.
    end = secrets.token_hex(16)
    program = f"{source}\nreturn '{end}'".encode("utf-8", "surrogatepass")
    try:
        returned = runtime.execute(program, name="=program", mode="t")
    except LuaError as error:
        return {"status": "failed", "detail": describe(error)}
    if returned != end:
        return {"status": "failed", "detail": "returned before its last statement"}
    return {"status": "passed", "detail": ""}


def describe(error: LuaError) -> str:
    """The first line of a Lua error; its kind alone where the program raised something without a text."""
    text = str(error).encode("latin-1", "replace").decode("utf-8", "replace").partition("\n")[0]
    return f"{type(error).__name__}: {text}"[:DETAIL_CHARACTERS]


if __name__ == "__main__":
    main()
