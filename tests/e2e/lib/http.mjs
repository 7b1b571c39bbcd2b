// HTTP calls as a backend makes them.

import { randomUUID } from 'node:crypto';

import { eventually } from './waiting.mjs';

/**
 * The calls of one caller; without a `token` the caller is anonymous. A call is given up after `patience` ms. The calls of
 * `settled` are repeated until their answer is final: a machine that is too busy to ask Redis in time causes a 503, and a
 * repeat settles it. A POST must be an act: it gets a key, so that it is done once. So does `putOnce`, which sets slots. A PUT is
 * simply made again, and so is a DELETE, which must be a trial.
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
      putOnce: (path, body) => settle('PUT', path, body, { 'idempotency-key': randomUUID() }),
      delete: (path) => settle('DELETE', path),
    },
  };
}

/** Asks until the answer is not 503, and returns it. */
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
