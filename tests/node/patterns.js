// Callers with patterns by cockatiel whose figures only they know; as tests/python/patterns.py.
//
//     patterns.js HABIT SEED

const { randomUUID } = require("node:crypto");
const http = require("node:http");
const readline = require("node:readline");
const { setTimeout: sleep } = require("node:timers/promises");
const { ConsecutiveBreaker, bulkhead, circuitBreaker, handleAll } = require("cockatiel");
const chance = require("./drawn.js");

const [habit, seed] = process.argv.slice(2);
let addresses;

const { drawn, count } = chance(`${habit} ${seed}`);

async function post(path) {
  const headers = { "content-type": "application/json", "idempotency-key": randomUUID() };
  const body = JSON.stringify({ thing: randomUUID() });
  const answer = await fetch(`http://${addresses[habit]}${path}`, { method: "POST", body, headers });
  await answer.text();
  if (!answer.ok) {
    throw new Error(String(answer.status));
  }
}

// Begins it so often, and for so long at least, whether those before are done or not; then waits for all.
async function atPace(ms, least, until, attempt) {
  const all = [];
  for (const end = Date.now() + until; all.length < least || Date.now() < end; ) {
    all.push(attempt().catch(() => undefined));
    await sleep(ms);
  }
  await Promise.all(all);
}

const habits = {
  async node_breaker() {
    const [threshold, wait] = [count(3, 8), drawn(1100, 1600)];
    const policy = circuitBreaker(handleAll, { halfOpenAfter: wait, breaker: new ConsecutiveBreaker(threshold) });
    let [opened, closed] = [0, 0];
    policy.onBreak(() => (opened += 1));
    policy.onReset(() => (closed += 1));
    const call = (path) => () => policy.execute(() => post(path));
    await atPace(40, 20, 1500, call("/good"));
    await atPace(40, 20, 3.4 * wait + 50 * threshold, call("/down"));
    await atPace(40, 20, wait + 800, call("/good"));
    return { circuit_breaker: "yes", threshold, open_ms: wait, opened, closed };
  },

  async node_bulkhead() {
    const limit = count(2, 5);
    const policy = bulkhead(limit, 12);
    const call = (path) => () => policy.execute(() => post(path));
    await atPace(28, 80, 2200, call("/good"));
    await atPace(28, 150, 5000, call("/slow"));
    return { bulkhead: "yes", limit };
  },
};

async function main() {
  const server = http.createServer((request, response) => {
    request.resume().on("end", () => response.end("done"));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  console.log(JSON.stringify({ port: server.address().port, edges: [[habit, habit, `below_${habit}`]] }));
  addresses = JSON.parse((await lines.next()).value);
  console.log(JSON.stringify(await habits[habit]()));
  await lines.next();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
