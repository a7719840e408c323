"""Services and their callers, with patterns whose figures only they know.

    patterns.py HABIT SEED

It serves on a port of its own. Prints which port, and the edges that Firedrill shall proxy to it, as an
object; reads the proxies' addresses, by edge, as an object; does what its habit says; prints what it is
that it does as an object, and waits until its stdin is closed. Figures are in milliseconds.

Firedrill refuses what goes to /down, holds back what goes to /slow, delivers twice what goes to /twice/..., and
loses the first answer to what goes to /lost/...."""

import json
import random
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pybreaker
import urllib3

HABIT, SEED = sys.argv[1:3]
drawn = random.Random(f"{HABIT} {SEED}")
pool = urllib3.PoolManager(maxsize=200, retries=False)
addresses = {}


class Failed(Exception):
    """A request that was not answered, or with no success."""


def post(edge, path, body=None, key=None, trace=None):
    """The answer's body."""
    headers = {"traceparent": trace} if trace else {"Idempotency-Key": key or str(uuid.uuid4())}
    body = body or f"thing {uuid.uuid4()}"
    try:
        answer = pool.request("POST", f"http://{addresses[edge]}{path}", body=body, headers=headers, timeout=30)
    except urllib3.exceptions.HTTPError as error:
        raise Failed from error
    if answer.status >= 300:
        raise Failed(answer.status)
    return answer.data


def tried(edge, path, **more):
    """Whether it succeeded."""
    try:
        post(edge, path, **more)
    except Failed:
        return False
    return True


def in_threads(pace, count, do):
    """Does it so often, one begun after the other and none waited for; then waits for all."""
    threads = [threading.Thread(target=do) for _ in range(count)]
    begin = time.monotonic()
    for n, thread in enumerate(threads):
        time.sleep(max(0, begin + n * pace - time.monotonic()))
        thread.start()
    for thread in threads:
        thread.join()


def for_a_time(seconds, pace, do):
    """Does it one after the other, at this pace."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        do()
        time.sleep(pace)


def well(_):
    """A service that does well."""
    return 200, b"done", {}


# Circuit breakers. Each with whether its own callers are seen.


class Counts(pybreaker.CircuitBreakerListener):
    def __init__(self):
        self.opened, self.closed = 0, 0

    def state_change(self, cb, old_state, new_state):
        self.opened += new_state.name == "open"
        self.closed += new_state.name == "closed" and old_state is not None


def breaker(edge="breaker", call=None):
    counts = Counts()
    threshold, wait = drawn.randint(3, 8), drawn.uniform(1.1, 1.6)
    guard = pybreaker.CircuitBreaker(fail_max=threshold, reset_timeout=wait, listeners=[counts])

    def work(path):
        try:
            guard.call(post, edge, path)
        except (Failed, pybreaker.CircuitBreakerError):
            return False
        return True

    call = call(work) if call else work
    for_a_time(1.5, 0.04, lambda: call("/good"))
    for_a_time(wait * 3.4 + threshold * 0.05, 0.04, lambda: call("/down"))
    for_a_time(wait + 0.8, 0.04, lambda: call("/good"))
    return {
        "circuit_breaker": "yes",
        "threshold": threshold,
        "open_ms": wait * 1000,
        "opened": counts.opened,
        "closed": counts.closed,
    }


asked = {}


def serve_asked(request):
    """What it is asked for it asks for in its turn."""
    if "/asked" not in request.path:
        return well(request)
    return (200 if asked["work"](request.path.removesuffix("/asked")) else 502), b"", {}


def breaker_that_is_asked():
    def call(work):
        asked["work"] = work
        return lambda path: tried("asked", path + "/asked")

    return {"demand": True} | breaker("breaker_that_is_asked", call)


def no_breaker(pace=0.03, count=None):
    for_a_time(1.5, pace, lambda: post("no_breaker", "/good"))
    count = count or drawn.randint(110, 140)
    for _ in range(count):
        tried("no_breaker", "/down")
        time.sleep(pace)
    for_a_time(0.5, pace, lambda: post("no_breaker", "/good"))
    return {"circuit_breaker": "no", "in_a_row": count}


def few_failures():
    for_a_time(1.5, 0.03, lambda: post("few_failures", "/good"))
    for _ in range(drawn.randint(20, 60)):
        tried("few_failures", "/down")
        time.sleep(0.03)
    return {"circuit_breaker": "not_enough"}


def pauses_between_attempts():
    """No breaker, but longer and longer waits, at last of even length, under ever new keys."""
    base, longest = drawn.uniform(0.02, 0.06), drawn.uniform(0.5, 0.8)
    for_a_time(1.5, 0.03, lambda: post("pauses_between_attempts", "/good"))
    for n in range(2):
        for attempt in range(8):
            tried("pauses_between_attempts", "/down", body=f"thing {n}")
            time.sleep(min(longest, base * 2**attempt))
    for_a_time(0.5, 0.03, lambda: post("pauses_between_attempts", "/good"))
    return {"circuit_breaker": "not_enough"}


# Bulkheads.


class Level:
    """How many are at it, and the most that ever were."""

    def __init__(self):
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            return self.now

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


def calls_that_get_slow(edge, places):
    level = Level()

    def do(path):
        # Whoever gets no place for long gives up.
        if not places or places.acquire(timeout=1.5):
            with level:
                post(edge, path)
            if places:
                places.release()

    in_threads(0.028, 80, lambda: do("/good"))
    in_threads(0.028, 180, lambda: do("/slow"))
    return level.most


def bulkhead():
    limit = drawn.randint(2, 5)
    calls_that_get_slow("bulkhead", threading.Semaphore(limit))
    return {"bulkhead": "yes", "limit": limit}


def no_bulkhead():
    return {"bulkhead": "no", "peak": calls_that_get_slow("no_bulkhead", None)}


# Fallbacks. What it is asked at /asked, it asks for below, and hides a failure or passes it on.


def serve_hiding(request):
    if request.path != "/asked":
        return well(request)
    trace = request.headers["traceparent"]
    # A span of its own in the same trace.
    below = f"{trace[:36]}{uuid.uuid4().hex[:16]}-01"
    return 200, b"below" if tried("hides", "/down", trace=below) else b"a fallback", {}


def serve_passing_on(request):
    if request.path != "/asked":
        return well(request)
    key = request.headers["Idempotency-Key"]
    edge = HABIT
    return 200 if tried(edge, "/down", key=key) else 502, b"", {}


def hides():
    linked = drawn.randint(5, 15)
    for _ in range(linked):
        post("asked", "/asked", trace=f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01")
    return {"fallback": "yes", "linked": linked, "hidden": linked}


def passes_on(linked=None):
    linked = linked or drawn.randint(5, 15)
    for _ in range(linked):
        tried("asked", "/asked")
    return {"fallback": "no", "linked": linked, "hidden": 0}


def few_to_pass_on():
    return passes_on(4) | {"fallback": "not_enough"}


# Load shedding.

work = Level()
shed = []
LIMIT, TIME = drawn.randint(4, 8), drawn.uniform(0.25, 0.4)


def serve_shedding(_):
    with work as level:
        if level > LIMIT:
            shed.append(1)
            return 503, b"too much", {}
        time.sleep(TIME)
        return 200, b"done", {}


one_at_a_time = threading.Lock()


def serve_one_at_a_time(_):
    with work, one_at_a_time:
        time.sleep(0.02)
        return 200, b"done", {}


def sheds():
    in_threads(0.15, 12, lambda: tried("sheds", "/good"))
    in_threads(0.02, 150, lambda: tried("sheds", "/good"))
    return {"load_shedding": "yes", "limit": LIMIT, "shed": len(shed), "served_ms": TIME * 1000}


def queues():
    in_threads(0.05, 40, lambda: tried("queues", "/good"))
    in_threads(0.012, 130, lambda: tried("queues", "/good"))
    return {"load_shedding": "no", "shed": 0, "peak": work.most}


# Repetitions: what each service does when it is asked for one thing again.

books = threading.Lock()
known = {}
charges = []


def serve_once(request):
    """Charges once for each key; asked again, it answers as its name says."""
    kind = request.path.split("/")[-1]
    with books:
        charge = f"charge {len(charges)}".encode()
        key = kind, request.headers["Idempotency-Key"]
        before = known.setdefault(key, charge)
        if before == charge or kind == "charges_twice":
            charges.append(kind)
            return 201, charge, {}
    return {
        "same": (201, before, {}),
        "seldom": (201, before, {}),
        "replayed": (201, before, {"Idempotent-Replayed": "true"}),
        "conflict": (409, b"already", {}),
        "mismatch": (422, b"that key was for another thing", {}),
    }[kind]


KINDS = ["same", "replayed", "conflict", "mismatch", "charges_twice", "seldom"]


def repeats():
    told = {}
    for kind in KINDS:
        twice, lost = (1, 1) if kind == "seldom" else (drawn.randint(2, 5), drawn.randint(2, 5))
        # What is delivered again is no other body.
        twice = 0 if kind == "mismatch" else twice
        lost = lost + 1 if kind == "mismatch" else lost
        for _ in range(twice):
            tried(kind, f"/twice/{kind}")
        for _ in range(lost):
            key, body = str(uuid.uuid4()), f"thing {uuid.uuid4()}"
            assert not tried(kind, f"/lost/{kind}", key=key, body=body), "the answer was lost"
            tried(kind, f"/lost/{kind}", key=key, body=body + "!" * (kind == "mismatch"))
        told[kind] = twice + lost
    return {"repeats": told}


# What it serves, and the edges to it: name, from, to.
def edges_of(habit):
    own = [habit, habit, f"below_{habit}"]
    with_its_callers = [["asked", "client", habit], own]
    return {
        "breaker_that_is_asked": (serve_asked, with_its_callers),
        "hides": (serve_hiding, with_its_callers),
        "passes_on": (serve_passing_on, with_its_callers),
        "few_to_pass_on": (serve_passing_on, with_its_callers),
        "sheds": (serve_shedding, [["sheds", "client", "sheds"]]),
        "queues": (serve_one_at_a_time, [["queues", "client", "queues"]]),
        "repeats": (serve_once, [[kind, "client", kind] for kind in KINDS]),
    }.get(habit, (well, [own]))


serve, edges = edges_of(HABIT)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body, headers = serve(self)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 500


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(json.dumps({"port": server.server_port, "edges": edges}), flush=True)
addresses.update(json.loads(sys.stdin.readline()))
print(json.dumps(globals()[HABIT]()), flush=True)
sys.stdin.read()
