"""Callers with habits that only they know. Prints `ready`, begins when a line comes, and at its end prints
its habits as an object, with what it really did in it: `waits` before each retry, by the retry's ordinal; how
long it `stayed` with what it left; and when refusals were `heard`, since the attempt. Then it waits, with all
that it still waits for, until its stdin is closed.

    retries.py ADDRESS HABIT SEED

Firedrill refuses what goes to /down, loses the answer to what goes to /lost, and refuses what goes to
/throttled with a Retry-After of one second. Figures are in milliseconds."""

import collections
import contextlib
import json
import random
import sys
import threading
import time
import uuid

import tenacity
import urllib3

ADDRESS, HABIT, SEED = sys.argv[1:4]
URL = f"http://{ADDRESS}"
drawn = random.Random(f"{HABIT} {SEED}")
# Between one thing and the next: not all callers shall begin theirs together.
PACE = drawn.uniform(0.12, 0.18)
pool = urllib3.PoolManager(maxsize=50, retries=False)


class Diary:
    """What was really done, by the caller's own clock."""

    def __init__(self):
        self.failed = {}
        self.waits = collections.defaultdict(list)
        self.stayed = []
        self.heard = []

    @contextlib.contextmanager
    def attempt(self, thing):
        begun = time.monotonic()
        retries, since = self.failed.get(thing, (0, None))
        if retries:
            self.waits[retries].append((begun - since) * 1000)
        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            ended = time.monotonic()
            self.failed[thing] = (retries + 1, ended)
            took = self.stayed if isinstance(error, urllib3.exceptions.TimeoutError) else self.heard
            took.append((ended - begun) * 1000)
            raise

    def longest(self):
        """In seconds."""
        return max(wait for waits in self.waits.values() for wait in waits) / 1000

    def told(self):
        waits = [self.waits[n] for n in sorted(self.waits)]
        return {"waits": waits, "stayed": self.stayed, "heard": self.heard}


diary = Diary()


def post(path, thing, key, timeout=None):
    """One attempt at a thing; raises where it fails."""
    headers = {"Idempotency-Key": key} if key else {}
    with diary.attempt(thing):
        answer = pool.request("POST", URL + path, body=thing, headers=headers, timeout=timeout)
        if answer.status >= 500:
            raise urllib3.exceptions.HTTPError(answer.status)


def all_together(doing, things):
    """Does each in a thread of its own, begun one after the other, and waits for all."""
    threads = [threading.Thread(target=doing, args=thing) for thing in things]
    for thread in threads:
        thread.start()
        time.sleep(PACE)
    for thread in threads:
        thread.join()


def on_the_side(doing, things):
    """The same, and waits for none."""
    for thing in things:
        threading.Thread(target=doing, args=thing, daemon=True).start()


def live_on(seconds):
    """Goes on with what succeeds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        post("/good", str(uuid.uuid4()), str(uuid.uuid4()), 5)
        time.sleep(0.4)


def outlive(growth):
    """The same, for longer than another retry would be waited for by who knows how the waits grow."""
    live_on(2.2 * growth * diary.longest() + 1)


def retrying(stop, wait, timeout=None, named=True):
    """Does a thing by tenacity until it is done or given up."""

    def do(path, n):
        thing = f"{n} {uuid.uuid4()}"
        key = f"key of {thing}" if named else None
        attempt = tenacity.Retrying(stop=stop, wait=wait, reraise=True)
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            attempt(post, path, thing, key, timeout)

    return do


def things(path, count):
    return [(path, n) for n in range(count)]


def exponential():
    attempts, timeout = 4, drawn.uniform(0.6, 1)
    base, factor = drawn.uniform(0.4, 0.6), drawn.uniform(1.7, 2.2)
    wait = tenacity.wait_exponential(multiplier=base, exp_base=factor)
    do = retrying(tenacity.stop_after_attempt(attempts), wait, timeout)
    all_together(do, things("/down", 16) + things("/lost", 5))
    outlive(factor * 1.1)
    return {
        "timeout": timeout * 1000,
        "attempts": attempts,
        "spacing": "exponential",
        "base": base * 1000,
        "factor": factor,
        "jitter": False,
        "unsafe": "no",
    }


def exponential_with_jitter():
    attempts = drawn.randint(4, 5)
    base, factor = drawn.uniform(0.25, 0.35), drawn.uniform(1.9, 2.2)
    # From nothing up to what is exponential.
    wait = tenacity.wait_random_exponential(multiplier=base, exp_base=factor)
    all_together(retrying(tenacity.stop_after_attempt(attempts), wait), things("/down", 30))
    outlive(3)
    return {"attempts": attempts, "spacing": "exponential", "jitter": True}


def fixed():
    attempts, timeout, every = drawn.randint(3, 5), drawn.uniform(0.6, 1), drawn.uniform(0.5, 0.9)
    do = retrying(tenacity.stop_after_attempt(attempts), tenacity.wait_fixed(every), timeout, named=False)
    all_together(do, things("/down", 16) + things("/lost", 5))
    outlive(1.2)
    return {
        "timeout": timeout * 1000,
        "attempts": attempts,
        "spacing": "fixed",
        "base": every * 1000,
        "jitter": False,
        "unsafe": "no_identity",
    }


def fixed_with_jitter():
    attempts, every = drawn.randint(5, 6), drawn.uniform(0.3, 0.5)
    wait = tenacity.wait_fixed(every) + tenacity.wait_random(0, every)
    all_together(retrying(tenacity.stop_after_attempt(attempts), wait), things("/down", 24))
    outlive(2)
    return {"attempts": attempts, "spacing": "fixed", "jitter": True}


def few_or_enough(least, most):
    """So many things, about as many as findings ask for; some of them are lost."""
    attempts, timeout, every = 3, drawn.uniform(0.6, 1), drawn.uniform(0.5, 0.9)
    count, lost = drawn.randint(least, most), drawn.randint(0, 2)
    do = retrying(tenacity.stop_after_attempt(attempts), tenacity.wait_fixed(every), timeout)
    all_together(do, things("/lost", lost) + things("/down", count - lost))
    outlive(2)
    return {
        "timeout": timeout * 1000,
        "attempts": attempts,
        "spacing": "fixed",
        "base": every * 1000,
        "jitter": False,
        "unsafe": "no",
        "samples": {
            "timeouts": lost * attempts,
            "bounded_retries": count,
            "backoff": count,
            "jitter": count,
            "unsafe_retry": lost * (attempts - 1),
        },
    }


def few():
    return few_or_enough(2, 4)


def enough():
    return few_or_enough(5, 9)


def unbounded():
    wait = tenacity.wait_fixed(drawn.uniform(0.08, 0.15))
    on_the_side(retrying(tenacity.stop_never, wait), things("/down", 2))
    live_on(8)
    return {"attempts": None}


def patient():
    """Waits for ever, and never tries again."""
    once = retrying(tenacity.stop_after_attempt(1), tenacity.wait_none())
    on_the_side(once, things("/lost", 4))
    all_together(once, things("/down", 6))
    live_on(11)
    return {"timeout": None, "attempts": 1}


class Retry(urllib3.Retry):
    """As it is, and written down."""

    attempt = threading.local()

    def sleep(self, response=None):
        told = time.monotonic()
        diary.heard.append((told - self.attempt.begun) * 1000)
        super().sleep(response)
        self.attempt.begun = time.monotonic()
        diary.waits[len(self.history)].append((self.attempt.begun - told) * 1000)


def by_urllib3(attempts, base, obeys):
    retry = Retry(
        total=attempts - 1,
        backoff_factor=base,
        status_forcelist=[429, 503],
        allowed_methods=None,
        respect_retry_after_header=obeys,
        raise_on_status=False,
    )

    def do(path, n):
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        Retry.attempt.begun = time.monotonic()
        pool.request("POST", URL + path, body=f"thing {n} {uuid.uuid4()}", headers=headers, retries=retry)

    return do


def obeys_retry_after():
    attempts = drawn.randint(3, 4)
    all_together(by_urllib3(attempts, 0.1, True), things("/throttled", 6))
    live_on(5)
    return {"attempts": attempts, "obeys": True}


def ignores_retry_after():
    attempts, base = 4, drawn.uniform(0.12, 0.2)
    all_together(by_urllib3(attempts, base, False), things("/throttled", 6))
    # The server has asked for a second.
    live_on(2.2 * base * 2**attempts + 2)
    # The first retry comes at once.
    return {
        "attempts": attempts,
        "obeys": False,
        "spacing": "exponential",
        "base": base * 2000,
        "factor": 2,
    }


habits = globals()[HABIT]
print("ready", flush=True)
sys.stdin.readline()
live_on(1)
print(json.dumps({**habits(), **diary.told()}), flush=True)
sys.stdin.read()
