"""Drives an origin with the HTTP clients of the ecosystem, and prints what each saw, a line a case.

    clients.py http HOST:PORT | http2 HOST:PORT | websocket HOST:PORT | grpc HOST:PORT
"""

import asyncio
import hashlib
import http.client
import json
import subprocess
import sys

KIND, ADDRESS = sys.argv[1:3]
URL = f"http://{ADDRESS}"
BODY = bytes(range(256)) * 700


def said(client, case, outcome):
    # The address differs between two runs, and nothing else may.
    text = json.dumps([client, case, outcome], sort_keys=True, default=str)
    print(text.replace(ADDRESS, "ADDRESS"), flush=True)


def answer(status, headers, body, version=None):
    if isinstance(body, str):
        body = body.encode()
    shown = body.decode() if len(body) < 2000 and body.isascii() else hashlib.sha256(body).hexdigest()
    return {"status": status, "headers": [list(h) for h in headers], "body": shown, "length": len(body), "version": version}


def failure(error):
    while getattr(error, "__cause__", None) is not None:
        error = error.__cause__
    return {"error": type(error).__name__}


# Method, path, body, headers.
CASES = [
    ("GET", "/echo?a=1&b=%20x&a=2", None, {"X-One": "1", "x-two": "two  words"}),
    ("HEAD", "/echo", None, {}),
    ("POST", "/echo", BODY, {"Idempotency-Key": "k-1"}),
    ("PUT", "/echo", b"", {}),
    ("DELETE", "/echo", None, {}),
    ("OPTIONS", "/echo", None, {}),
    ("PATCH", "/echo", b"{}", {"Content-Type": "application/json"}),
    ("GET", "/chunked", None, {}),
    ("GET", "/odd", None, {}),
    ("GET", "/sse", None, {}),
    ("GET", "/big?3000000", None, {}),
    ("GET", "/until-close", None, {}),
    ("GET", "/cut", None, {}),
    ("GET", "/break", None, {}),
    ("GET", "/nothing", None, {}),
    ("GET", "/missing", None, {}),
] + [("GET", f"/status/{code}", None, {}) for code in (201, 204, 301, 304, 400, 401, 404, 429, 500, 503, 599)]


# http.client, and what is built on it, takes a 103 for the answer: how that goes on is chance.
WITH_INTERIM = CASES + [("GET", "/hints", None, {})]


def each(client, ask, cases=CASES):
    for method, path, body, headers in cases:
        try:
            outcome = ask(method, path, body, headers)
        except Exception as error:
            outcome = failure(error)
        said(client, f"{method} {path}", outcome)


def with_http_client():
    def ask(method, path, body, headers):
        connection = http.client.HTTPConnection(ADDRESS, timeout=10)
        connection.request(method, path, body, headers)
        got = connection.getresponse()
        return answer(got.status, got.getheaders(), got.read(), [got.version, got.reason])

    each("http.client", ask)


def with_requests():
    import requests

    session = requests.Session()

    def ask(method, path, body, headers):
        got = session.request(method, URL + path, data=body, headers=headers, timeout=10, allow_redirects=False)
        return answer(got.status_code, got.raw.headers.items(), got.content, got.reason)

    each("requests", ask)
    generated = (BODY[n:n + 10_000] for n in range(0, len(BODY), 10_000))
    got = session.post(URL + "/echo", data=generated, timeout=10)
    said("requests", "chunked upload", answer(got.status_code, got.raw.headers.items(), got.content))


def with_urllib3():
    import urllib3

    pool = urllib3.PoolManager(retries=False, timeout=10)
    each("urllib3", lambda method, path, body, headers: (
        lambda got: answer(got.status, got.headers.items(), got.data, got.reason)
    )(pool.request(method, URL + path, body=body, headers=headers, redirect=False)))


def with_httpx():
    import httpx

    with httpx.Client(timeout=10) as client:
        each("httpx", lambda method, path, body, headers: (
            lambda got: answer(got.status_code, got.headers.multi_items(), got.content, got.http_version)
        )(client.request(method, URL + path, content=body, headers=headers)), WITH_INTERIM)


async def with_aiohttp():
    import aiohttp

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        for method, path, body, headers in WITH_INTERIM:
            try:
                async with session.request(method, URL + path, data=body, headers=headers, allow_redirects=False) as got:
                    outcome = answer(got.status, got.headers.items(), await got.read(), got.reason)
            except Exception as error:
                outcome = failure(error)
            said("aiohttp", f"{method} {path}", outcome)
        got = await asyncio.gather(*(session.get(URL + f"/echo?{n}") for n in range(50)))
        texts = [json.loads(await g.text())["target"] for g in got]
        said("aiohttp", "fifty at a time", texts)


def with_curl():
    def run(args, data=None):
        command = ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", "10", "-i", *args]
        got = subprocess.run(command, input=data, capture_output=True)
        out = got.stdout.replace(ADDRESS.encode(), b"ADDRESS")
        return [got.returncode, got.stderr.decode(), hashlib.sha256(out).hexdigest(), out[:1500].decode("latin-1")]

    def curl(case, *args):
        said("curl", case, run(args))

    def ask(method, path, body, headers):
        args = ["-X", method, URL + path] if method != "HEAD" else ["-I", URL + path]
        for name, value in headers.items():
            args += ["-H", f"{name}: {value}"]
        if body is not None:
            args += ["--data-binary", "@-"]
        return run(args, body)

    each("curl", ask, WITH_INTERIM)
    curl("HTTP/1.0", "--http1.0", URL + "/echo")
    curl("raw", "--raw", URL + "/chunked")
    curl("two on one connection", URL + "/echo?1", URL + "/echo?2")
    curl("expect", "-H", "Expect: 100-continue", "-d", "x" * 5000, URL + "/echo")
    curl("chunked upload", "-H", "Transfer-Encoding: chunked", "-d", "x" * 5000, URL + "/echo")
    curl("absolute form", "--request-target", f"{URL}/echo", URL + "/echo")


def with_http2():
    """Of a file server, by prior knowledge."""
    import httpx

    cases = [("GET", "/hello.txt", {}), ("HEAD", "/hello.txt", {}), ("GET", "/digits.txt", {"Range": "bytes=10-19"}),
             ("GET", "/digits.txt", {"Range": "bytes=5000-"}), ("GET", "/missing", {}), ("GET", "/big.bin", {}),
             ("DELETE", "/hello.txt", {}), ("GET", "/hello.txt", {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"})]
    with httpx.Client(http1=False, http2=True, timeout=30) as client:
        for method, path, headers in cases:
            try:
                got = client.request(method, URL + path, headers=headers)
                fields = [(n, v) for n, v in got.headers.multi_items() if n not in ("date", "last-modified", "etag")]
                outcome = answer(got.status_code, fields, got.content, got.http_version)
            except Exception as error:
                outcome = failure(error)
            said("httpx", f"{method} {path}", outcome)
    for method, path, headers in cases:
        command = ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", "30", "--http2-prior-knowledge", "-o", "-",
                   "-w", "\n%{http_version} %{http_code} %{size_download} %{size_header}", *(["-I"] if method == "HEAD" else ["-X", method]),
                   *(part for name, value in headers.items() for part in ("-H", f"{name}: {value}")), URL + path]
        got = subprocess.run(command, capture_output=True)
        body = b"".join(line for line in got.stdout.splitlines(True) if not line.lower().startswith(b"date:"))
        said("curl", f"{method} {path}", [got.returncode, got.stderr.decode(), hashlib.sha256(body).hexdigest(),
                                          got.stdout.rsplit(b"\n", 1)[1].decode()])


async def with_websockets():
    import websockets

    async with websockets.connect(f"ws://{ADDRESS}/ws", compression=None, max_size=None) as socket:
        for data in ["text", "", b"\x00\x01\xff", "x" * 70_000, b"y" * 200_000]:
            await socket.send(data)
            got = await socket.recv()
            said("websockets", f"echo of {len(data)}", got == data)
        said("websockets", "ping", (await (await socket.ping())) is not None)
        await socket.close(4001, "enough")
        said("websockets", "close", [socket.close_code, socket.close_reason])


def with_grpc():
    import grpc

    def raw(data):
        return data

    channel = grpc.insecure_channel(ADDRESS)
    metadata = (("x-one", "1"), ("x-bin-bin", b"\x00\xff"))

    def outcome(call):
        try:
            return call()
        except grpc.RpcError as error:
            kept = [[k, v] for k, v in error.trailing_metadata() or () if k not in ("user-agent",)]
            return {"code": str(error.code()), "details": error.details(), "trailers": kept}

    def unary(name, data, timeout=10):
        def call():
            method = channel.unary_unary(f"/shop.Payment/{name}", raw, raw)
            got, info = method.with_call(data, timeout=timeout, metadata=metadata)
            return {"size": len(got), "sha": hashlib.sha256(got).hexdigest(),
                    "initial": [list(m) for m in info.initial_metadata()],
                    "trailing": [list(m) for m in info.trailing_metadata()], "code": str(info.code())}
        said("grpc", f"{name} {len(data)}", outcome(call))

    for size in (0, 10, 100_000, 3_000_000):
        unary("Echo", b"z" * size)
    for name in ("Fail", "Missing", "Metadata"):
        unary(name, b"x")
    unary("Slow", b"x", timeout=0.3)

    def streaming(name, kind, argument):
        def call():
            got = getattr(channel, kind)(f"/shop.Payment/{name}", raw, raw)(argument, timeout=10)
            return [len(message) for message in got] if kind.endswith("stream") else len(got)
        said("grpc", name, outcome(call))

    streaming("Down", "unary_stream", b"5")
    streaming("Up", "stream_unary", iter([b"a" * 1000] * 50))
    streaming("Both", "stream_stream", iter([b"b" * n for n in range(100)]))
    streaming("Broken", "unary_stream", b"3")
    futures = [channel.unary_unary("/shop.Payment/Echo", raw, raw).future(b"%d" % n) for n in range(200)]
    said("grpc", "two hundred at a time", [f.result().decode() for f in futures])
    channel.close()


if KIND == "http":
    with_curl()
    with_http_client()
    with_requests()
    with_urllib3()
    with_httpx()
    asyncio.run(with_aiohttp())
elif KIND == "http2":
    with_http2()
elif KIND == "websocket":
    asyncio.run(with_websockets())
else:
    with_grpc()
