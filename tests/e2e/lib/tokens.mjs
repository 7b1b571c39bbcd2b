// Tokens made here, from the contract alone: the server's own `slotcast token` is tested against these, not used for them.

import { createHmac } from 'node:crypto';

/** The secret of every node that the tests start. */
export const SECRET = 'the end-to-end tests share this one secret';

const base64url = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/** The current time as tokens count it: whole seconds since 1970. */
export const secondsNow = () => Math.floor(Date.now() / 1000);

/** Signs claims as they are, with an HMAC of the algorithm that `header.alg` names; `none` gets an empty signature. */
export function signToken(claims, { secret = SECRET, header = { alg: 'HS256', typ: 'JWT' } } = {}) {
  const signed = `${base64url(header)}.${base64url(claims)}`;
  const hash = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' }[header.alg];
  const signature = hash ? createHmac(hash, secret).update(signed).digest('base64url') : '';
  return `${signed}.${signature}`;
}

/** A token of a user, good for an hour unless the claims say otherwise. */
export function userToken(user, claims = {}) {
  return signToken({ id_utente: user, exp: secondsNow() + 3600, ...claims });
}

/** A token of a staff member. */
export function staffToken(role = 'gestore', claims = {}) {
  return userToken(900, { ruolo: role, ...claims });
}
