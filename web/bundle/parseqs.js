// In place of engine.io-client's reader and writer of queries.

export const encode = (query) => Object.entries(query).map((pair) => pair.map(encodeURIComponent).join('=')).join('&');

export const decode = (text) => Object.fromEntries(new URLSearchParams(text));
