"""An HTTP/1.1 origin that shows every shape an answer can have; WebSocket on /ws.

Prints its port. `Date` is fixed, so that two runs can be compared byte for byte.
"""

import asyncio
import base64
import hashlib
import json
import struct

DATE = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def head(status, fields, date=True):
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {status}\r\n{DATE if date else ''}{lines}\r\n".encode()


async def read_body(reader, fields, writer):
    """The request's body and trailers, whatever frames them."""
    if fields.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in fields.get("transfer-encoding", ""):
        body = b""
        while True:
            size = int((await reader.readline()).split(b";")[0], 16)
            if size == 0:
                trailers = []
                while (line := await reader.readline()) not in (b"\r\n", b""):
                    trailers.append(line.decode().strip())
                return body, trailers
            body += await reader.readexactly(size)
            await reader.readexactly(2)
    return await reader.readexactly(int(fields.get("content-length", 0))), []


async def websocket(reader, writer, fields):
    """Echoes frames until a close frame, by hand: the proxy must not care."""
    guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    key = hashlib.sha1((fields["sec-websocket-key"] + guid).encode()).digest()
    accept = base64.b64encode(key).decode()
    upgrade = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)]
    writer.write(head("101 Switching Protocols", upgrade))
    while True:
        first, second = await reader.readexactly(2)
        size = second & 127
        if size == 126:
            size = struct.unpack(">H", await reader.readexactly(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", await reader.readexactly(8))[0]
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(size)
        pad = (mask * (size // 4 + 1))[:size]
        data = (int.from_bytes(masked, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
        opcode = first & 15
        if opcode == 9:
            first = (first & 0xF0) | 10
        if size < 126:
            length = bytes([size])
        elif size < 65536:
            length = b"\x7e" + struct.pack(">H", size)
        else:
            length = b"\x7f" + struct.pack(">Q", size)
        writer.write(bytes([first]) + length + data)
        await writer.drain()
        if opcode == 8:
            writer.close()
            return


async def answer(method, target, fields, order, reader, writer):
    """Answers one request; whether the connection may be used again."""
    path = target.split("?")[0]
    if path == "/ws":
        await websocket(reader, writer, fields)
        return False
    body, trailers = await read_body(reader, fields, writer)
    if path == "/echo":
        seen = {"method": method, "target": target, "headers": order, "trailers": trailers,
                "length": len(body), "sha": hashlib.sha256(body).hexdigest()}
        data = json.dumps(seen).encode()
        sent = b"" if method == "HEAD" else data
        writer.write(head("200 OK", [("Content-Type", "application/json"), ("Content-Length", len(data))]) + sent)
    elif path.startswith("/status/"):
        code = int(path.rsplit("/", 1)[1])
        bodiless = code in (204, 304)
        shown = [("X-Code", code)] if bodiless else [("Content-Length", 4), ("Location", "/echo")]
        writer.write(head(f"{code} Whatever It Is", shown) + (b"" if bodiless or method == "HEAD" else b"code"))
    elif path == "/chunked":
        writer.write(head("200 OK", [("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")]))
        for n in range(20):
            piece = bytes([65 + n]) * (n * 37 + 1)
            writer.write(f"{len(piece):x};ext=1\r\n".encode() + piece + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.001)
        writer.write(b"0\r\nX-Sum: abc\r\n\r\n")
    elif path == "/hints":
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
        writer.write(head("200 OK", [("Content-Length", 2)]) + b"ok")
    elif path == "/odd":
        writer.write(b"HTTP/1.1 200 Fine  Thanks\r\n" + DATE.encode() +
                     b"x-LOWER:1\r\nX-Twice: a\r\nX-Twice: b\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\n"
                     b"X-Empty:\r\nX-Spaces:   two  words  \r\nContent-Length: 3\r\n\r\nodd")
    elif path == "/big":
        size = int(target.split("?")[1])
        writer.write(head("200 OK", [("Content-Length", size)]))
        block = bytes(range(256)) * 256
        while size > 0:
            writer.write(block[:size])
            size -= len(block)
            await writer.drain()
    elif path == "/until-close":
        writer.write(head("200 OK", [("Connection", "close")]) + b"as long as it lasts")
        return False
    elif path == "/cut":
        writer.write(head("200 OK", [("Content-Length", 100)]) + b"only this")
        return False
    elif path == "/break":
        writer.write(head("200 OK", [("Content-Length", 100)]) + b"only this")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()
        return False
    elif path == "/nothing":
        return False
    elif path == "/sse":
        writer.write(head("200 OK", [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]))
        for n in range(5):
            data = f"data: {n}\n\n".encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")
    else:
        writer.write(head("404 Not Found", [("Content-Length", 0)]))
    return fields.get("connection", "").lower() != "close"


async def serve(reader, writer):
    try:
        goes_on = True
        while goes_on:
            line = (await reader.readline()).decode("latin-1")
            if not line:
                break
            method, target, _ = line.split()
            fields, order = {}, []
            while (line := (await reader.readline()).decode("latin-1").rstrip("\r\n")):
                name, value = line.split(":", 1)
                fields[name.lower()] = value.strip()
                order.append([name, value.strip()])
            goes_on = await answer(method, target, fields, order, reader, writer)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
