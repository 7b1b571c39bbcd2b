// The platform files of infra/: their processes are started here, as written, with the platform's environment. Each
// process passes its own health check, serves stock clients, drains on the platform's signal within its time, and what
// sweeps frees a hold that ran out. Ports are free ones, and the Redis is a local one with the settings of the file.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { parse as parseYaml } from 'yaml';

import { TRANSPORTS } from './lib/client.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { callerOf } from './lib/http.mjs';
import {
  CADDY, INFRA, PlatformProcess, connectClient, readCompose, readFly, readRender, renderEnvironment, run, splitWords,
  withFreePorts,
} from './lib/platforms.mjs';
import { freePort } from './lib/ports.mjs';
import { startHttpProxy } from './lib/proxy.mjs';
import { serves, startRedis } from './lib/redis_server.mjs';
import { PROBE_MS, killAtExit, temporaryFolder } from './lib/slotcast.mjs';
import { STALLED } from './lib/stalls.mjs';
import { SECRET, staffToken, userToken } from './lib/tokens.mjs';
import { eventually, within } from './lib/waiting.mjs';

/** The environment that a platform gives to every process. */
const RENDER = { RENDER: 'true', RENDER_INSTANCE_ID: 'srv-1-abcde', RENDER_DISCOVERY_SERVICE: 'slotcast-discovery' };
const FLY = { FLY_APP_NAME: 'slotcast', FLY_MACHINE_ID: '148ed', FLY_REGION: 'fra', FLY_PRIVATE_IP: '::1' };

const compose = readCompose({ JWT_SECRET: SECRET, GRAFANA_PASSWORD: SECRET, VALKEY_PASSWORD: 'a-password' });
const render = readRender();
const fly = readFly();
const flyValkey = readFly('fly.valkey.toml');

const serviceOf = (type) => render.services.find((service) => service.type === type);

/** The options of a Redis from the words that start it, without its address and folder. */
function optionsOf(words) {
  const options = {};
  for (let index = 1; index < words.length; index += 2) options[words[index].replace(/^--/, '')] = words[index + 1];
  return options;
}

/** The Redis of each platform, as similar as possible. */
const stores = {
  compose: () => {
    // The test library sends no password, so this Redis has none. The password of the file is checked below.
    const { requirepass: _, ...options } = optionsOf(compose.services.valkey.command);
    return startRedis({ options });
  },
  render: () => startRedis({ options: { 'maxmemory-policy': serviceOf('keyvalue').maxmemoryPolicy } }),
  fly: startFlyValkey,
};

/** Runs the command of fly.valkey.toml, where `valkey-server` is the Redis of this machine, on a free port. */
async function startFlyValkey() {
  const [port, folder, password] = [await freePort(), temporaryFolder(), 'a-password-of-fly'];
  const line = flyValkey.processes.valkey.replace('--port 6379', `--port ${port}`).replace('--dir /data', `--dir ${folder}`);
  assert.ok(line.includes(String(port)) && line.includes(folder), line);
  const programs = join(temporaryFolder(), 'bin');
  mkdirSync(programs);
  const found = process.env.PATH.split(':').map((path) => join(path, 'redis-server')).find(existsSync);
  symlinkSync(found, join(programs, 'valkey-server'));
  const [program, ...args] = splitWords(line);
  const environment = { PATH: `${programs}:${process.env.PATH}`, VALKEY_PASSWORD: password };
  const child = spawn(program, args, { env: environment, stdio: 'ignore' });
  const forget = killAtExit(child);
  const exited = new Promise((done) => child.once('exit', done));
  await eventually(() => serves(child, port, password), 'an answer of the store of fly.valkey.toml');
  return {
    url: `redis://default:${password}@localhost:${port}`,
    async kill() {
      child.kill(flyValkey.kill_signal);
      await within(exited, 'the end of the store');
      forget();
    },
  };
}

/** Each process of each platform: its words, its environment with a store, and the platform's health check and signals. */
const platforms = {
  compose: {
    signal: compose.services['node-1'].stop_signal,
    seconds: parseInt(compose.services['node-1'].stop_grace_period, 10),
    path: '/readyz',
    nodes: ['node-1', 'node-2', 'node-3'].map((name) => (url) => ({
      words: compose.services[name].command,
      environment: { ...compose.services[name].environment, REDIS_URL: url },
    })),
  },
  render: {
    signal: 'SIGTERM',
    seconds: serviceOf('web').maxShutdownDelaySeconds,
    path: serviceOf('web').healthCheckPath,
    nodes: range(1, serviceOf('web').numInstances).map(() => (url) => renderProcess(serviceOf('web'), url)),
    sweep: (url) => renderProcess(serviceOf('cron'), url),
  },
  fly: {
    signal: fly.kill_signal,
    seconds: fly.kill_timeout,
    path: fly.http_service.checks[0].path,
    nodes: range(1, fly.http_service.min_machines_running).map(() => (url) => flyProcess('web', url)),
    sweep: (url) => flyProcess('sweep', url),
  },
};

function renderProcess(service, url) {
  const values = { 'slotcast-store.connectionString': url, JWT_SECRET: SECRET, CORS_ORIGIN: 'https://www.example.org' };
  const environment = { ...RENDER, RENDER_SERVICE_NAME: service.name, ...renderEnvironment(service, values) };
  return { words: splitWords(service.dockerCommand), environment };
}

function flyProcess(group, url) {
  const environment = { ...FLY, FLY_PROCESS_GROUP: group, ...fly.env, REDIS_URL: url, JWT_SECRET: SECRET };
  return { words: splitWords(fly.processes[group]), environment };
}

/** Starts the nodes of a platform, and waits until each passes the platform's health check. `more` overrides settings. */
async function startNodes(platform, url, more = {}) {
  const start = async (of) => {
    const { words, environment } = of(url);
    const node = new PlatformProcess(words, await withFreePorts({ ...environment, ...more }));
    await node.healthy(platform.path);
    return node;
  };
  return Promise.all(platform.nodes.map(start));
}

/** Registers a space, because in production only registered spaces exist. */
async function registeredSpace(node) {
  const space = freshSpace();
  const schedule = { name: 'Sala', opens: '09:00', closes: '18:00', slotMinutes: 60 };
  const answer = await callerOf(node.url, staffToken()).settled.put(space.path, schedule);
  assert.equal(answer.status, 200, answer.text);
  return space;
}

for (const [name, platform] of Object.entries(platforms)) {
  test(`${name}: check-config finds nothing, for each process`, async (t) => {
    const store = await stores[name]();
    t.after(() => store.kill());
    const processes = [...platform.nodes, ...(platform.sweep ? [platform.sweep] : [])];
    for (const of of processes) {
      const { words, environment } = of(store.url);
      // A process that only sweeps checks no tokens, so it needs no keys.
      const purpose = words.includes('sweep') ? ['--for', 'sweep'] : [];
      const { code, stdout } = await run([words[0], 'check-config', ...purpose], environment);
      assert.equal(code, 0, stdout);
      // Prometheus comes from another container, to a port that no file publishes.
      const isOpen = /^(0\.0\.0\.0|\[::\]):/.test(environment.SLOTCAST_ADMIN_ADDR ?? '') && purpose.length === 0;
      const found = stdout.split('\n').filter((line) => /^(warning|error):/.test(line));
      assert.deepEqual(found.map((line) => line.split(' ')[1]), isOpen ? ['SLOTCAST_ADMIN_ADDR'] : [], stdout);
    }
  });

  test(`${name}: its nodes pass their health check, serve stock clients, and drain on ${platform.signal} in time`, async (t) => {
    const store = await stores[name]();
    t.after(() => store.kill());
    const nodes = await startNodes(platform, store.url);
    const proxy = await startHttpProxy(() => nodes.filter(({ exit }) => !exit).map(({ port }) => port));
    t.after(() => proxy.close());
    const space = await registeredSpace(nodes[0]);
    for (const node of nodes) {
      const probe = await run([node.words[0], 'healthcheck', '--path', platform.path], node.environment);
      assert.deepEqual({ code: probe.code, stderr: probe.stderr }, { code: 0, stderr: '' });
      const metrics = await (await fetch(`http://127.0.0.1:${node.adminPort}${fly.metrics.path}`)).text();
      assert.match(metrics, /^slotcast_build_info/m);
    }

    // Clients of each transport connect without sticky sessions, so nodes must know each other's addresses.
    const clients = [];
    for (const transports of Object.values(TRANSPORTS)) {
      for (const _ of nodes) clients.push(await connectClient(proxy.url, freshNumber(), { transports }));
    }
    t.after(() => clients.forEach((client) => client.close()));
    for (const client of clients) await client.join(space);
    const held = await clients[0].callUntilSettled('hold_slot', space.event({ slots: [3] }));
    assert.equal(held.ok, true, JSON.stringify(held));
    for (const client of clients) {
      assert.equal((await client.first('slot_update')).version, held.version);
      assert.deepEqual(client.disconnects, []);
    }

    const [first, ...others] = nodes;
    const left = await first.leave(platform.signal);
    assert.deepEqual(left.exit, { code: 0, signal: null }, first.output.stderr.slice(-2000));
    assert.ok(left.took < platform.seconds * 1_000, `${left.took} ms`);
    const gone = await run([first.words[0], 'healthcheck'], first.environment);
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /no node answers/);
    // All clients come back on the nodes that stay.
    await eventually(() => clients.every(({ socket }) => socket.connected), 'all clients connected again');
    const booked = await callerOf(others[0].url, staffToken()).settled.put('/api/slots/5', space.body({ status: 'booked' }));
    assert.equal(booked.status, 200, booked.text);
    const ends = await Promise.all(others.map((node) => node.leave(platform.signal)));
    for (const { exit, took } of ends) {
      assert.deepEqual(exit, { code: 0, signal: null });
      assert.ok(took < platform.seconds * 1_000, `${took} ms`);
    }
  });

  if (!platform.sweep) continue;
  test(`${name}: what sweeps frees a hold that ran out, while no node does`, async (t) => {
    const store = await stores[name]();
    t.after(() => store.kill());
    const [node] = await startNodes({ ...platform, nodes: platform.nodes.slice(0, 1) }, store.url, { SLOT_TIMER_INTERVAL: '0' });
    const space = await registeredSpace(node);
    const client = await node.connect(freshNumber());
    t.after(() => client.close());
    await client.join(space);
    const user = callerOf(node.url, userToken(1));
    const held = await user.settled.post('/api/slots/3/hold', space.body({ holdSeconds: 1 }));
    assert.equal(held.status, 200, held.text);
    await eventually(async () => {
      const board = await user.settled.get(space.boardPath());
      return board.data.slots[2].status === 'available';
    }, 'the end of the hold');
    assert.deepEqual(client.all('slots_freed'), [], 'nobody has swept yet');

    const { words, environment } = platform.sweep(store.url);
    // The process of a cron job ends by itself; a process that stays ends when it is told to. A sweep fails where the store
    // does not answer in time, and the holds that it has freed are in no report: the next sweep does the rest.
    const stays = words.includes('--every');
    const sweepers = [];
    const hasFailed = () => sweepers.some(({ output }) => /the sweep failed/.test(output.stderr) && STALLED.test(output.stderr));
    const sweep = async () => {
      const sweeper = new PlatformProcess(words, environment);
      sweepers.push(sweeper);
      if (!stays) await within(sweeper.exited, 'the end of the sweep');
      return sweeper;
    };
    let sweeper = await sweep();
    while (!stays && sweeper.exit.code !== 0 && STALLED.test(sweeper.output.stderr)) sweeper = await sweep();
    const freed = await client.first('slots_freed');
    assert.equal(freed.count, 1);
    assert.deepEqual(freed.spaces[0].slots, [3]);
    const exit = stays ? (await sweeper.leave(platform.signal)).exit : sweeper.exit;
    assert.deepEqual(exit, { code: 0, signal: null }, sweeper.output.stderr);
    const reports = sweeper.output.stdout.trim().split('\n').map((line) => JSON.parse(line));
    const sum = reports.reduce((total, report) => total + report.freed, 0);
    assert.ok(sum === 1 || (sum === 0 && hasFailed()), sweeper.output.stdout);
    await node.leave(platform.signal);
  });
}

test('compose: a stock client goes through the proxy of the file by each way, also when a node leaves', async (t) => {
  const store = await stores.compose();
  t.after(() => store.kill());
  const nodes = await startNodes(platforms.compose, store.url);
  t.after(() => Promise.all(nodes.filter(({ exit }) => !exit).map((node) => node.leave('SIGTERM'))));
  const proxy = await startCaddy(nodes);
  t.after(() => proxy.end());
  const space = await registeredSpace(nodes[0]);
  const clients = [];
  for (const transports of Object.values(TRANSPORTS)) {
    for (const _ of nodes) clients.push(await connectClient(proxy.url, freshNumber(), { transports }));
  }
  t.after(() => clients.forEach((client) => client.close()));
  for (const client of clients) await client.join(space);
  const acts = callerOf(proxy.url, staffToken());
  const put = async (slot) => {
    const answer = await acts.settled.put(`/api/slots/${slot}`, space.body({ status: 'blocked' }));
    assert.equal(answer.status, 200, answer.text);
    return answer.data.version;
  };
  let version;
  for (const slot of range(1, 9)) version = await put(slot);
  for (const client of clients) {
    await client.first('slot_update', (update) => update.version === version);
    assert.deepEqual([...client.disconnects, ...client.refusals], []);
  }

  const leaving = nodes[0].leave('SIGTERM');
  // Acts go on through the drain. The proxy learns of it within a second; what meets the leaving node until then may be
  // answered 503, and is repeated, which is safe.
  const putAgain = (slot) => eventually(async () => {
    const answer = await acts.put(`/api/slots/${slot}`, space.body({ status: 'available' }));
    assert.ok([200, 503].includes(answer.status), `${answer.status} ${answer.text}`);
    return answer.status === 200;
  }, 'an act during the drain');
  for (const slot of range(1, 9)) await putAgain(slot);
  assert.deepEqual((await leaving).exit, { code: 0, signal: null });
  await eventually(() => clients.every(({ socket }) => socket.connected), 'all clients connected again');
  for (const slot of range(1, 9)) version = await put(slot);
});

/** Caddy with the file's configuration, on a free port, in front of nodes. */
async function startCaddy(nodes) {
  const port = await freePort();
  const environment = {
    HOME: temporaryFolder(),
    SITE_ADDRESS: `:${port}`,
    NODES: nodes.map((node) => `127.0.0.1:${node.port}`).join(' '),
  };
  const args = ['run', '--config', join(INFRA, 'proxy/Caddyfile'), '--adapter', 'caddyfile'];
  const child = spawn(CADDY, args, { env: environment, stdio: ['ignore', 'ignore', 'pipe'] });
  const forget = killAtExit(child);
  let log = '';
  child.stderr.on('data', (chunk) => {
    log += chunk;
  });
  const exited = new Promise((done, failed) => {
    child.once('error', failed);
    child.once('exit', done);
  });
  const url = `http://127.0.0.1:${port}`;
  const answers = () => fetch(`${url}/readyz`, { signal: AbortSignal.timeout(PROBE_MS) }).then(({ ok }) => ok, () => false);
  await Promise.race([
    eventually(answers, 'an answer through the proxy'),
    exited.then((code) => Promise.reject(new Error(`caddy ended with ${code}: ${log}`))),
  ]);
  return {
    url,
    async end() {
      child.kill('SIGTERM');
      await within(exited, 'the end of the proxy');
      forget();
    },
  };
}

test('the drain is shorter than what each platform waits, by what the last requests take', () => {
  const drainTimes = {
    compose: compose.services['node-1'].environment.SLOTCAST_DRAIN_TIME,
    render: renderEnvironment(serviceOf('web'), { ...allAsked() }).SLOTCAST_DRAIN_TIME,
    fly: fly.env.SLOTCAST_DRAIN_TIME,
  };
  for (const [name, { seconds }] of Object.entries(platforms)) {
    assert.ok(Number(drainTimes[name]) + 10 <= seconds, `${name}: ${drainTimes[name]} s of ${seconds} s`);
  }
});

const allAsked = () => ({ 'slotcast-store.connectionString': 'x', JWT_SECRET: 'x', CORS_ORIGIN: 'x' });

test('render.yaml: what it refers to is there, and the store keeps bookings to itself', () => {
  const names = new Map(render.services.map((service) => [service.name, service]));
  assert.equal(names.size, render.services.length, 'each name once');
  for (const { envVars = [], region } of render.services) {
    assert.equal(region, serviceOf('web').region, 'the private network ends at the region');
    for (const { key, fromService } of envVars) {
      if (fromService) assert.equal(names.get(fromService.name)?.type, fromService.type, key);
    }
  }
  const store = serviceOf('keyvalue');
  assert.equal(store.maxmemoryPolicy, 'noeviction');
  assert.deepEqual(store.ipAllowList, []);
  assert.notEqual(store.plan, 'free', 'it has no disk');
  assert.ok(serviceOf('web').numInstances >= 2);
  assert.equal(serviceOf('web').healthCheckPath, '/healthz');
  assert.equal(serviceOf('cron').schedule, '* * * * *');
  for (const service of [serviceOf('web'), serviceOf('cron')]) {
    assert.ok(existsSync(join(INFRA, '..', service.dockerfilePath)), service.dockerfilePath);
  }
});

test('fly.toml: what it refers to is there, and it counts connections', () => {
  const groups = Object.keys(fly.processes);
  const named = [fly.http_service, fly.metrics, ...fly.vm, ...fly.restart].flatMap(({ processes }) => processes);
  for (const group of named) assert.ok(groups.includes(group), group);
  assert.equal(fly.http_service.internal_port, Number(fly.env.PORT));
  assert.equal(fly.metrics.port, Number(fly.env.SLOTCAST_ADMIN_ADDR.match(/\d+$/)[0]));
  assert.equal(fly.http_service.concurrency.type, 'connections');
  assert.ok(fly.http_service.concurrency.soft_limit > 1_000, 'the default of 20 thinks every node full');
  assert.equal(fly.http_service.auto_stop_machines, 'off');
  assert.equal(fly.deploy.strategy, 'rolling');
  assert.ok(existsSync(join(INFRA, fly.build.dockerfile)));
  assert.equal(flyValkey.mounts[0].destination, '/data');
});

test('compose.yaml: nodes are alike, read-only and without rights, and the proxy has no sticky sessions', () => {
  const nodes = Object.entries(compose.services).filter(([name]) => name.startsWith('node-'));
  assert.equal(nodes.length, 3);
  for (const [name, node] of nodes) {
    const { SLOTCAST_ADVERTISE_ADDR: advertised, ...environment } = node.environment;
    const { SLOTCAST_ADVERTISE_ADDR: _, ...others } = nodes[0][1].environment;
    assert.deepEqual(environment, others);
    assert.equal(advertised, `${name}:${environment.PORT}`);
    assert.deepEqual([node.read_only, node.cap_drop, node.ports], [true, ['ALL'], undefined]);
  }
  for (const [name, service] of Object.entries(compose.services)) {
    assert.match(service.mem_limit ?? '', /^\d+[mg]$/, `${name} has a memory limit`);
    assert.ok(service.logging.options['max-size'] && service.logging.options['max-file'], `${name}'s log is rotated`);
  }
  assert.match(compose.services['node-1'].environment.REDIS_URL, /^redis:\/\/:a-password@valkey:6379$/);
  assert.equal(optionsOf(compose.services.valkey.command).requirepass, 'a-password');
  assert.equal(compose.services.valkey.environment.REDISCLI_AUTH, 'a-password');
  assert.equal(compose.services.valkey.ports, undefined);
  assert.equal(compose.networks.store.internal, true);
  const options = optionsOf(compose.services.valkey.command);
  assert.deepEqual(
    [options.appendonly, options.appendfsync, options['maxmemory-policy']],
    ['yes', 'always', 'noeviction'],
  );
  const caddyfile = readFileSync(join(INFRA, 'proxy/Caddyfile'), 'utf8');
  assert.match(caddyfile, /^\t\tlb_policy least_conn$/m);
  assert.match(caddyfile, /^\t\thealth_uri \/readyz$/m);
  for (const [name] of nodes) assert.ok(caddyfile.includes(`${name}:3000`), name);
});

test('the image: what runs in it is what the platforms name, without rights and with a health check', () => {
  const dockerfile = readFileSync(join(INFRA, 'Dockerfile'), 'utf8');
  const last = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '));
  assert.match(last, /^USER 65532:65532$/m);
  assert.match(last, /^STOPSIGNAL SIGTERM$/m);
  const command = JSON.parse(last.match(/^CMD (.*)$/m)[1]);
  for (const of of Object.values(platforms).flatMap(({ nodes }) => nodes)) assert.deepEqual(of('redis://x').words, command);
  assert.deepEqual(JSON.parse(last.match(/^HEALTHCHECK .* CMD (.*)$/m)[1]), [command[0], 'healthcheck']);
  assert.ok(!/^ENTRYPOINT/m.test(last), 'platforms do not agree on what a command is where there is one');
  // Builder and base have the same Debian release: the binaries need its glibc.
  const [, builder] = dockerfile.match(/^FROM rust:[\d.]+-(\w+) AS build$/m);
  const [, base] = dockerfile.match(/^FROM .*-debian(\d+):nonroot$/m);
  assert.equal({ bookworm: '12', trixie: '13' }[builder], base);
  assert.equal(base, '13', 'the one that is maintained');
});

test('the image tells what it was built from, wherever it is built', () => {
  const dockerfile = readFileSync(join(INFRA, 'Dockerfile'), 'utf8');
  const manifest = readFileSync(join(INFRA, '../Cargo.toml'), 'utf8');
  const [, version] = manifest.match(/^version = "(.*)"$/m);
  assert.ok(dockerfile.includes(`\nARG VERSION=${version}\n`), 'the default is the version of Cargo.toml');
  // The program and the label tell the same commit; Render gives its own name to it.
  assert.match(dockerfile, /SLOTCAST_REVISION="\$\{REVISION:-\$\{RENDER_GIT_COMMIT\}\}"/);
  assert.match(dockerfile, /image\.revision="\$\{REVISION:-\$\{RENDER_GIT_COMMIT:-unknown\}\}"/);
  assert.deepEqual(Object.keys(compose.services['node-1'].build.args), ['REVISION']);
  assert.equal(readFileSync(join(INFRA, 'render.yaml'), 'utf8').match(/autoDeployTrigger/g).length, 2, 'node and cron alike');
});

test('releases: the list of checksums does not list itself, and the image has both processors and three tags', () => {
  const workflow = parseYaml(readFileSync(join(INFRA, '../.github/workflows/release.yml'), 'utf8'));
  const { run: sums } = workflow.jobs.publish.steps.find((step) => step.run?.includes('sha256sum'));
  const folder = temporaryFolder();
  for (let round = 0; round < 20; round += 1) {
    const dist = join(folder, String(round));
    mkdirSync(dist);
    for (const name of ['a.tar.gz', 'b.zip']) writeFileSync(join(dist, name), name);
    const env = { ...process.env, RUNNER_TEMP: folder };
    execFileSync('bash', ['-e', '-o', 'pipefail', '-c', sums], { cwd: dist, env });
    const listed = readFileSync(join(dist, 'SHA256SUMS'), 'utf8').trimEnd().split('\n').map((line) => line.split('  ')[1]);
    assert.deepEqual(listed, ['a.tar.gz', 'b.zip']);
  }
  assert.deepEqual(workflow.jobs.image.strategy.matrix.include.map(({ platform }) => platform), ['linux/amd64', 'linux/arm64']);
  const { run: tags } = workflow.jobs.manifest.steps.find((step) => step.run?.includes('imagetools create'));
  const printed = execFileSync('bash', ['-e', '-o', 'pipefail', '-c', `docker() { echo "$@"; }; ${tags}`], {
    cwd: temporaryFolder(),
    env: { ...process.env, TAG: 'v1.22.3', IMAGE: 'ghcr.io/o/r', DIGESTS: 'sha256:a sha256:b', GITHUB_OUTPUT: '/dev/null' },
    encoding: 'utf8',
  });
  for (const tag of ['1.22.3', '1.22', 'latest']) assert.ok(printed.includes(`--tag ghcr.io/o/r:${tag} `), printed);
});
