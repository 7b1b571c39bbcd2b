// HTTP calls as a backend makes them.

import { randomUUID } from 'node:crypto';

import { eventually } from './waiting.mjs';

/** The calls of one caller: `token` may be left out for an anonymous one. After `patience` in ms a call is given up. */
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
  return {
    get: (path, headers) => call('GET', path, undefined, headers),
    post: (path, body, headers) => call('POST', path, body, headers),
    put: (path, body, headers) => call('PUT', path, body, headers),
    delete: (path, headers) => call('DELETE', path, undefined, headers),
    call,
  };
}

/**
 * Posts an act until its answer is final, and gives that: what a 503 leaves open is settled by a repeat under the same key,
 * which a machine that is too busy to ask Redis in time makes necessary.
 */
export async function postUntilSettled(caller, path, body) {
  const key = { 'idempotency-key': randomUUID() };
  return eventually(async () => {
    const answer = await caller.post(path, body, key);
    return answer.status !== 503 && answer;
  }, `an answer of ${path}`);
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
