"""A small HTTP service: JSON in and out, and a stop that lets what is under way end."""

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    # A stop waits for the threads that still answer.
    daemon_threads = False
    request_queue_size = 128


def serve(port, routes):
    """Serves until SIGTERM. `routes`: (method, first part of the path) to a function, which is given
    the request and the rest of the path, and answers a status and what is to be said as JSON; or it
    writes its answer itself, and answers None."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def answer(self):
            _, first, *rest = self.path.split("/")
            route = routes.get((self.command, first))
            try:
                length = int(self.headers.get("content-length", 0))
                self.body = json.loads(self.rfile.read(length) or b"null")
                said = route(self, *rest) if route else (404, {"error": "no such path"})
            except OSError:
                raise  # The caller has gone.
            except Exception as error:
                said = (500, {"error": f"{type(error).__name__}: {error}"})
            if said is None:
                return
            status, body = said
            text = json.dumps(body).encode() + b"\n"
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    server = Server(("", port), Handler)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
