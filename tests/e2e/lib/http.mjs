// HTTP calls as a backend makes them.

import { randomUUID } from 'node:crypto';

import { eventually } from './waiting.mjs';

/**
 * The calls of one caller: `token` may be left out for an anonymous one. After `patience` in ms a call is given up. Those of
 * `settled` repeat a call until its answer is final: a machine that is too busy to ask Redis in time brings about a 503,
 * which a repeat settles. What is posted must be an act: it gets a key, so that it is done once. What is put is put again.
 */
export function callerOf(url, token, patience = undefined) {
  const call = async (method, path, body, headers = {}) => {
    const response = await fetch(url + path, {
      method,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      body: isReady(body) ? body : JSON.stringify(body),
      ...(patience === undefined ? {} : { signal: AbortSignal.timeout(patience) }),
    });
    return readAnswer(response);
  };
  const settle = (method, path, body, headers) => settled(() => call(method, path, body, headers), `an answer of ${path}`);
  return {
    get: (path, headers) => call('GET', path, undefined, headers),
    post: (path, body, headers) => call('POST', path, body, headers),
    put: (path, body, headers) => call('PUT', path, body, headers),
    delete: (path, headers) => call('DELETE', path, undefined, headers),
    call,
    settled: {
      get: (path) => settle('GET', path),
      post: (path, body) => settle('POST', path, body, { 'idempotency-key': randomUUID() }),
      put: (path, body) => settle('PUT', path, body),
    },
  };
}

/** Asks until the answer is another one than 503, and gives that. */
export async function settled(ask, what) {
  return eventually(async () => {
    const answer = await ask();
    return answer.status !== 503 && answer;
  }, what);
}

/** Text and bytes are sent as they are, so that a test can send what is no JSON. */
const isReady = (body) => body === undefined || typeof body === 'string' || Buffer.isBuffer(body);

/** Status, headers, and the body both as text (digit for digit) and as JSON where it is. */
async function readAnswer(response) {
  const text = await response.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  return { status: response.status, headers: response.headers, text, body, data: body?.data };
}
