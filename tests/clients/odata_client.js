// @odata/client: batches of OData 2 and 4, as multipart and as JSON.
"use strict";

const { OData } = require("@odata/client");

const CLIENTS = {
  v2: (url) => OData.New({ serviceEndpoint: `${url}/sap/` }),
  "sap-gateway": (url) =>
    OData.New({ serviceEndpoint: `${url}/sap/`, variant: "sap-gateway" }),
  v4: (url) => OData.New4({ serviceEndpoint: `${url}/odata/` }),
};

// What the client makes of one reply.
async function seen(reply) {
  const text = await reply.text();
  let json = null;
  try {
    json = await reply.json();
  } catch {
    // It has none.
  }
  return { status: reply.status, statusText: reply.statusText, headers: reply.headers, text, json };
}

// One batch of `requests`, which are the client's own options; `how` is multipart or json.
async function batch(url, version, how, requests, headers = {}) {
  const client = CLIENTS[version](url);
  Object.assign(client.commonHeader, headers);
  const made = requests.map((request) => client.newBatchRequest(request));
  const execute = { multipart: "execBatchRequests", json: "execBatchRequestsJson" }[how];
  let replies;
  try {
    replies = await client[execute](made);
  } catch (error) {
    return { error: error.name, message: error.message };
  }
  return Promise.all(replies.map(seen));
}

module.exports = { batch };
