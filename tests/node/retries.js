// Callers with habits that only they know, by cockatiel, as those in tests/python/retries.py.
//
//     retries.js ADDRESS HABIT SEED

const { randomUUID } = require("node:crypto");
const readline = require("node:readline");
const { setTimeout: sleep } = require("node:timers/promises");
const {
  ConstantBackoff,
  ExponentialBackoff,
  TimeoutStrategy,
  handleAll,
  noJitterGenerator,
  retry,
  timeout,
  wrap,
} = require("cockatiel");
const chance = require("./drawn.js");

const [address, habit, seed] = process.argv.slice(2);

const { drawn, count } = chance(`${habit} ${seed}`);

// Between one thing and the next: not all callers shall begin theirs together.
const pace = drawn(120, 180);

async function post(path, body, key, signal) {
  const headers = { "content-type": "application/json", "idempotency-key": key };
  const answer = await fetch(`http://${address}${path}`, { method: "POST", body: JSON.stringify(body), headers, signal });
  await answer.text();
  if (!answer.ok) {
    throw new Error(String(answer.status));
  }
}

// What was really done, by the caller's own clock.
const diary = {
  failed: new Map(),
  waits: [],
  stayed: [],
  heard: [],

  // One attempt at a thing, with what it did before.
  async attempt(thing, attempted, signal) {
    const begun = performance.now();
    const [retries, since] = this.failed.get(thing) ?? [0, 0];
    if (retries > 0) {
      (this.waits[retries - 1] ??= []).push(begun - since);
    }
    try {
      await attempted;
    } catch (error) {
      const ended = performance.now();
      this.failed.set(thing, [retries + 1, ended]);
      (signal.aborted ? this.stayed : this.heard).push(ended - begun);
      throw error;
    }
  },
};

// Does each thing as `attempt` says under `policy`, begun one after the other, until it is done or given up.
function doAll(policy, path, things, attempt) {
  const doing = Array.from({ length: things }, async (_, n) => {
    await sleep(pace * n);
    const thing = randomUUID();
    const once = ({ signal }) => diary.attempt(thing, attempt(path, thing, signal), signal);
    await policy.execute(once).catch(() => undefined);
  });
  return Promise.all(doing);
}

const named = (path, thing, signal) => post(path, { thing }, `key of ${thing}`, signal);
const underEverNewNames = (path, thing, signal) => post(path, { thing }, randomUUID(), signal);
const withEverNewBodies = (path, thing, signal) => post(path, { thing, at: randomUUID() }, `key of ${thing}`, signal);

async function liveOn(ms) {
  const end = Date.now() + ms;
  while (Date.now() < end) {
    await post("/good", { thing: randomUUID() }, randomUUID());
    await sleep(400);
  }
}

// The same, for longer than another retry would be waited for by who knows how the waits grow.
const outlive = (growth) => liveOn(2.2 * growth * Math.max(...diary.waits.flat()) + 1000);

// What is retried is one attempt, with its own time.
const within = (limit, policy) => wrap(policy, timeout(limit, TimeoutStrategy.Aggressive));

const habits = {
  async exponential() {
    const [retries, limit] = [3, drawn(600, 1000)];
    // This generator doubles, whatever its `exponent`.
    const [base, factor] = [drawn(400, 600), 2];
    const backoff = new ExponentialBackoff({ initialDelay: base, generator: noJitterGenerator });
    const policy = within(limit, retry(handleAll, { maxAttempts: retries, backoff }));
    await Promise.all([
      doAll(policy, "/down", 16, underEverNewNames),
      doAll(policy, "/lost", 5, underEverNewNames),
    ]);
    await outlive(factor * 1.1);
    return {
      timeout: limit,
      attempts: retries + 1,
      spacing: "exponential",
      base,
      factor,
      jitter: false,
      unsafe: "other_identity",
    };
  },

  // Its own default: decorrelated, around what is exponential.
  async exponential_with_jitter() {
    const retries = count(3, 4);
    const backoff = new ExponentialBackoff({ initialDelay: drawn(200, 300) });
    await doAll(retry(handleAll, { maxAttempts: retries, backoff }), "/down", 30, named);
    await outlive(3);
    return { attempts: retries + 1, spacing: "exponential", jitter: true };
  },

  async constant() {
    const [retries, limit, base] = [count(2, 4), drawn(600, 1000), drawn(500, 900)];
    const policy = within(limit, retry(handleAll, { maxAttempts: retries, backoff: new ConstantBackoff(base) }));
    await Promise.all([
      doAll(policy, "/down", 16, named),
      doAll(policy, "/lost", 5, withEverNewBodies),
    ]);
    await outlive(1.2);
    return {
      timeout: limit,
      attempts: retries + 1,
      spacing: "fixed",
      base,
      jitter: false,
      unsafe: "other_body",
    };
  },

  async unbounded() {
    void doAll(retry(handleAll, { backoff: new ConstantBackoff(drawn(80, 150)) }), "/down", 2, named);
    await liveOn(8000);
    return { attempts: null };
  },
};

async function main() {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  console.log("ready");
  await lines.next();
  await liveOn(1000);
  const did = await habits[habit]();
  console.log(JSON.stringify({ ...did, waits: diary.waits, stayed: diary.stayed, heard: diary.heard }));
  await lines.next();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
