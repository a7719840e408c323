"""What schemathesis has to know of the control API to get anywhere: names that exist, bodies that
hold. Each operation is now and then asked with them; which have answered a success is written to the
file that FIREDRILL_REACHED names, one a line."""

import json
import os
from collections import Counter

import requests
import schemathesis
from openapi_schema_validator import OAS31Validator

URL = os.environ["FIREDRILL_URL"]
REACHED = os.environ["FIREDRILL_REACHED"]

RULE = {"proxies": ["payment"], "fault": {"delay": {"latency": "1ms"}}}
PARTITION = {"between": [["checkout"], ["payment"]]}
PROXY = {"listen": "127.0.0.1:0", "upstream": "127.0.0.1:1"}
KNOWN = {"rules": RULE, "partitions": PARTITION, "proxies": PROXY}

asked = Counter()
made = Counter()
reached = set()


def sort_of(path):
    parts = path.split("/")
    return parts[2] if parts[1:2] == ["v1"] and len(parts) > 2 else None


def exists(sort):
    """One of this sort, made just now if there is none. Its name."""
    body = {"name": "fuzzed", **KNOWN[sort]}
    requests.post(f"{URL}/v1/{sort}", json=body, timeout=10)
    return "fuzzed"


@schemathesis.hook
def before_call(context, case, kwargs):
    # It would not end.
    if case.query and "follow" in case.query:
        case.query = {**case.query, "follow": "false"}
    path, method = case.operation.path, case.operation.method.lower()
    sort = sort_of(path)
    asked[method, path] += 1
    if asked[method, path] % 4 != 1 or case.method.lower() != method:
        return
    if path == "/v1/evidence":
        case.query = {"limit": "5"}
    if path == "/v1/changes":
        change = {"op": "put", "rule": {"name": "fuzzed", **RULE}}
        case.body, case.media_type = {"changes": [change]}, "application/json"
    if path == "/v1/heartbeat":
        case.headers = {"Firedrill-Controller": "fuzzer"}
    if sort not in KNOWN:
        return
    # No condition, and no name for who asks.
    case.headers = {}
    if "{name}" in path:
        case.path_parameters = {"name": exists(sort)}
    if method in ("post", "put"):
        made[sort] += 1
        name = {"name": f"fuzzed-{made[sort]}"} if method == "post" else {}
        case.body, case.media_type = {**name, **KNOWN[sort]}, "application/json"
    if method == "patch":
        keys = {"max_connections": 7} if sort == "proxies" else {"enabled": False}
        case.body, case.media_type = keys, "application/json"


@schemathesis.hook
def after_call(context, case, response):
    operation = f"{case.operation.method.upper()} {case.operation.path}"
    if 200 <= response.status_code < 300 and operation not in reached:
        reached.add(operation)
        with open(REACHED, "a") as file:
            file.write(operation + "\n")


@schemathesis.check
def lines_are_records(ctx, response, case):
    """JSON Lines have no schema as a whole: each line has."""
    if case.operation.path != "/v1/evidence" or response.status_code != 200:
        return
    if not hasattr(lines_are_records, "validator"):
        document = requests.get(f"{URL}/v1/openapi.json", timeout=10).json()
        schema = {"$ref": "#/components/schemas/Record", "components": document["components"]}
        lines_are_records.validator = OAS31Validator(schema)
    for line in response.text.splitlines():
        lines_are_records.validator.validate(json.loads(line))
