// In place of engine.io-client's reader of addresses: those that it reads have a scheme and a host, which every browser reads.

export function parse(source) {
  const { protocol, hostname, port, pathname: path, searchParams, search } = new URL(source);
  const [host, query, queryKey] = [hostname.replace(/[[\]]/g, ''), search.slice(1), Object.fromEntries(searchParams)];
  return { source, protocol: protocol.slice(0, -1), host, port, path, query, queryKey };
}
