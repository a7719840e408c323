"""Drives Firedrill with toxiproxy-python as it is. Prints a line for each step, `NAME ADDRESS`, and
goes on when a line comes: what the step has changed is measured meanwhile.

    toxiproxy_client.py CONTROL UPSTREAM
"""

import sys

from toxiproxy import Toxiproxy
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

control, upstream = sys.argv[1:3]


def step(name, proxy):
    print(name, proxy.listen, flush=True)
    sys.stdin.readline()


def refused(error, doing, *args, **kwargs):
    try:
        doing(*args, **kwargs)
    except error:
        return
    raise AssertionError(f"not refused: {args} {kwargs}")


toxiproxy = Toxiproxy()
host, port = control.split(":")
toxiproxy.update_api_consumer(host, int(port))
assert toxiproxy.running()
assert b'"version": "2.' in toxiproxy.version()
proxy = toxiproxy.create(name="python", upstream=upstream)
assert (proxy.name, proxy.upstream, proxy.enabled) == ("python", upstream, True)
assert proxy.listen.startswith("127.0.0.1:") and not proxy.listen.endswith(":0")
refused(ProxyExists, toxiproxy.create, name="python", upstream=upstream)
refused(InvalidToxic, toxiproxy.create, name="x", upstream="")
assert list(toxiproxy.proxies()) == ["python"]
assert toxiproxy.get_proxy("nobody") is None
step("plain", proxy)

TOXICS = [
    ("latency", "latency", "downstream", {"latency": 200, "jitter": 0}),
    ("latency", "latency", "upstream", {"latency": 200, "jitter": 0}),
    ("bandwidth", "bandwidth", "downstream", {"rate": 100}),
    ("slow_close", "slow_close", "downstream", {"delay": 300}),
    ("timeout", "timeout", "downstream", {"timeout": 100}),
    ("reset_peer", "reset_peer", "downstream", {"timeout": 100}),
    ("slicer", "slicer", "downstream", {"average_size": 10, "size_variation": 0, "delay": 50000}),
    ("limit_data", "limit_data", "downstream", {"bytes": 100}),
    ("packet_loss", "packet_loss", "downstream", {"loss_rate": 1, "correlation": 0}),
    ("plain", "noop", "downstream", {}),
]
for name, sort, stream, attributes in TOXICS:
    proxy.add_toxic(type=sort, stream=stream, attributes=attributes)
    made = proxy.get_toxic(f"{sort}_{stream}")
    assert vars(made) == {
        "name": f"{sort}_{stream}", "type": sort, "stream": stream, "toxicity": 1, "attributes": attributes,
    }, vars(made)
    refused(ProxyExists, proxy.add_toxic, type=sort, stream=stream, attributes=attributes)
    step(name, proxy)
    assert proxy.destroy_toxic(made.name)
    assert proxy.get_toxic(made.name) is None
    refused(NotFound, proxy.destroy_toxic, made.name)
    step("plain", proxy)

# This client changes a toxic by removing it and adding another.
slow = {"latency": 200, "jitter": 0}
proxy.add_toxic(type="latency", name="slow", toxicity=0, attributes=slow)
step("plain", proxy)
proxy.destroy_toxic("slow")
proxy.add_toxic(type="latency", name="slow", toxicity=1.0, attributes=slow)
step("latency", proxy)
step("keep", proxy)
proxy.destroy_toxic("slow")
step("kept", proxy)

# Held, and let go.
proxy.add_toxic(type="bandwidth", attributes={"rate": 0})
step("held", proxy)
proxy.destroy_toxic("bandwidth_downstream")
step("released", proxy)
proxy.add_toxic(type="timeout", attributes={"timeout": 0})
step("held", proxy)
proxy.destroy_toxic("timeout_downstream")
step("closed", proxy)

refused(InvalidToxic, proxy.add_toxic, type="nonsense")
refused(InvalidToxic, proxy.add_toxic, type="latency", stream="sideways")
refused(InvalidToxic, proxy.add_toxic, type="latency", attributes={"latency": "soon"})

step("keep", proxy)
with proxy.down():
    assert not toxiproxy.get_proxy("python").enabled
    step("down", proxy)
step("plain", proxy)
proxy.disable()
proxy.add_toxic(type="latency", attributes=slow)
assert toxiproxy.reset()
assert toxiproxy.get_proxy("python").enabled
assert proxy.toxics() == {}
step("plain", proxy)

proxies = [
    {"name": "python", "listen": proxy.listen, "upstream": upstream},
    {"name": "other", "listen": "127.0.0.1:0", "upstream": upstream},
]
populated = toxiproxy.populate(proxies)
assert [each.name for each in populated] == ["other"], "the other was the same"
step("plain", populated[0])
toxiproxy.destroy_all()
refused(NotFound, proxy.destroy)
assert toxiproxy.proxies() == {}
print("done -", flush=True)
