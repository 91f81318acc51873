// Run JavaScript programs one after another, each in a fresh global scope; a script that `sandbox` starts in deno.
//
// Reads lines {"token": ..., "source": ...} on standard input; answers each with the token, a blank and
// {"status": ..., "detail": ...}. The first line it writes is `ready`.
//
// What this does not do: offer modules, `require`, timers or a console that prints. A program is a classic script;
// it may use promises, and one that is rejected without a handler fails it.

import { setImmediate } from "node:timers";
import vm from "node:vm";

const DETAIL_CHARACTERS = 300;

let rejected = null;

addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  rejected = { reason: event.reason };
});

// Made inside the context, so that an error's own code never runs with objects of this one at hand.
const DESCRIBE = `((toText) => (error) => {
  try { return toText(error); } catch { return "an error without a text"; }
})(String)`;

async function judge(source) {
  // No prototype: an object of ours would lead the program out of its context by way of its constructor.
  const context = vm.createContext(Object.create(null));
  const describe = vm.runInContext(DESCRIBE, context);
  const fail = (error) => ({ status: "failed", detail: describe(error).slice(0, DETAIL_CHARACTERS) });
  rejected = null;
  try {
    vm.runInContext(source, context, { filename: "program.js" });
  } catch (error) {
    return fail(error);
  }
  await new Promise((resolve) => setImmediate(resolve)); // promise jobs belong to the program that left them
  return rejected === null ? { status: "passed", detail: "" } : fail(rejected.reason);
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

write("ready");
for (const line of readLines()) {
  const { token, source } = JSON.parse(line);
  write(`${token} ${JSON.stringify(await judge(source))}`);
}
