// What is put into every JavaScript program's global scope before the program: a console, `require("assert")`,
// and the means to undo what a completion did to the language before its tests run.
//
// What this does not do: undo changes to the completion's own objects. The function `prelude` is never called
// here: its text is compiled inside the program's context, so that no object of this one is within reach.

// The names that tests get as parameters: whatever the completion did to the global ones, these are as before.
export const BINDINGS = [
  ..."Array ArrayBuffer BigInt BigInt64Array BigUint64Array Boolean DataView Date Error EvalError".split(" "),
  ..."Float32Array Float64Array Function Int16Array Int32Array Int8Array JSON Map Math Number Object".split(" "),
  ..."Promise Proxy RangeError ReferenceError Reflect RegExp Set String Symbol SyntaxError TypeError".split(" "),
  ..."URIError Uint16Array Uint32Array Uint8Array Uint8ClampedArray WeakMap WeakSet".split(" "),
  ..."console decodeURIComponent encodeURIComponent isFinite isNaN parseFloat parseInt require".split(" "),
];

// Names that the language looks up by itself.
const LOOKED_UP = "toJSON toString valueOf then next return throw constructor exec flags get set has size add".split(" ");

// The names to watch over for the sake of these tests; `assert`, where they use it, needs names of its own.
export function listWords(tests) {
  const text = /assert/.test(tests) ? `${tests} ${prelude}` : tests;
  return [...new Set([...LOOKED_UP, ...(text.match(/[A-Za-z_]\w*/g) ?? [])])];
}

export function prelude(bindings, words) {
  "use strict";
  const { apply, defineProperty, deleteProperty, getOwnPropertyDescriptor, getPrototypeOf } = Reflect;
  const { ownKeys, preventExtensions, setPrototypeOf } = Reflect;
  const text = String, is = Object.is, isArray = Array.isArray, plainError = Error;

  class AssertionError extends Error {
    constructor(message) {
      super(message);
      this.name = "AssertionError";
      this.code = "ERR_ASSERTION";
    }
  }

  function describe(error) {
    try {
      return text(error);
    } catch {
      return "an error without a text";
    }
  }

  // ---- assert: https://nodejs.org/api/assert.html, the loose and the strict flavour ----

  const isObject = (value) => (typeof value === "object" && value !== null) || typeof value === "function";
  const kindOf = (value) => apply(Object.prototype.toString, value, []);
  const same = (a, b, strict) => strict ? is(a, b) : (a == b || (a !== a && b !== b));

  function equalInside(a, b, strict, seen) {
    const kind = kindOf(a);
    if (kind !== kindOf(b) || isArray(a) !== isArray(b)) return false;
    if (strict && getPrototypeOf(a) !== getPrototypeOf(b)) return false;
    for (const [x, y] of seen) if (x === a && y === b) return true;
    const deeper = [...seen, [a, b]];
    if (kind === "[object Date]" && !is(a.getTime(), b.getTime())) return false;
    if (kind === "[object RegExp]" && (text(a) !== text(b) || a.lastIndex !== b.lastIndex)) return false;
    if (kind === "[object Error]" && (a.message !== b.message || a.name !== b.name)) return false;
    if (a instanceof Number || a instanceof String || a instanceof Boolean) {
      if (!is(a.valueOf(), b.valueOf())) return false;
    }
    if (typeof a === "function") return a === b;
    if (a instanceof Set && b instanceof Set && !equalSets(a, b, strict, deeper)) return false;
    if (a instanceof Map && b instanceof Map && !equalMaps(a, b, strict, deeper)) return false;
    const keys = Object.keys(a);
    if (keys.length !== Object.keys(b).length || (isArray(a) && a.length !== b.length)) return false;
    for (const key of keys) {
      if (!Object.hasOwn(b, key) || !equalDeeply(a[key], b[key], strict, deeper)) return false;
    }
    return true;
  }

  function equalDeeply(a, b, strict, seen = []) {
    if (!isObject(a) || !isObject(b)) {
      return !isObject(a) && !isObject(b) ? same(a, b, strict) : false;
    }
    return a === b || equalInside(a, b, strict, seen);
  }

  // Each member of one must have a partner of its own in the other.
  function pairOff(left, right, equal) {
    const rest = [...right];
    if ([...left].length !== rest.length) return false;
    for (const member of left) {
      const place = rest.findIndex((other) => equal(member, other));
      if (place < 0) return false;
      rest.splice(place, 1);
    }
    return true;
  }

  const equalSets = (a, b, strict, seen) => pairOff(a, b, (x, y) => equalDeeply(x, y, strict, seen));
  const equalMaps = (a, b, strict, seen) =>
    pairOff(a, b, (x, y) => equalDeeply(x[0], y[0], strict, seen) && equalDeeply(x[1], y[1], strict, seen));

  function show(value) {
    try {
      return typeof value === "string" ? JSON.stringify(value) : JSON.stringify(value) ?? describe(value);
    } catch {
      return describe(value);
    }
  }

  function complain(message, otherwise) {
    if (message instanceof Error) throw message;
    throw new AssertionError(message === undefined ? otherwise : describe(message));
  }

  // Whether a thrown error is the one that was expected: a class, a pattern, a function that judges, an object.
  function isExpected(error, expected) {
    if (expected === undefined || typeof expected === "string") return true;
    if (expected instanceof RegExp) return expected.test(describe(error));
    if (typeof expected !== "function") {
      return Object.keys(expected).every((key) =>
        expected[key] instanceof RegExp && typeof error[key] === "string"
          ? expected[key].test(error[key])
          : equalDeeply(error[key], expected[key], true)
      );
    }
    if (expected.prototype !== undefined && error instanceof expected) return true;
    if (expected === Error || apply(Object.prototype.isPrototypeOf, Error, [expected])) return false;
    return apply(expected, {}, [error]) === true;
  }

  function buildAssert(strict) {
    const assert = (value, message) => value || complain(message, "the value is not truthy: " + show(value));
    const compare = (name, wanted, equal) => {
      assert[name] = (actual, expected, message) => {
        if (equal(actual, expected) === wanted) return;
        complain(message, `${name}: ${show(actual)} and ${show(expected)}`);
      };
    };
    for (const [name, firm] of [["Equal", strict], ["StrictEqual", true]]) {
      const plain = name[0].toLowerCase() + name.slice(1);
      compare(plain, true, (a, b) => same(a, b, firm));
      compare(`not${name}`, false, (a, b) => same(a, b, firm));
      compare(`deep${name}`, true, (a, b) => equalDeeply(a, b, firm));
      compare(`notDeep${name}`, false, (a, b) => equalDeeply(a, b, firm));
    }
    assert.ok = assert;
    assert.fail = (message) => complain(message, "Failed");
    assert.ifError = (value) => value === null || value === undefined || complain(undefined, `ifError: ${show(value)}`);
    assert.match = (value, pattern, message) => pattern.test(value) || complain(message, `match: ${show(value)}`);
    assert.doesNotMatch = (value, pattern, message) =>
      !pattern.test(value) || complain(message, `doesNotMatch: ${show(value)}`);
    const judge = (thrown, expected, message) => {
      if (thrown === null) complain(typeof expected === "string" ? expected : message, "Missing expected exception");
      if (!isExpected(thrown.error, expected)) throw thrown.error;
    };
    const refuse = (thrown) => thrown !== null && complain(undefined, `Got unwanted exception: ${describe(thrown.error)}`);
    const attempt = (block) => {
      try {
        block();
        return null;
      } catch (error) {
        return { error };
      }
    };
    const settle = async (block) => {
      try {
        await (typeof block === "function" ? block() : block);
        return null;
      } catch (error) {
        return { error };
      }
    };
    assert.throws = (block, expected, message) => judge(attempt(block), expected, message);
    assert.doesNotThrow = (block) => refuse(attempt(block));
    assert.rejects = async (block, expected, message) => judge(await settle(block), expected, message);
    assert.doesNotReject = async (block) => refuse(await settle(block));
    assert.AssertionError = AssertionError;
    return assert;
  }

  const loose = buildAssert(false), firm = buildAssert(true);
  loose.strict = firm.strict = firm;
  const modules = { __proto__: null, assert: loose, "assert/strict": firm };

  function require(name) {
    const found = modules[text(name).replace(/^node:/, "")];
    if (found === undefined) throw new plainError(`Cannot find module '${text(name)}': only assert is here`);
    return found;
  }

  const console = { assert: (value, ...message) => value || complain(message[0], "console.assert: " + show(value)) };
  for (const name of "count debug dir error group groupEnd info log table time timeEnd trace warn".split(" ")) {
    console[name] = () => {};
  }
  // What goes on after a program's end would be laid at the next program's door.
  delete globalThis.WebAssembly;
  delete globalThis.FinalizationRegistry;
  delete Atomics.waitAsync;
  for (const [name, value] of [["console", console], ["require", require]]) {
    defineProperty(globalThis, name, { value, writable: true, enumerable: false, configurable: true });
  }

  // ---- remember the language, put it back, hold it fast ----
  //
  // Of all properties only those whose name occurs in the tests, or that the language itself looks up, and
  // symbols: a walk over everything would take longer than most programs.

  const watched = { __proto__: null };
  for (const word of words.split(",")) watched[word] = true;
  const remembered = []; // of { object, keys, descriptors, prototype }
  const isWatched = (key) => typeof key === "symbol" || watched[key] === true;

  function remember(object) {
    const all = ownKeys(object), keys = [], descriptors = [];
    for (let i = 0; i < all.length; i++) {
      if (!isWatched(all[i])) continue;
      keys.push(all[i]);
      descriptors.push(getOwnPropertyDescriptor(object, all[i]));
    }
    remembered.push({ object, keys, descriptors, prototype: getPrototypeOf(object) });
  }

  const kept = [];
  for (const name of bindings.split(",")) {
    const value = globalThis[name];
    kept.push(value);
    remember(value);
    if (typeof value === "function" && value.prototype) remember(value.prototype);
  }
  const generator = getPrototypeOf(function* () {}).prototype;
  const arrayIterator = getPrototypeOf([][Symbol.iterator]());
  for (
    const object of [
      getPrototypeOf(Int8Array),
      getPrototypeOf(Int8Array.prototype),
      getPrototypeOf(async function () {}),
      generator,
      arrayIterator,
      getPrototypeOf(arrayIterator),
      getPrototypeOf(""[Symbol.iterator]()),
      getPrototypeOf(new Map()[Symbol.iterator]()),
      getPrototypeOf(new Set()[Symbol.iterator]()),
      getPrototypeOf(/a/[Symbol.matchAll]("")),
      AssertionError.prototype,
      loose,
      firm,
    ]
  ) remember(object);

  // Only watched names are removed: a method with another name may be what the completion needs.
  function removeAdditions({ object, keys, prototype }) {
    const present = ownKeys(object);
    for (let i = 0; i < present.length; i++) {
      let old = !isWatched(present[i]);
      for (let j = 0; j < keys.length && !old; j++) old = keys[j] === present[i];
      if (!old) deleteProperty(object, present[i]);
    }
    if (getPrototypeOf(object) !== prototype) setPrototypeOf(object, prototype);
  }

  function putBack({ object, keys, descriptors }) {
    for (let i = 0; i < keys.length; i++) {
      const now = getOwnPropertyDescriptor(object, keys[i]), before = descriptors[i];
      if (!now || now.value !== before.value || now.get !== before.get || now.set !== before.set) {
        defineProperty(object, keys[i], before);
      }
    }
  }

  // As accessors, not frozen: assigning to an object that inherits the name must go on working.
  function holdFast({ object, keys, descriptors }) {
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i], { value, get, set, writable, enumerable, configurable } = descriptors[i];
      if (!configurable || key === "constructor") continue;
      if (get || set) {
        defineProperty(object, key, { __proto__: null, get, set, enumerable, configurable: false });
      } else if (typeof key === "symbol") {
        defineProperty(object, key, { __proto__: null, value, writable: false, enumerable, configurable: false });
      } else if (typeof value === "function" && writable) {
        const read = () => value;
        const write = function (next) {
          if (this === object || !isObject(this)) return;
          defineProperty(this, key, {
            __proto__: null,
            value: next,
            writable: true,
            enumerable: true,
            configurable: true,
          });
        };
        defineProperty(object, key, { __proto__: null, get: read, set: write, enumerable, configurable: false });
      }
    }
  }

  const roots = [Object.prototype, Array.prototype, String.prototype, Number.prototype, Boolean.prototype];

  function restore() {
    for (let i = 0; i < remembered.length; i++) removeAdditions(remembered[i]);
    for (let i = 0; i < remembered.length; i++) putBack(remembered[i]);
    for (let i = 0; i < remembered.length; i++) holdFast(remembered[i]);
    for (let i = 0; i < roots.length; i++) preventExtensions(roots[i]);
  }

  let complaint = "waits for a promise that is never settled";

  // The outer code learns the end as a text, and never touches a promise of the program's.
  async function start(open) {
    try {
      await apply(apply(open, undefined, kept), globalThis, []);
      complaint = "";
    } catch (error) {
      complaint = describe(error) || "an error without a text";
    }
  }

  return { describe, restore, start, ask: () => complaint };
}
