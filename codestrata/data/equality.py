"""The one function of the JavaScript package ``lodash`` that tests of MBXP import, as text before them.

What this does not do: offer the package to programs; only the tests that it stands before can ask for it.
"""

LODASH = """\
require = (function (others) {
  const kindOf = (value) => Object.prototype.toString.call(value);
  const isPlain = (value) => typeof value !== "object" || value === null;
  const same = (a, b) => a === b || (a !== a && b !== b);
  function pairOff(left, right, equal) {
    const rest = [...right];
    return [...left].every((member) => {
      const place = rest.findIndex((other) => equal(member, other));
      if (place >= 0) rest.splice(place, 1);
      return place >= 0;
    });
  }
  function isEqual(a, b, above = []) {
    if (isPlain(a) || isPlain(b)) return same(a, b);
    if (a === b) return true;
    const kind = kindOf(a);
    if (kind !== kindOf(b) || a.constructor !== b.constructor) return false;
    for (const [x, y] of above) if (x === a || y === b) return x === a && y === b;
    const inside = [...above, [a, b]];
    const deeper = (x, y) => isEqual(x, y, inside);
    if (["[object Date]", "[object Number]", "[object String]", "[object Boolean]"].includes(kind)) {
      return same(a.valueOf(), b.valueOf());
    }
    if (kind === "[object RegExp]") return String(a) === String(b);
    if (kind === "[object Error]") return a.name === b.name && a.message === b.message;
    if (kind === "[object Set]" || kind === "[object Map]") return a.size === b.size && pairOff(a, b, deeper);
    if (Array.isArray(a)) {
      if (a.length !== b.length) return false;
      for (let i = 0; i < a.length; i++) if (!deeper(a[i], b[i])) return false;
      return true;
    }
    const keys = Object.keys(a);
    return keys.length === Object.keys(b).length &&
      keys.every((key) => Object.hasOwn(b, key) && deeper(a[key], b[key]));
  }
  const lodash = { isEqual: (a, b) => isEqual(a, b) };
  return (name) => (name === "lodash" ? lodash : others(name));
})(require);
"""
"""Source: what lodash 4.17 says of ``isEqual``; ours knows no array buffers and no symbols as keys."""
