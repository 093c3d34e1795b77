// o.js: batches of OData 4, as multipart.
"use strict";

const { o } = require("o.js");

// One batch of `requests`: [method, url, body]. `config` is the client's own, for batches.
async function batch(url, requests, config = {}, headers = {}) {
  const client = o(`${url}/odata/`, {
    headers: new Headers({ "Content-Type": "application/json", ...headers }),
  });
  Object.assign(client.config.batch, config);
  for (const [method, resource, body] of requests) {
    client[method](resource, body);
  }
  try {
    return await client.batch();
  } catch (reply) {
    return { refused: reply.status, text: await reply.text() };
  }
}

module.exports = { batch };
