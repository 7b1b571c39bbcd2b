// The platform's side of the Lambda Runtime API (docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html), as much as the
// scheduled function needs: `const lambda = await startFunction({ REDIS_URL })`, then `await lambda.invoke(event)`.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { STALLED } from './stalls.mjs';
import { DEADLINE_MS, eventually, within } from './waiting.mjs';

const REPOSITORY = resolve(fileURLToPath(import.meta.url), '../../../..');

/** The binary under test. */
export const FUNCTION = process.env.SWEEPER_LAMBDA_BIN ?? join(REPOSITORY, 'target/debug/sweeper_lambda');

const PREFIX = '/2018-06-01/runtime';

/** What the platform sends for an event of EventBridge. */
export const SCHEDULED = {
  version: '0',
  id: '89d1a02d-5ec7-412e-82f5-13505f849b41',
  'detail-type': 'Scheduled Event',
  source: 'aws.events',
  account: '123456789012',
  time: '2026-11-23T12:00:00Z',
  region: 'eu-south-1',
  resources: [],
  detail: {},
};

/** What the platform sends for a call of the function's URL. */
export const FUNCTION_URL = {
  version: '2.0',
  routeKey: '$default',
  rawPath: '/',
  rawQueryString: '',
  headers: { host: 'abc.lambda-url.eu-south-1.on.aws' },
  requestContext: {
    accountId: 'anonymous',
    apiId: 'abc',
    domainName: 'abc.lambda-url.eu-south-1.on.aws',
    domainPrefix: 'abc',
    http: { method: 'POST', path: '/', protocol: 'HTTP/1.1', sourceIp: '192.0.2.7', userAgent: 'curl' },
    requestId: 'e1506fd5',
    routeKey: '$default',
    stage: '$default',
    time: '23/Nov/2026:12:00:00 +0000',
    timeEpoch: 1795435200000,
  },
  isBase64Encoded: false,
};

/** Starts the function's binary, or another program, against a Runtime API of its own. */
export async function startFunction(settings, { program = FUNCTION } = {}) {
  const lambda = new LambdaFunction(settings, program);
  await lambda.start();
  return lambda;
}

class LambdaFunction {
  constructor(settings, program) {
    this.settings = settings;
    this.program = program;
    /** Invocations that the function has not taken. */
    this.queue = [];
    /** Those that it has not answered, by request id. */
    this.open = new Map();
    this.count = 0;
    this.log = '';
    /** What it told of a start that failed. */
    this.failedStart = new Promise((done) => {
      this.failStart = done;
    });
  }

  async start() {
    this.server = createServer((request, response) => this.serve(request, response));
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    this.startedAt = performance.now();
    this.child = spawn(this.program, [], {
      cwd: dirname(this.program),
      env: {
        AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${this.server.address().port}`,
        AWS_LAMBDA_FUNCTION_NAME: 'sweeper',
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '128',
        AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
        ...this.settings,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk) => {
        this.log += chunk;
      });
    }
    this.killAtExit = () => this.child.kill('SIGKILL');
    process.on('exit', this.killAtExit);
    this.exited = new Promise((done) => {
      this.child.once('error', (error) => done({ error: error.message }));
      this.child.once('close', (code, signal) => done({ code, signal }));
    });
  }

  async serve(request, response) {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    if (request.method === 'GET' && request.url === `${PREFIX}/invocation/next`) {
      this.waiting = response;
      this.hand();
      return;
    }
    const now = Date.now();
    response.writeHead(202, { 'content-type': 'application/json' }).end('{"status": "OK"}');
    const answer = { outcome: request.url.split('/').at(-1), text: body, json: asJson(body), at: performance.now() };
    if (request.url === `${PREFIX}/init/error`) {
      this.failStart(answer);
      return;
    }
    const id = request.url.split('/').at(-2);
    const invocation = this.open.get(id);
    this.open.delete(id);
    invocation?.done({ ...answer, timeLeft: invocation.deadline - now });
  }

  /** Gives the function its next invocation, when it waits for one and there is one. */
  hand() {
    if (!this.waiting || this.queue.length === 0) return;
    const response = this.waiting;
    const invocation = this.queue.shift();
    invocation.deadline = Date.now() + invocation.timeout;
    this.waiting = undefined;
    this.count += 1;
    const id = `request-${this.count}`;
    this.open.set(id, invocation);
    response.writeHead(200, {
      'content-type': 'application/json',
      'lambda-runtime-aws-request-id': id,
      'lambda-runtime-deadline-ms': String(invocation.deadline),
      'lambda-runtime-invoked-function-arn': 'arn:aws:lambda:eu-south-1:123456789012:function:sweeper',
    });
    response.end(invocation.body);
  }

  /**
   * Invokes the function, which has `timeout` ms from when it is handed that: `{outcome: 'response' | 'error', text, json, at,
   * timeLeft}`. A text is sent as it is.
   */
  async invoke(event, { timeout = 20_000 } = {}) {
    const body = typeof event === 'string' ? event : JSON.stringify(event);
    const answered = new Promise((done) => {
      this.queue.push({ body, timeout, done });
    });
    this.hand();
    const ended = this.exited.then((exit) => {
      throw new Error(`the function ended with ${JSON.stringify(exit)}:\n${this.log}`);
    });
    return within(Promise.race([answered, ended]), () => `an answer of the function (log: ${this.log})`, DEADLINE_MS);
  }

  /** Invokes it until a sweep is done: the answer, with how many `failed` before it because Redis did not answer in time. */
  async sweep(event = SCHEDULED) {
    let failed = 0;
    return eventually(async () => {
      const answer = await this.invoke(event);
      const isStalled = answer.json?.statusCode === 503 || (answer.outcome === 'error' && STALLED.test(answer.text));
      failed += isStalled ? 1 : 0;
      return isStalled ? undefined : { ...answer, failed };
    }, () => `a sweep (log: ${this.log})`);
  }

  /** The lines logged so far, each of which must be JSON. */
  lines() {
    return this.log
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  }

  async stop() {
    this.child.kill('SIGKILL');
    await within(this.exited, 'the end of the function');
    process.off('exit', this.killAtExit);
    this.server.closeAllConnections();
    this.server.close();
  }
}

function asJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
