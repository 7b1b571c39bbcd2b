// Waiting for what must happen, with deadlines that a busy machine keeps.

/** How long to wait for what should take milliseconds. */
export const DEADLINE_MS = 30_000;

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The promise's value, or an error that names what did not happen in time. */
export async function within(promise, what, deadline = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`${typeof what === 'function' ? what() : what}: not within ${deadline} ms`));
    }, deadline);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Does all jobs, so many at once: `work` gets each with its index. */
export async function inLanes(count, jobs, work) {
  const left = jobs.entries();
  const lane = async () => {
    for (const [index, job] of left) await work(job, index);
  };
  await Promise.all(Array.from({ length: count }, lane));
}

/** Asks again until the answer is truthy, and gives it. */
export async function eventually(ask, what, deadline = DEADLINE_MS) {
  const end = Date.now() + deadline;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`${typeof what === 'function' ? what() : what}: not within ${deadline} ms`);
    await sleep(25);
  }
}
