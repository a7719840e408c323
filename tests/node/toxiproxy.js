// Drives Firedrill with toxiproxy-node-client as it is. Prints a line for each step, `NAME ADDRESS`,
// and goes on when a line comes: what the step has changed is measured meanwhile.
//
//     toxiproxy.js CONTROL UPSTREAM

const assert = require("node:assert/strict");
const readline = require("node:readline");
const { Toxiproxy } = require("toxiproxy-node-client");

const [control, upstream] = process.argv.slice(2);
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function step(name, proxy) {
  console.log(`${name} ${proxy.listen}`);
  await lines.next();
}

async function refused(doing, status) {
  await assert.rejects(doing, { message: `Request failed with status code ${status}` });
}

async function main() {
  const toxiproxy = new Toxiproxy(`http://${control}`);
  assert.match(await toxiproxy.getVersion(), /^\{"version": "2\./);
  const body = { name: "node", listen: "localhost:0", upstream };
  let proxy = await toxiproxy.createProxy(body);
  assert.deepEqual([proxy.name, proxy.upstream, proxy.enabled], ["node", upstream, true]);
  assert.match(proxy.listen, /^127\.0\.0\.1:[1-9]/);
  await refused(toxiproxy.createProxy(body), 409);
  await refused(toxiproxy.createProxy({ listen: "localhost:0", upstream }), 400);
  await refused(toxiproxy.get("nobody"), 404);
  assert.deepEqual(Object.keys(await toxiproxy.getAll()), ["node"]);
  await step("plain", proxy);

  const toxics = [
    ["latency", "latency", "downstream", { latency: 200, jitter: 0 }],
    ["latency", "latency", "upstream", { latency: 200, jitter: 0 }],
    ["bandwidth", "bandwidth", "downstream", { rate: 100 }],
    ["slow_close", "slow_close", "downstream", { delay: 300 }],
    ["timeout", "timeout", "downstream", { timeout: 100 }],
    ["reset_peer", "reset_peer", "downstream", { timeout: 100 }],
    ["slicer", "slicer", "downstream", { average_size: 10, size_variation: 0, delay: 50000 }],
    ["limit_data", "limit_data", "downstream", { bytes: 100 }],
    ["packet_loss", "packet_loss", "downstream", { loss_rate: 1, correlation: 0 }],
    ["plain", "noop", "downstream", {}],
  ];
  for (const [name, type, stream, attributes] of toxics) {
    const toxic = await proxy.addToxic({ type, stream, attributes });
    const made = { name: `${type}_${stream}`, type, stream, toxicity: 1, attributes };
    assert.deepEqual(toxic.toJson(), made);
    assert.deepEqual((await proxy.getToxic(made.name)).toJson(), made);
    await refused(proxy.addToxic({ type, stream, attributes }), 409);
    await step(name, proxy);
    await toxic.remove();
    await refused(proxy.getToxic(made.name), 404);
    await step("plain", proxy);
  }

  // Changed while connections stand.
  const slow = { type: "latency", name: "slow", toxicity: 0, attributes: { latency: 200, jitter: 0 } };
  let toxic = await proxy.addToxic(slow);
  await step("plain", proxy);
  toxic = await toxic.update({ toxicity: 1, attributes: { latency: 200, jitter: 0 } });
  assert.deepEqual([toxic.toxicity, toxic.stream], [1, "downstream"]);
  await step("latency", proxy);
  await step("keep", proxy);
  toxic = await toxic.update({ attributes: { latency: 1 } });
  assert.deepEqual(toxic.attributes, { latency: 1, jitter: 0 });
  await step("kept", proxy);
  await toxic.remove();

  // Held, and let go.
  toxic = await proxy.addToxic({ type: "bandwidth", attributes: { rate: 0 } });
  await step("held", proxy);
  await toxic.remove();
  await step("released", proxy);
  toxic = await proxy.addToxic({ type: "timeout", attributes: { timeout: 0 } });
  await step("held", proxy);
  await toxic.remove();
  await step("closed", proxy);

  await refused(proxy.addToxic({ type: "nonsense" }), 400);
  await refused(proxy.addToxic({ type: "latency", stream: "sideways" }), 400);
  await refused(proxy.addToxic({ type: "latency", attributes: { latency: "soon" } }), 400);

  await step("keep", proxy);
  proxy = await proxy.update({ enabled: false, listen: proxy.listen, upstream });
  assert.equal(proxy.enabled, false);
  await step("down", proxy);
  await proxy.addToxic({ type: "latency", attributes: { latency: 200 } });
  await toxiproxy.reset();
  proxy = await toxiproxy.get("node");
  assert.equal(proxy.enabled, true);
  await step("plain", proxy);

  await refused(toxiproxy.populate([{ name: "a" }]), 400);
  const populated = await toxiproxy.populate([
    { name: "node", listen: proxy.listen, upstream },
    { name: "other", listen: "localhost:0", upstream },
  ]);
  assert.deepEqual(Object.keys(populated), ["node", "other"]);
  assert.deepEqual(populated.node.toJson(), proxy.toJson());
  await step("plain", populated.other);
  assert.deepEqual(await toxiproxy.populate([]), {});
  for (const each of Object.values(populated)) {
    await each.remove();
  }
  await refused(proxy.remove(), 404);
  assert.deepEqual(await toxiproxy.getAll(), {});
  console.log("done -");
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
