// The world a script sees, made once for each runtime (sync-function.md §2 and §4).
//
// This file is one function expression, in ES5 so that every engine takes it. It is called once with the
// factory of the user's function and returns run, which performs one call. Nothing that run leaves behind may
// be seen by the next call: the user's function is made anew each time, everything else is frozen, and
// properties that a call added to the global object are taken away after it.
(function (makeFunction, kind, keepEval, loose) {
  "use strict";
  var global = (0, eval)("this");
  var isArray = Array.isArray, parse = JSON.parse, stringify = JSON.stringify, ownKeys = Reflect.ownKeys;

  // State of the current call. out is a list of records: a tag, the length of the text in UTF-16 units, a
  // colon, the text (decode.go reads them).
  var out, admin, user, roles, channels, wantsUser, logged, unique;
  var maxLogs = 64, maxLogText = 1024;

  function put(tag, text) {
    out += tag + text.length + ":" + text;
  }

  function warn(text) {
    put("W", text.length > maxLogText ? text.slice(0, maxLogText) : text);
  }

  // describe names a value that was ignored, without running any of the script's code.
  function describe(v) {
    switch (typeof v) {
      case "number": case "boolean": return typeof v + " " + v;
      default: return isArray(v) ? "array" : typeof v;
    }
  }

  // each calls f for every string of a list argument: a string, or an array's strings. null and undefined are
  // skipped in silence, everything else with a warning.
  function each(helper, v, tag) {
    if (typeof v === "string") {
      put(tag, v);
      return;
    }
    if (v === null || v === undefined) return;
    if (!isArray(v)) {
      warn(helper + ": ignored " + describe(v));
      return;
    }
    for (var i = 0, n = v.length; i < n; i++) {
      var e = v[i];
      if (typeof e === "string") put(tag, e);
      else if (e !== null && e !== undefined) warn(helper + ": ignored " + describe(e));
    }
  }

  function channel() {
    for (var i = 0; i < arguments.length; i++) each("channel", arguments[i], "C");
  }

  // grant records one access() or role() call: the mark, its left names, its right names.
  function grant(helper, mark, left, right) {
    if (left === "" || right === "") return;
    put(mark, "");
    each(helper, left, "L");
    each(helper, right, "R");
  }

  function access(users, channels) { grant("access", "A", users, channels); }
  function role(users, roles) { grant("role", "O", users, roles); }

  // holds reports whether list, names between commas, has one of the wanted names.
  function holds(list, wanted) {
    if (typeof wanted === "string") return wanted.indexOf(",") < 0 && list.indexOf("," + wanted + ",") >= 0;
    if (isArray(wanted)) {
      for (var i = 0, n = wanted.length; i < n; i++) {
        var w = wanted[i];
        if (typeof w === "string" && w.indexOf(",") < 0 && list.indexOf("," + w + ",") >= 0) return true;
      }
    }
    return false;
  }

  function require(list, wanted, reason) {
    if (list === undefined) wantsUser = true;
    else if (holds(list, wanted)) return;
    throw { forbidden: reason };
  }

  function requireUser(names) { if (!admin) require(user, names, "sg wrong user"); }
  function requireRole(names) { if (!admin) require(roles, names, "sg missing role"); }
  function requireAccess(names) { if (!admin) require(channels, names, "sg missing channel access"); }
  function requireAdmin() { if (!admin) throw { forbidden: "sg admin required" }; }

  function reject(status, message) {
    status = +status;
    if (status >= 400) put("J", String(Math.floor(status)) + " " + (message === undefined ? "" : String(message)));
  }

  function expiry(v) {
    if (v === null || v === undefined) return;
    if (typeof v === "number") put("X", "n" + v);
    else if (typeof v === "string") put("X", "s" + v);
    else put("X", "o" + describe(v));
  }

  function show(v) {
    if (typeof v === "object" && v !== null) {
      try {
        var s = stringify(v);
        if (typeof s === "string") return s;
      } catch (e) { /* shown as String does */ }
    }
    return String(v);
  }

  function write(tag, args) {
    if (logged++ >= maxLogs) return;
    var s = "";
    for (var i = 0; i < args.length && s.length < maxLogText; i++) s += (i ? " " : "") + show(args[i]);
    put(tag, s.length > maxLogText ? s.slice(0, maxLogText) : s);
  }

  function log() { write("I", arguments); }
  var console = {
    log: log, info: log, debug: log, warn: log,
    error: function () { write("E", arguments); }
  };

  // thrown records what the script threw: throw({forbidden: …}) and throw({unauthorized: …}) are rejections,
  // all else is an exception.
  function thrown(e) {
    var f = e.forbidden;
    if (f) return put("T", "403 " + String(f));
    var u = e.unauthorized;
    if (u) return put("T", "401 " + String(u));
    fault(e);
  }

  function fault(e) {
    var s = "exception";
    try {
      s = String(e);
      if (e && typeof e.stack === "string") s += " " + e.stack;
    } catch (x) { /* its own description throws */ }
    put("F", s.length > maxLogText ? s.slice(0, maxLogText) : s);
  }

  // inspect tells what the source evaluates to.
  function inspect() {
    out = "";
    try { put("B", typeof makeFunction()); } catch (e) { fault(e); }
    sweep();
    return out;
  }

  function runSync(doc, oldDoc, meta, isAdmin, name, roleList, channelList) {
    if (doc === undefined) return inspect();
    out = ""; logged = 0; wantsUser = false; unique = 0;
    admin = isAdmin; user = name; roles = roleList; channels = channelList;
    try {
      makeFunction()(parse(doc), oldDoc === null ? null : parse(oldDoc), meta === null ? { xattrs: {} } : parse(meta));
    } catch (e) {
      try { thrown(e); } catch (x) { fault(e); }
    }
    sweep();
    return wantsUser ? "N0:" + out : out;
  }

  function runFilter(doc) {
    if (doc === undefined) return inspect();
    out = ""; logged = 0; unique = 0;
    try {
      var v = makeFunction()(parse(doc));
      if (typeof v === "boolean") put("B", v ? "true" : "false");
      else if (typeof v === "string") put("B", v);
      else put("B", "");
    } catch (e) {
      fault(e);
    }
    sweep();
    return out;
  }

  // The conflict at hand, as defaultPolicy judges it: the documents' revisions, and which of two that are both live or
  // both deleted is kept.
  var localRev, remoteRev, localLater;

  function runResolver(local, remote, itsLocalRev, itsRemoteRev, isLocalLater) {
    if (local === undefined) return inspect();
    out = ""; logged = 0; unique = 0;
    localRev = itsLocalRev; remoteRev = itsRemoteRev; localLater = isLocalLater;
    try {
      var v = makeFunction()({ LocalDocument: withBody(parse(local)), RemoteDocument: withBody(parse(remote)) });
      if (v === null || v === undefined) put("B", "n");
      else if (typeof v !== "object" || isArray(v)) put("B", "x" + describe(v));
      else {
        var text = stringify(v);
        put("B", typeof text === "string" && text[0] === "{" ? "o" + text : "xno JSON object");
      }
    } catch (e) {
      fault(e);
    }
    sweep();
    return out;
  }

  // withBody gives a document a body that is the document itself, unless it has one; what is assigned to it takes its place.
  function withBody(doc) {
    if (Object.getOwnPropertyDescriptor(doc, "body")) return doc;
    return Object.defineProperty(doc, "body", {
      get: function () { return doc; },
      set: function (v) {
        Object.defineProperty(doc, "body", { value: v, writable: true, enumerable: true, configurable: true });
      },
      enumerable: false, configurable: true
    });
  }

  function isDocument(v) { return typeof v === "object" && v !== null && !isArray(v); }

  function checkConflict(policy, c) {
    if (!isDocument(c) || !isDocument(c.LocalDocument) || !isDocument(c.RemoteDocument)) {
      throw new TypeError(policy + ": the argument is no conflict");
    }
  }

  function defaultPolicy(conflict) {
    checkConflict("defaultPolicy", conflict);
    var l = conflict.LocalDocument, r = conflict.RemoteDocument;
    if (!l._deleted !== !r._deleted) return l._deleted ? l : r;
    if (l._rev === localRev && r._rev === remoteRev) return localLater ? l : r;
    if (l._rev === remoteRev && r._rev === localRev) return localLater ? r : l;
    if (l._rev === r._rev) return l;
    throw new TypeError("defaultPolicy: the revisions are not those in conflict");
  }

  function localPolicy(conflict) {
    checkConflict("localPolicy", conflict);
    return conflict.LocalDocument;
  }

  function remotePolicy(conflict) {
    checkConflict("remotePolicy", conflict);
    return conflict.RemoteDocument;
  }

  // sweep takes away what the call added to the global object; a trace that cannot be removed is reported ahead of
  // all else, and the runtime is given up.
  var globals = 0, globalProto = Object.getPrototypeOf(global);
  function sweep() {
    if (!loose) return;
    if (!Object.isExtensible(global) || Object.getPrototypeOf(global) !== globalProto) {
      out = "Q0:" + out;
      return;
    }
    var names = ownKeys(global);
    if (names.length === globals) return;
    for (var i = 0; i < names.length; i++) {
      if (!known[names[i]] && !Reflect.deleteProperty(global, names[i])) out = "Q0:" + out;
    }
  }
  var known = Object.create(null);

  // What is not part of the contract and could hang a call or carry state from one to the next.
  var removed = ["Proxy", "SharedArrayBuffer", "Atomics", "WeakRef", "FinalizationRegistry", "ArrayBuffer", "DataView",
    "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array",
    "BigInt64Array", "BigUint64Array", "Float16Array", "Float32Array", "Float64Array"];
  if (!keepEval) removed.push("eval");
  removed.forEach(function (name) { delete global[name]; });

  // Properties that scripts give to their own objects although a frozen prototype has them too: reading them
  // gives the prototype's value, writing defines an own property, as if the prototype were not frozen.
  function override(proto, names) {
    names.forEach(function (name) {
      var d = Object.getOwnPropertyDescriptor(proto, name);
      if (!d || !("value" in d) || !d.configurable) return;
      var value = d.value;
      Object.defineProperty(proto, name, {
        get: function () { return value; },
        set: function (v) {
          if (this === proto || this === undefined || this === null) throw new TypeError("frozen");
          Object.defineProperty(this, name, { value: v, writable: true, enumerable: true, configurable: true });
        },
        enumerable: false, configurable: false
      });
    });
  }

  // Built-in functions cannot be interrupted, and some take as long as the length that they are told: an array-like
  // object of 2^53 elements, two strings whose product is compared. Those are given a limit. (A true array so long does
  // not fit into the memory of a runtime.)
  var maxLength = 1 << 22, maxSearch = 1 << 30;

  function checkLength(o) {
    if (o === null || typeof o !== "object" && typeof o !== "function") return;
    var n = isArray(o) ? o.length : lengthOf(o);
    if (!(n <= maxLength)) throw new RangeError("array too long");
  }

  // lengthOf reads the length of an array-like object without running code, so that it is the same when read again.
  function lengthOf(o) {
    for (var d; o !== null; o = Object.getPrototypeOf(o)) {
      if ((d = Object.getOwnPropertyDescriptor(o, "length"))) {
        return typeof d.value === "object" || typeof d.value === "function" ? NaN : "value" in d ? +d.value || 0 : NaN;
      }
    }
    return 0;
  }

  function guardArrays() {
    var free = ["constructor", "push", "pop", "at", "keys", "values", "entries", "concat", "flat", "flatMap"];
    Object.getOwnPropertyNames(Array.prototype).forEach(function (name) {
      var native = Array.prototype[name];
      if (typeof native !== "function" || free.indexOf(name) >= 0) return;
      replace(Array.prototype, name, function () {
        checkLength(this);
        return apply(native, this, arguments);
      });
    });
    // concat, flat and flatMap take more arrays than this; they are made of interruptible steps instead.
    replace(Array.prototype, "concat", function () {
      var into = [], at = 0;
      for (var i = -1; i < arguments.length; i++) {
        var item = i < 0 ? Object(this) : arguments[i];
        if (!isArray(item)) { into[at++] = item; continue; }
        checkLength(item);
        for (var j = 0, n = item.length; j < n; j++) if (j in item) into[at + j] = item[j];
        into.length = at += n;
      }
      return into;
    });
    function flatten(into, from, depth) {
      checkLength(from);
      for (var i = 0; i < from.length; i++) {
        if (!(i in from)) continue;
        if (depth > 0 && isArray(from[i])) flatten(into, from[i], depth - 1);
        else into[into.length] = from[i];
      }
      return into;
    }
    replace(Array.prototype, "flat", function (depth) { return flatten([], this, depth === undefined ? 1 : +depth); });
    replace(Array.prototype, "flatMap", function (f, self) { return flatten([], this.map(f, self), 1); });
  }

  function guardJSON() {
    var native = JSON.stringify;
    replace(JSON, "stringify", function (v, filter, space) {
      if (isArray(filter)) checkLength(filter);
      return native(v, filter, space);
    });
  }

  function guardStrings() {
    ["indexOf", "lastIndexOf", "includes", "split", "replace", "replaceAll"].forEach(function (name) {
      var native = String.prototype[name];
      if (native) replace(String.prototype, name, function (what) {
        if (typeof this === "string" && typeof what === "string" && this.length * what.length > maxSearch) {
          throw new RangeError("strings too long to search");
        }
        return apply(native, this, arguments);
      });
    });
  }

  // raw goes on to the end of what it is given even when it has run out of memory.
  function guardRaw() {
    replace(String, "raw", function (template) {
      var raw = template.raw, s = "";
      checkLength(raw);
      for (var i = 0, n = raw.length; i < n; i++) s += (i > 0 && i < arguments.length ? arguments[i] : "") + raw[i];
      return s;
    });
  }

  function replace(proto, name, f) {
    Object.defineProperty(proto, name, { value: f, writable: true, enumerable: false, configurable: true });
  }
  var apply = Reflect.apply;

  // harden freezes everything that can be reached from the roots, except the global object, whose own properties are
  // fixed instead.
  function harden(roots) {
    var seen = new Set(), todo = [], names, d, i, o;
    var getOwn = Object.getOwnPropertyDescriptor, getProto = Object.getPrototypeOf, freeze = Object.freeze;
    function visit(o) {
      if (o !== null && !seen.has(o)) {
        seen.add(o);
        todo.push(o);
      }
    }
    for (i = 0; i < roots.length; i++) visit(roots[i]);
    while ((o = todo.pop())) {
      visit(getProto(o));
      names = ownKeys(o);
      // Most are built-in functions with a name and a length.
      for (i = names.length > 2 || typeof o !== "function" ? 0 : names.length; i < names.length; i++) {
        // A method: what bears the name of its property is no accessor's result.
        try { d = o[names[i]]; } catch (e) { d = undefined; }
        if (typeof d === "function" && d.name === names[i] && o !== global) {
          visit(d);
          continue;
        }
        d = getOwn(o, names[i]);
        if (typeof d.value === "object" || typeof d.value === "function") visit(d.value);
        if (d.get) visit(d.get);
        if (d.set) visit(d.set);
        if (o === global && d.configurable) {
          Object.defineProperty(o, names[i], "value" in d ? { writable: false, configurable: false } : { configurable: false });
        }
      }
      if (o !== global) freeze(o);
    }
  }

  function define(name, value) {
    Object.defineProperty(global, name, { value: value, writable: false, enumerable: false, configurable: false });
  }
  // underscore counts its unique ids from the start of the program; here, from the start of the call.
  if (typeof global._ === "function") {
    global._.mixin({ uniqueId: function (prefix) { return (prefix ? prefix : "") + String(++unique); } });
  }
  define("console", console);
  define("log", log);
  if (kind === "sync") {
    [channel, access, role, requireUser, requireRole, requireAccess, requireAdmin, reject, expiry].forEach(function (f) {
      define(f.name, f);
    });
  }

  if (kind === "resolver") {
    define("defaultPolicy", defaultPolicy);
    ["localPolicy", "localWinsPolicy", "localWins"].forEach(function (name) { define(name, localPolicy); });
    ["remotePolicy", "remoteWinsPolicy", "remoteWins"].forEach(function (name) { define(name, remotePolicy); });
  }

  guardArrays();
  guardStrings();
  guardJSON();
  guardRaw();
  override(Object.prototype, Object.getOwnPropertyNames(Object.prototype));
  override(Function.prototype, ["constructor", "toString", "bind", "call", "apply"]);
  override(Array.prototype, ["constructor", "toString", "join", "concat"]);
  [Error, TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError].forEach(function (e) {
    override(e.prototype, ["constructor", "toString", "name", "message"]);
  });
  var hidden = [global, [][Symbol.iterator](), ""[Symbol.iterator](), new Map()[Symbol.iterator](), new Set()[Symbol.iterator]()];
  ["function*(){}", "async function(){}", "async function*(){}", "''.matchAll(/x/g)", "Iterator.from({})",
    "[].values().map(function(){})", "Iterator.concat([])"].forEach(function (source) {
    try { hidden.push(Function("return " + source)()); } catch (e) { /* not in this engine */ }
  });
  harden(hidden);
  ownKeys(global).forEach(function (name) { known[name] = true; globals++; });
  if (!loose) Object.preventExtensions(global);

  return { sync: runSync, filter: runFilter, resolver: runResolver }[kind];
})
