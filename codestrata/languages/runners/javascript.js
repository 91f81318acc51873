// Run JavaScript programs one after another, each in a fresh global scope; a script that `sandbox` starts in deno.
//
// Reads lines {"token": ..., "source": ..., "tests": ...} on standard input; answers each with the token, a blank
// and {"status": ..., "detail": ...}. The first line it writes is `ready`. A completion is a classic script; the
// tests after it are the body of an async function of their own, so they may use `await`.
//
// What this does not do: offer modules other than `assert`, timers or a console that prints. A program may use
// promises; one that is rejected without a handler fails it.

import { setImmediate } from "node:timers";
import vm from "node:vm";
import { BINDINGS, listWords, prelude } from "./prelude.js";

const DETAIL_CHARACTERS = 300;
const PRELUDE = new vm.Script(`(${prelude})`, { filename: "prelude.js" });

let rejected = null;

addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  rejected = { reason: event.reason };
});

async function judge(source, tests) {
  // No prototype: an object of ours would lead the program out of its context by way of its constructor.
  const context = vm.createContext(Object.create(null));
  const open = PRELUDE.runInContext(context);
  const { describe, restore, start, ask } = open(BINDINGS.join(), listWords(tests).join());
  const fail = (error) => ({ status: "failed", detail: describe(error).slice(0, DETAIL_CHARACTERS) });
  rejected = null;
  try {
    vm.runInContext(source, context, { filename: "program.js" });
    if (tests) {
      restore();
      const wrapped = `(function (${BINDINGS}) { return async function () {\n${tests}\n}; })`;
      start(vm.runInContext(wrapped, context, { filename: "tests.js", lineOffset: -1 }));
    }
  } catch (error) {
    return fail(error);
  }
  await new Promise((resolve) => setImmediate(resolve)); // promise jobs belong to the program that left them
  if (rejected !== null) return fail(rejected.reason);
  const complaint = tests ? ask() : "";
  return { status: complaint === "" ? "passed" : "failed", detail: complaint.slice(0, DETAIL_CHARACTERS) };
}

function write(line) {
  Deno.stdout.writeSync(new TextEncoder().encode(line + "\n"));
}

// Blocking reads: asynchronous ones start threads, which fails where a program used up the memory.
function* readLines() {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(65536);
  let pending = "";
  for (let size; (size = Deno.stdin.readSync(buffer)) !== null;) {
    const lines = (pending + decoder.decode(buffer.subarray(0, size), { stream: true })).split("\n");
    pending = lines.pop();
    yield* lines;
  }
}

await judge("", "0"); // whatever is compiled late is compiled now
write("ready");
for (const line of readLines()) {
  const { token, source, tests } = JSON.parse(line);
  write(`${token} ${JSON.stringify(await judge(source, tests))}`);
}
