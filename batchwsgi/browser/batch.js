/**
 * A `fetch` that sends the calls of one task as one batch.
 *
 *     import { batching } from "/batch.js";
 *     const fetch = batching();
 *     const [me, orders] = await Promise.all([fetch("/user/~me"), fetch("/orders")]); // one POST
 *
 * What the batch format cannot carry faithfully goes on its own, by the real `fetch`. Nothing is sent twice that may
 * have run. First what becomes of a call and of a batch, then how a call is written, then how a reply is read.
 *
 * @typedef {{size: number, time: number, status: number}} Report `time` in ms; `status` is 0 if there was no answer
 * @typedef {{endpoint?: string | URL, wait?: number, maxRequests?: number, maxBytes?: number,
 *   fetch?: typeof globalThis.fetch, onBatch?: (report: Report) => void}} Options
 * @typedef {{request: Request, body?: ArrayBuffer, item?: string, read?: Promise<void>, reject: (reason: any) => void,
 *   resolve: (response: Response | Promise<Response>) => void}} Call `item` is its part of the document, if it has one
 * @typedef {{status: number, headers: Headers, encoding?: string, body: string}} Entry `body` as JSON text
 */

// The middleware writes its own path here: the module cannot tell the mount from its URL otherwise.
const PATH = "/batch";

const [MAX_DEPTH, MAX_DIGITS, MAX_URI] = [29, 100, 4094]; // the endpoint's; a body is three levels down of its 32
const BODY_PATIENCE = 50; // ms for the body of a `Request`, which can be a stream that does not end
const FRAME = '{"requests":[]}'.length - 1; // each item is counted with a comma, and the first has none
const SAFE = ["GET", "HEAD", "OPTIONS"];
const BODY_HEADERS = ["content-encoding", "content-language", "content-location", "content-type"];
// What the endpoint refuses in a uri, though a browser sends it: one of these would cost the others their batch.
const UNSENDABLE = /\\|%(?![0-9a-f]{2})|^\/\/|^[^?]*%(2f|5c|[01][0-9a-f]|7f)/i;
const TEXT_TYPE = /^(text\/.*|.*\+xml|application\/(xml|(x-)?javascript|ecmascript|x-www-form-urlencoded))$/;
const JSON_TYPE = /^\s*(application\/json|[^;]*\+json)\s*(;|$)/i;
const TOKEN = /("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|[{}[\],]|[^\s"{}[\]:,]+/g; // a name has its colon with it

/**
 * A function with the signature of `fetch`. `endpoint` is this module's own URL without ".js" if it is not given; its
 * path has to end with the middleware's, for what stands before that is the mount.
 * @param {Options} [options] @returns {typeof globalThis.fetch}
 */
export function batching(options = {}) {
  const { wait = 0, maxRequests = 20, maxBytes = 512 * 1024, fetch: real = globalThis.fetch, onBatch } = options;
  const endpoint = new URL(options.endpoint ?? import.meta.url.replace(/\.js(?=[?#]|$)/, ""), location.href);
  endpoint.search = endpoint.hash = "";
  const base = endpoint.origin + mountOf(endpoint.pathname);
  const uriOf = (/** @type {Request} */ { url }) => url.slice(base.length).replace(/#.*/s, "");
  const refused = /** @type {Set<string>} names of headers */ (new Set());
  let queue = /** @type {Call[]} */ ([]);

  /** @type {typeof globalThis.fetch} */
  async function batchingFetch(input, init) {
    if ([FormData, Blob, ReadableStream].some((type) => init?.body instanceof type)) return real(input, init);
    const request = attempt(() => new Request(input, init)); // takes headers and body now
    if (!request || !joins(request)) return real(request ?? input, request ? undefined : init);
    return new Promise((resolve, reject) => add({ request, resolve, reject }));
  }
  /** Whether a batch can carry it, as far as that is known before its body is read. @param {Request} request */
  function joins(request) {
    const { url, method, headers, mode, cache, credentials, redirect, referrer, referrerPolicy } = request;
    const uri = uriOf(request);
    const own = decoded(new URL(url).pathname).replace(/\.js$/, "") === decoded(endpoint.pathname);
    return url.startsWith(`${base}/`) && endpoint.origin === location.origin && !own
      && uri.length <= MAX_URI && !UNSENDABLE.test(uri) && method === method.toUpperCase()
      && ![...headers.keys()].some((name) => refused.has(name)) && ["cors", "same-origin"].includes(mode)
      && ["default", "no-store"].includes(cache) && credentials !== "omit" && redirect === "follow"
      && referrer === "about:client" && !referrerPolicy && !request.integrity && !request.keepalive
      && !request.signal.aborted;
  }
  /** @param {Call} call */
  function add(call) {
    const { request, reject } = call;
    request.signal.addEventListener("abort", () => reject(request.signal.reason));
    call.read = request.arrayBuffer().then((body) => {
      const item = body.byteLength <= maxBytes ? itemOf(request, uriOf(request), body) : undefined;
      Object.assign(call, { body, item });
    }).catch(reject);
    if (queue.push(call) === 1) setTimeout(leave, wait);
  }
  /** The calls that were collected leave, in as many batches as they need. */
  async function leave() {
    const calls = queue;
    queue = [];
    const patience = new Promise((resolve) => setTimeout(resolve, BODY_PATIENCE));
    await Promise.race([Promise.all(calls.map(({ read }) => read)), patience]);
    let [batch, size] = [/** @type {Call[]} */ ([]), FRAME];
    for (const call of calls.filter(({ request }) => !request.signal.aborted)) {
      const added = call.item ? new TextEncoder().encode(call.item).length + 1 : Infinity;
      const fits = FRAME + added <= maxBytes;
      if (fits && (batch.length >= maxRequests || size + added > maxBytes)) {
        send(batch);
        [batch, size] = [[], FRAME];
      }
      if (fits) {
        batch.push(call);
        size += added;
      } else call.read?.then(() => alone(call));
    }
    send(batch);
  }
  /** Let a call go by the real `fetch`. @param {Call} call */
  const alone = ({ request, body, resolve }) =>
    resolve(real(request.bodyUsed ? new Request(request, { body }) : request));
  /** Send one batch, and settle its calls. @param {Call[]} calls */
  async function send(calls) {
    if (calls.length < 2) return calls.forEach(alone);
    const [started, control] = [performance.now(), new AbortController()];
    const signals = calls.map(({ request }) => request.signal);
    const abortIfAll = () => signals.every(({ aborted }) => aborted) && control.abort();
    signals.forEach((signal) => signal.addEventListener("abort", abortIfAll));
    const body = `{"requests":[${calls.map(({ item }) => item).join()}]}`;
    const init = { method: "POST", headers: { "Content-Type": "application/json" }, body, signal: control.signal };
    let status = 0;
    try {
      const outer = await real(endpoint.href, init);
      status = outer.status;
      settle(calls, outer, await outer.arrayBuffer());
    } catch (error) {
      calls.forEach(({ reject }) => reject(new TypeError("Failed to fetch", { cause: error })));
    }
    const report = { size: calls.length, time: performance.now() - started, status };
    if (onBatch) queueMicrotask(() => onBatch(report)); // what it throws changes nothing here
  }
  /** @param {Call[]} calls @param {Response} outer @param {ArrayBuffer} content */
  function settle(calls, { status, headers }, content) {
    const text = new TextDecoder().decode(content);
    const problem = problemOf(headers, text);
    if ([404, 405, 411, 413, 415].includes(status) || /Nothing was executed\.$/.test(problem.detail)) {
      for (const { pointer } of problem.errors ?? []) {
        const name = /^\/requests\/\d+\/headers\/(.+)$/.exec(pointer)?.[1];
        if (name) refused.add(name.replaceAll("~1", "/").replaceAll("~0", "~").toLowerCase());
      }
      calls.forEach(alone);
    } else if (status === 200) {
      const entries = entriesOf(text, calls.length);
      calls.forEach((call, index) => settleOne(call, entries[index]));
    } else {
      calls.forEach(({ request, resolve }) => resolve(responseOf(request, status, headers, content)));
    }
  }
  /** @param {Call} call @param {Entry} entry */
  function settleOne(call, entry) {
    const { status, headers } = entry;
    const why = `${status} ${problemOf(headers, entry.body).type}`.replace("urn:problem-type:batchwsgi:", "");
    const isSafe = SAFE.includes(call.request.method);
    if (["503 deadline", "503 reply-limit"].includes(why) || (why === "502 too-large" && isSafe)) alone(call);
    else if ([301, 302, 303, 307, 308].includes(status) && headers.has("location")) call.resolve(follow(call, entry));
    else call.resolve(responseOf(call.request, status, headers, bytesOf(entry)));
  }
  /** Follow a redirect (Fetch standard, "HTTP-redirect fetch"). @param {Call} call @param {Entry} entry */
  async function follow({ request, body }, { status, headers }) {
    // The entry shows a header's bytes as latin-1; browsers take what is not ASCII in it for UTF-8.
    const location = Uint8Array.from(headers.get("location") ?? "", (char) => char.charCodeAt(0));
    const target = new URL(new TextDecoder().decode(location), request.url);
    if (!/^https?:$/.test(target.protocol)) throw new TypeError(`Failed to fetch: a redirect to ${target.protocol}`);
    const { method, credentials, cache, mode, signal } = request;
    const becomesGet = status === 303 ? !["GET", "HEAD"].includes(method) : status < 303 && method === "POST";
    const kept = new Headers(request.headers);
    if (becomesGet) BODY_HEADERS.forEach((name) => kept.delete(name));
    if (target.origin !== endpoint.origin) kept.delete("authorization");
    const content = becomesGet || !body?.byteLength ? null : body;
    const same = { headers: kept, credentials, cache, mode, signal };
    const again = new Request(target, { ...same, method: becomesGet ? "GET" : method, body: content });
    return dressed(await real(again), { redirected: true });
  }
  return batchingFetch;
}

/** What stands before the middleware's path in the endpoint's. @param {string} path */
function mountOf(path) {
  const segments = path.split("/");
  const own = segments.splice(1 - PATH.split("/").length).join("/");
  if (`/${decoded(own)}` !== PATH) throw new TypeError(`batching: the endpoint ${path} does not end with ${PATH}`);
  return segments.join("/");
}

/** What it returns; undefined if it throws. @template T @param {() => T} compute */
function attempt(compute) {
  try {
    return compute();
  } catch {
    return undefined;
  }
}

/** A path without percent escapes. @param {string} path */
const decoded = (path) => attempt(() => decodeURIComponent(path)) ?? path;

/** Its part of the document, if it can be. @param {Request} request @param {string} uri @param {ArrayBuffer} body */
function itemOf({ method, headers }, uri, body) {
  const lines = [...headers].map(([name, value]) => `${JSON.stringify(name)}:${quoted(value)}`);
  const value = body.byteLength ? valueOf(headers.get("content-type") ?? "", body) : "";
  const member = value && `,"body":${value}`;
  return member === undefined ? member : `{"method":"${method}","uri":${quoted(uri)},"headers":{${lines}}${member}}`;
}

/** The JSON text that stands for a body of that type, if any can. @param {string} type @param {ArrayBuffer} body */
function valueOf(type, body) {
  const [essence, ...parameters] = type.toLowerCase().split(";").map((part) => part.trim());
  if (!essence || type.includes(",") || type.length > 1024) return undefined;
  const bytes = new Uint8Array(body);
  const isJSON = JSON_TYPE.test(type);
  const latin1 = () => bytes.reduce((text, byte) => text + String.fromCharCode(byte), "");
  if (!isJSON && !TEXT_TYPE.test(essence)) return JSON.stringify(btoa(latin1()));
  if (parameters.some((part) => /^charset/.test(part) && !/^charset="?utf-?8"?$/.test(part))) return undefined;
  const text = attempt(() => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  return text === undefined ? text : isJSON ? attempt(() => strict(text)) : quoted(text);
}

/** A text as a JSON string in which nothing is a reference. @param {string} text */
const quoted = (text) => JSON.stringify(text.replace(/\{(?=\$+responses\.)/g, "{$$"));

/** JSON text as it is, but for what looks like a reference. Throws at what is refused. @param {string} text */
function strict(text) {
  JSON.parse(text);
  const open = /** @type {Set<string>[]} the names in each object or array around */ ([]);
  return text.replace(TOKEN, (token, string, colon) => {
    if ("{[".includes(token) && open.push(new Set()) > MAX_DEPTH) throw new Error("too many levels");
    if ("}]".includes(token)) open.pop();
    if (/^[-\d]/.test(token) && !isExact(token)) throw new Error("a number that is refused, or would change");
    if (!string) return token;
    const value = JSON.parse(string);
    if (/\p{Surrogate}/u.test(value)) throw new Error("a lone surrogate");
    if (!colon) return value.includes("{$") ? quoted(value) : token;
    if (open[open.length - 1].has(value)) throw new Error("a name stands twice");
    open[open.length - 1].add(value);
    return token;
  });
}

/** Whether the endpoint takes a number and writes the same one. @param {string} number */
function isExact(number) {
  const digits = number.replace(/\D/g, "").length;
  if (/^-?\d+$/.test(number)) return digits <= MAX_DIGITS && number !== "-0";
  return Number.isFinite(Number(number)) && (digits <= 15 || String(Number(number)) === number);
}

/** The members of a problem document, if it is one. @param {Headers} headers @param {string} text */
function problemOf(headers, text) {
  const isProblem = /^application\/problem\+json/i.test(headers.get("content-type") ?? "");
  return (isProblem && attempt(() => JSON.parse(text))) || {};
}

/** The entries of a reply to `count` calls; throws if it is none. @param {string} text @param {number} count */
function entriesOf(text, count) {
  const responses = /** @type {Record<string, any>[]} */ (JSON.parse(text).responses);
  const bodies = bodiesOf(text);
  if (responses.length !== count || bodies.length !== count) throw new TypeError("This is no reply to the batch.");
  return responses.map(({ status_code, headers, encoding }, index) => {
    if (!/^[1-9]\d\d$/.test(status_code)) throw new TypeError(`${status_code} is no status.`);
    return { status: Number(status_code), headers: new Headers(headers), encoding, body: bodies[index] };
  });
}

/** The JSON text of each entry's body, with the blanks that the application sent around it. @param {string} text */
function bodiesOf(text) {
  const bodies = [];
  let [depth, begin] = [0, -1];
  for (const { 0: token, 1: string, 2: colon, index = 0 } of text.matchAll(TOKEN)) {
    if ("{[".includes(token)) depth++;
    if (depth === 3 && begin >= 0 && ",}".includes(token)) {
      bodies.push(text.slice(begin, index));
      begin = -1;
    }
    if (depth === 3 && colon && string === '"body"') begin = index + token.length; // an entry's own, not one inside
    if ("}]".includes(token)) depth--;
  }
  return bodies;
}

/** The body as the application sent it; text becomes UTF-8, and `headers` then say so. @param {Entry} entry */
function bytesOf({ headers, encoding, body }) {
  const type = headers.get("content-type") ?? "";
  if (encoding === "base64") return Uint8Array.from(atob(JSON.parse(body)), (char) => char.charCodeAt(0));
  // An empty body is null too, but that of JSON is four bytes.
  const isEmpty = body.trim() === "null" && (!JSON_TYPE.test(type) || headers.get("content-length") === "0");
  const bytes = new TextEncoder().encode(encoding === "text" ? JSON.parse(body) : isEmpty ? "" : body);
  const charset = /(;\s*charset\s*=\s*)("[^"]*"|[^;\s]*)/i;
  if (encoding === "text" && !/^("?)utf-?8\1$/i.test(charset.exec(type)?.[2] ?? "utf-8")) {
    headers.set("content-type", type.replace(charset, "$1utf-8"));
    if (headers.has("content-length")) headers.set("content-length", `${bytes.length}`);
  }
  return bytes;
}

/** @param {Request} request @param {number} status @param {Headers} headers @param {BodyInit} body */
function responseOf({ url, method }, status, headers, body) {
  const content = method === "HEAD" || [204, 205, 304].includes(status) ? null : body;
  const plain = status >= 200 && status <= 599 ? status : 200; // `Response` takes no others
  const own = { status, ok: status >= 200 && status <= 299, url: url.replace(/#.*/s, ""), type: "basic" };
  return dressed(new Response(content, { status: plain, headers }), { ...own, redirected: false });
}

/** A response that says these things of itself, and whose clones do. @param {Response} response @param {object} own */
function dressed(response, own) {
  const clone = () => dressed(Response.prototype.clone.call(response), own);
  for (const [name, value] of Object.entries({ ...own, clone })) Object.defineProperty(response, name, { value });
  return response;
}
