// Microsoft's client of Graph: BatchRequestContent and BatchResponseContent.
"use strict";

// The client reads bodies that are not JSON with what browsers have and node has not.
globalThis.FileReader = class extends EventTarget {
  async readAsDataURL(blob) {
    const base64 = Buffer.from(await blob.arrayBuffer()).toString("base64");
    this.result = `data:${blob.type};base64,${base64}`;
    this.dispatchEvent(new Event("load"));
  }
};

const {
  BatchRequestContent,
  BatchResponseContent,
  Client,
} = require("@microsoft/microsoft-graph-client");

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// One batch of `steps`: {id, method, headers, body, dependsOn}, and path, below `/v1.0`, or url.
async function batch(url, steps, headers = {}) {
  const client = Client.init({
    baseUrl: `${url}/`,
    defaultVersion: "v1.0",
    authProvider: (done) => done(null, "a token"),
  });
  const content = new BatchRequestContent(
    steps.map(({ id, path, url: whole, dependsOn, body, ...options }) => {
      if (typeof body === "object") {
        body = JSON.stringify(body);
        options.headers = { "Content-Type": "application/json", ...options.headers };
      }
      if (typeof body === "string" && options.headers["Content-Type"] === "image/png") {
        body = Buffer.from(body, "base64");
      }
      const request = new Request(whole ?? `${url}/v1.0${path}`, { body, ...options });
      return { id, dependsOn, request };
    }),
  );
  let answer;
  try {
    answer = await client.api("/$batch").headers(headers).post(await content.getContent());
  } catch (error) {
    return { error: error.name, status: error.statusCode, code: error.code, message: error.message };
  }
  const replies = new BatchResponseContent(answer);
  const seen = {};
  for (const { id } of steps) {
    const reply = replies.getResponseById(id);
    const text = await reply.text();
    seen[id] = { status: reply.status, headers: Object.fromEntries(reply.headers), text };
    if ((reply.headers.get("Content-Type") ?? "").includes("json")) {
      seen[id].json = parsed(text);
    }
  }
  return seen;
}

module.exports = { batch };
