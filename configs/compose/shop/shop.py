"""The shop: takes orders, keeps them in Redis, has them paid.

An order is paid under one key, however often that takes: a lost answer is asked for again.
"""

import json
import os
import random
import time
import urllib.error
import urllib.request

import redis

from service import serve

PAYMENT = os.environ["PAYMENT_URL"]
ATTEMPTS = 3
PATIENCE = 1.0  # seconds, for each attempt

orders = redis.Redis(
    host=os.environ["REDIS_HOST"],
    socket_timeout=2,
    socket_connect_timeout=2,
    retry_on_error=[redis.exceptions.ConnectionError],
    retry=redis.retry.Retry(redis.backoff.ExponentialBackoff(cap=0.5, base=0.05), 3),
)


def pay(number):
    """Whether it is paid; None: nobody knows."""
    said = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(0.1 * 2**attempt * random.uniform(0.5, 1))
        request = urllib.request.Request(
            f"{PAYMENT}/authorize/order-{number}",
            data=json.dumps({"amount": 1250}).encode(),
            headers={"idempotency-key": f"order-{number}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)["paid"]
        except urllib.error.HTTPError as error:
            said = False if 400 <= error.code < 500 else None
        except OSError:
            said = None
    return said


def order(request):
    number = orders.incr("orders")
    paid = pay(number)
    state = {True: "paid", False: "refused", None: "unknown"}[paid]
    orders.hset("states", number, state)
    status = {"paid": 201, "refused": 402, "unknown": 202}[state]
    return status, {"order": number, "state": state}


def look(request, number):
    state = orders.hget("states", number)
    if state is None:
        return 404, {"error": "no such order"}
    return 200, {"order": int(number), "state": state.decode()}


def export(request, lines="10"):
    """All that is sold, slowly: a transfer that takes its time."""
    request.send_response(200)
    request.send_header("content-type", "text/csv")
    request.end_headers()
    for line in range(int(lines)):
        request.wfile.write(f"{line},{orders.get('orders')}\n".encode())
        request.wfile.flush()
        time.sleep(0.1)


serve(
    8000,
    {
        ("POST", "orders"): order,
        ("GET", "orders"): look,
        ("GET", "export"): export,
        ("GET", "health"): lambda request: (200, {"ok": orders.ping()}),
    },
)
