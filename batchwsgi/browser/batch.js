/**
 * A `fetch` that sends the calls of one task as one batch.
 *
 *     import { batching } from "/batch.js";
 *     const fetch = batching();
 *     const [me, orders] = await Promise.all([fetch("/user/~me"), fetch("/orders")]); // one POST
 *
 * What the batch format cannot carry faithfully goes on its own, by the real `fetch`. Nothing is sent twice that may
 * have run, unless its method is safe. Below stand the way of a call, how it is written, and how its answer is read.
 *
 * @typedef {{endpoint?: string | URL, wait?: number, maxRequests?: number, maxBytes?: number,
 *   fetch?: typeof globalThis.fetch, onBatch?: (report: {size: number, time: number, status: number}) => void}} Options
 * @typedef {{request: Request, item: Promise<string | undefined>, text?: string, resolve: (answer?: Answer) => void,
 *   reject: (reason: unknown) => void}} Call `item` becomes its `text` in the batch; without one it goes on its own
 * @typedef {{status: number, headers: Headers, body: BodyInit, problem: string}} Answer `problem`: "503 deadline"
 */

// The middleware writes its own path here: the module cannot tell it from the mount, which stands before it in URLs.
const PATH = "/batch";

// What the endpoint refuses in a uri, though a browser sends it: one of these would cost the others their batch.
const UNSENDABLE = /^.{4095}|\\|%(?![0-9a-f]{2})|^\/\/|^[^?]*(%(2f|5c|[01][0-9a-f]|7f)|\/(\.|%2e){1,2}(;|%3b))/i;
const BODY_PATIENCE = 50; // ms for the body of a `Request`, which can be a stream that does not end
const MAX_DEPTH = 29; // of JSON: the endpoint takes 32 levels, and three of them are around a body
const SAME_NUMBER = /^(?!-0$)-?(\d{1,100}|[\d.]{1,16})$/; // the endpoint takes it, and writes the same number
const TOKEN = /("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|[{}[\],]|[^\s"{}[\]:,]+/g; // of JSON; a name has its colon with it
const JSON_TYPE = /^(application\/json|[^;]*\+json)\s*(;|$)/i;
const TEXT_TYPE = /^(text\/|([^;]*\+xml|application\/(xml|(x-)?javascript|ecmascript|x-www-form-urlencoded))\s*(;|$))/i;
const OTHER_CHARSET = /(;\s*charset[\s*\d]*=\s*)(?!"?utf-?8"?\s*(?:;|$))("[^"]*"|[^;\s]*)/i; // other than UTF-8
// What the endpoint itself answers for a member: it has not run, or has an answer that cannot be had here.
const NOT_RUN = /^503 (deadline|reply-limit)$/;
const NOT_RUN_OR_NOT_HERE = /^(503 (deadline|reply-limit)|502 (too-large|offloaded)|504 timeout)$/;
const BODY_HEADERS = ["content-encoding", "content-language", "content-location", "content-type"];

/**
 * A function with the signature of `fetch`. `endpoint` is this module's own URL without ".js" if it is not given. Calls
 * are collected until the next task, or for `wait` milliseconds, and sent as batches of at most `maxRequests` calls and
 * `maxBytes` bytes. `onBatch` is told of each: how many calls, milliseconds, and the reply's status (0 if none came).
 * @param {Options} [options] @returns {typeof globalThis.fetch}
 */
export function batching(options = {}) {
  const { wait = 0, maxRequests = 20, maxBytes = 512 * 1024, fetch: real = globalThis.fetch, onBatch } = options;
  const endpoint = new Request(options.endpoint ?? import.meta.url.replace(/\.js(?=[?#]|$)/, ""));
  const { origin, pathname } = new URL(endpoint.url);
  const mount = pathname.split("/").slice(0, 1 - PATH.split("/").length).join("/");
  if (decoded(pathname) !== decoded(mount) + PATH) throw new TypeError(`${pathname} does not end with ${PATH}`);
  const refused = /** @type {Set<string>} names of headers */ (new Set());
  const queue = /** @type {Call[]} */ ([]);

  /** @type {typeof globalThis.fetch} */
  async function batchingFetch(input, init) {
    if ([FormData, Blob, ReadableStream].some((type) => init?.body instanceof type)) return real(input, init);
    const request = new Request(input, init); // takes headers and body now, and throws what `fetch` would
    const uri = request.url.slice((origin + mount).length).replace(/#.*/s, "");
    if (!canJoin(request, uri)) return real(request);
    const item = itemOf(request, uri).catch(() => undefined);
    const answer = await new Promise((/** @type {Call["resolve"]} */ resolve, reject) => {
      request.signal.addEventListener("abort", () => reject(request.signal.reason));
      if (queue.push({ request, item, resolve, reject }) === 1) setTimeout(leave, wait);
    });
    const again = ["GET", "HEAD", "OPTIONS"].includes(request.method) ? NOT_RUN_OR_NOT_HERE : NOT_RUN;
    if (!answer || again.test(answer.problem)) return real(request);
    const isRedirect = [301, 302, 303, 307, 308].includes(answer.status) && answer.headers.has("location");
    if (!isRedirect) return responseOf(request, answer);
    return dressed(await real(await redirected(request, answer)), { redirected: true });
  }

  /** Whether a batch can carry it, as far as the body is not asked. @param {Request} request @param {string} uri */
  function canJoin(request, uri) {
    const { method, headers, mode, cache, credentials, redirect, referrer, referrerPolicy } = request;
    const path = decoded(uri.replace(/\?.*/s, ""));
    return origin === self.origin && request.url.startsWith(`${origin}${mount}/`) && !UNSENDABLE.test(uri)
      && path !== undefined && path !== PATH && path !== `${PATH}.js` && method === method.toUpperCase()
      && ["cors", "same-origin"].includes(mode) && ["default", "no-store"].includes(cache) && credentials !== "omit"
      && redirect === "follow" && referrer === "about:client" && !referrerPolicy && !request.integrity
      && !request.keepalive && !request.signal.aborted && ![...headers.keys()].some((name) => refused.has(name));
  }

  /** The calls that were collected leave, in as many batches as they need. */
  async function leave() {
    const calls = queue.splice(0);
    const patience = /** @type {Promise<undefined>} */ (new Promise((end) => setTimeout(end, BODY_PATIENCE)));
    for (const call of calls) call.text = await Promise.race([call.item, patience]);
    const fits = (/** @type {Call[]} */ some) => some.length <= maxRequests && some.every(({ text }) => text)
      && new TextEncoder().encode(documentOf(some)).length <= maxBytes;
    const leaving = calls.filter(({ request }) => !request.signal.aborted);
    leaving.filter((call) => !fits([call])).forEach(({ resolve }) => resolve()); // each on its own
    const batch = /** @type {Call[]} */ ([]);
    for (const call of leaving.filter((call) => fits([call]))) {
      if (!fits([...batch, call])) send(batch.splice(0));
      batch.push(call);
    }
    send(batch);
  }

  /** @param {Call[]} calls */
  async function send(calls) {
    if (calls.length < 2) return calls.forEach(({ resolve }) => resolve()); // on its own
    const [started, control] = [performance.now(), new AbortController()];
    const abortIfAll = () => calls.every(({ request }) => request.signal.aborted) && control.abort();
    calls.forEach(({ request }) => request.signal.addEventListener("abort", abortIfAll));
    const init = { method: "POST", headers: { "Content-Type": "application/json" }, signal: control.signal };
    let status = 0;
    try {
      const reply = await real(origin + pathname, { ...init, body: documentOf(calls) });
      status = reply.status;
      const answers = answersIn(reply, await reply.arrayBuffer(), calls.length);
      calls.forEach(({ resolve }, index) => resolve(answers[index]));
    } catch (error) {
      calls.forEach(({ reject }) => reject(new TypeError("Failed to fetch", { cause: error })));
    }
    const report = { size: calls.length, time: performance.now() - started, status };
    if (onBatch) queueMicrotask(() => onBatch(report)); // what it throws changes nothing here
  }

  /** The answer to each of `count` calls; none if the batch was refused. Throws if this is no reply to one.
   * @param {Response} reply @param {ArrayBuffer} body @param {number} count @returns {Answer[]} */
  function answersIn({ status, headers }, body, count) {
    const text = new TextDecoder().decode(body);
    const problem = problemOf(headers, text);
    if ([404, 405, 411, 413, 415].includes(status) || /Nothing was executed\.$/.test(problem.detail)) {
      for (const fault of [problem.errors].flat()) {
        const name = /^\/requests\/\d+\/headers\/(.+)$/.exec(fault?.pointer)?.[1];
        if (name) refused.add(name.replaceAll("~0", "~").toLowerCase());
      }
      return [];
    }
    return status === 200 ? entriesOf(text, count) : Array(count).fill({ status, headers, body, problem: "" });
  }
  return batchingFetch;
}

/** What it returns; undefined if it throws. @template T @param {() => T} compute */
function attempt(compute) {
  try {
    return compute();
  } catch {
    return undefined;
  }
}

/** A path without percent escapes; undefined if they are not of UTF-8. @param {string} path */
const decoded = (path) => attempt(() => decodeURIComponent(path));
/** A text as a JSON string in which nothing is a reference. @param {string} text */
const quoted = (text) => JSON.stringify(text.replace(/\{(?=\$+responses\.)/g, "{$$"));
/** A problem document (RFC 9457), if this is one; else nothing. @param {Headers} headers @param {string} text */
const problemOf = (headers, text) => /^application\/problem\+json/i.test(headers.get("content-type") ?? "")
  && attempt(() => JSON.parse(text)) || {};
const bytesOf = (/** @type {string} */ latin1) => Uint8Array.from(latin1, (char) => char.charCodeAt(0));
const latin1Of = (/** @type {Uint8Array} */ bytes) => bytes.reduce((all, byte) => all + String.fromCharCode(byte), "");
const documentOf = (/** @type {Call[]} */ calls) => `{"requests":[${calls.map(({ text }) => text).join()}]}`;

/** A request's part of the document. Rejects if it can have none. @param {Request} request @param {string} uri */
async function itemOf(request, uri) {
  const { method, headers } = request;
  const lines = [...headers].map(([name, value]) => `${JSON.stringify(name)}:${quoted(value)}`);
  const body = new Uint8Array(await request.clone().arrayBuffer());
  const member = body.length ? `,"body":${valueOf(body, headers.get("content-type") ?? "")}` : "";
  return `{"method":"${method}","uri":${quoted(uri)},"headers":{${lines}}${member}}`;
}

/** The JSON text for a body of that type. Throws if there is none. @param {Uint8Array} body @param {string} type */
function valueOf(body, type) {
  if (!type || type.includes(",") || type.length > 1024) throw new Error("the endpoint does not know such a type");
  if (!JSON_TYPE.test(type) && !TEXT_TYPE.test(type)) return `"${btoa(latin1Of(body))}"`;
  if (OTHER_CHARSET.test(type)) throw new Error("this text is not UTF-8");
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  return JSON_TYPE.test(type) ? strict(text) : quoted(text);
}

/** JSON text as it is, but for what looks like a reference. Throws at what is refused. @param {string} text */
function strict(text) {
  JSON.parse(text);
  const open = /** @type {Set<string>[]} the names in each object or array around */ ([]);
  return text.replace(TOKEN, (token, string, colon) => {
    if ("{[".includes(token)) open.push(new Set());
    if ("}]".includes(token)) open.pop();
    const value = string && JSON.parse(string);
    const isTwice = colon && open[open.length - 1].has(value);
    const changes = /^[-\d]/.test(token) && !SAME_NUMBER.test(token) && String(Number(token)) !== token;
    if (isTwice || changes || open.length > MAX_DEPTH || /\p{Surrogate}/u.test(value)) throw new Error(token);
    if (colon) open[open.length - 1].add(value);
    return string && !colon && value.includes("{$") ? quoted(value) : token;
  });
}

/** The answers in a reply to `count` calls. Throws if this is none. @param {string} text @param {number} count */
function entriesOf(text, count) {
  const bodies = /** @type {string[]} as JSON, with the blanks that the application sent around it */ ([]);
  let [depth, begin, name] = [0, 0, ""];
  for (const { 0: token, 1: string, 2: colon, index } of text.matchAll(TOKEN)) {
    if ("{[".includes(token)) depth++;
    if (depth === 3 && colon) [begin, name] = [index + token.length, string]; // a member of an entry
    if (depth === 3 && ",}".includes(token) && name === '"body"') bodies.push(text.slice(begin, index));
    if ("}]".includes(token)) depth--;
  }
  const entries = /** @type {any[]} */ (JSON.parse(text).responses);
  if (entries.length !== count || bodies.length !== count) throw new TypeError("This is no reply to the batch.");
  return entries.map((entry, index) => answerOf(entry, bodies[index]));
}

/** The body becomes what the application sent; text becomes UTF-8, and its type then says so.
 * @param {any} entry @param {string} json its body */
function answerOf({ status_code: status, headers: fields, encoding }, json) {
  if (!/^[1-9]\d\d$/.test(status)) throw new TypeError(`${status} is no status.`);
  const headers = new Headers(fields);
  const [type, length] = [headers.get("content-type") ?? "", headers.get("content-length")];
  const isEmpty = json.trim() === "null" && (!JSON_TYPE.test(type) || length === "0"); // else it is the four bytes
  const text = encoding ? JSON.parse(json) : isEmpty ? "" : json;
  const bytes = encoding === "base64" ? bytesOf(atob(text)) : new TextEncoder().encode(text);
  if (encoding === "text" && OTHER_CHARSET.test(type)) {
    headers.set("content-type", type.replace(OTHER_CHARSET, "$1utf-8"));
    if (length) headers.set("content-length", `${bytes.length}`);
  }
  const coding = /** @type {any} */ (headers.get("content-encoding")?.toLowerCase()); // `fetch` undoes it
  const decoder = attempt(() => new DecompressionStream(coding));
  const body = decoder && bytes.length ? new Blob([bytes]).stream().pipeThrough(decoder) : bytes;
  const problem = `${status} ${problemOf(headers, json).type}`.replace("urn:problem-type:batchwsgi:", "");
  return { status: Number(status), headers, body, problem };
}

/** The request after a redirect (Fetch, "HTTP-redirect fetch"). @param {Request} request @param {Answer} answer */
async function redirected(request, { status, headers }) {
  // The entry shows a header's bytes as latin-1; browsers take what is not ASCII in it for UTF-8.
  const target = new URL(new TextDecoder().decode(bytesOf(headers.get("location") ?? "")), request.url);
  if (!/^https?:$/.test(target.protocol)) throw new TypeError(`Failed to fetch: a redirect to ${target.protocol}`);
  const { method, credentials, cache, mode, signal } = request;
  const becomesGet = status === 303 ? !["GET", "HEAD"].includes(method) : status < 303 && method === "POST";
  const body = await request.arrayBuffer();
  const sent = becomesGet ? { method: "GET" } : { method, body: body.byteLength ? body : null };
  const next = new Request(target, { ...sent, headers: request.headers, credentials, cache, mode, signal });
  if (becomesGet) BODY_HEADERS.forEach((name) => next.headers.delete(name));
  if (target.origin !== self.origin) next.headers.delete("authorization");
  return next;
}

/** @param {Request} request @param {Answer} answer */
function responseOf({ url, method }, { status, headers, body }) {
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
