"""What a completion does to Lua does not reach its tests."""

from codestrata.languages.sandbox import Outcome

PASSED = Outcome("passed", "")
RESULT = "local function f(x) return x end"

PATCHES = {
    "assert": ("assert = print", "assert(f(1) == 2)"),
    "error": ("error = print", "if f(1) ~= 2 then error('wrong') end"),
    "assert, when it is called": (
        "local g = f f = function(x) assert = print return g(x) end",
        "assert(f(1) == 2)",
    ),
    "the environment": (
        "_ENV = setmetatable({}, {__index = function() return print end})",
        "assert(f(1) == 2)",
    ),
    "the globals' metatable": ("setmetatable(_G, {__newindex = print}) assert = nil", "assert(f(1) == 2)"),
    "a library's function": ("math.abs = function() return 2 end", "assert(math.abs(f(-1)) == 2)"),
    "a library, when it is called": (
        "local g = f f = function(x) math.abs = function() return 2 end return g(x) end",
        "assert(math.abs(f(-1)) == 2)",
    ),
    "the methods of texts": (
        "string.upper = function() return '2' end",
        "assert(tostring(f('a')):upper() == '2')",
    ),
    "the metatable of texts": (
        "getmetatable('').__index = function() return function() return '2' end end",
        "assert(tostring(f('a')):upper() == '2')",
    ),
    "the equality of texts": ("getmetatable('').__eq = function() return true end", "assert(f('a') == 'b')"),
    "type": ("type = function() return 'string' end", "assert(type(f(1)) == 'string')"),
    "pcall": ("pcall = function() return false end", "assert(not pcall(f, 1))"),
    "what puts things back": (
        "for name in pairs(_G) do if name ~= '_G' then _G[name] = nil end end",
        "assert(false)",
    ),
}


def test_no_completion_patches_what_judges_it(run):
    programs = [(f"{RESULT}\n{source}", tests) for source, tests in PATCHES.values()]
    *outcomes, last = run("lua", *programs, (RESULT, "assert(f(1) == 1)"))
    fooled = {what for what, outcome in zip(PATCHES, outcomes, strict=True) if outcome.status != "failed"}
    assert fooled == set()
    assert last.status == "passed"


HONEST = [
    ("function f(x) return x end", "assert(f(1) == 1)"),
    ("local function f(x) return x end -- the end", "assert(f(1) == 1)"),
    ("local count = 0 function f() count = count + 1 return count end", "assert(f() == 1 and f() == 2)"),
    ("function string.last(s) return s:sub(-1) end", "assert(('ab'):upper() == 'AB')"),
    ("function f(...) return select('#', ...) end", "assert(f(1, nil) == 2)"),
    ("t = {} t.__index = t function t.new() return setmetatable({}, t) end", "assert(t.new())"),
    ("for i = 1, 3 do if i == 2 then goto next end ::next:: end", "assert(not pcall(error))"),
]


def test_honest_completions_pass(run):
    outcomes = run("lua", *HONEST)
    assert [
        (pair, outcome) for pair, outcome in zip(HONEST, outcomes, strict=True) if outcome != PASSED
    ] == []


def test_no_completion_swallows_its_tests(run):
    sources = ["--[[", "[[", "do", "if x then", "do return end", "return 1", "f("]
    assert {outcome.status for outcome in run("lua", *((source, "local x = 0") for source in sources))} == {
        "failed"
    }
    (outcome,) = run("lua", ("--[[", "error('wrong') local s = [[text]]"))
    assert outcome.status == "failed"
