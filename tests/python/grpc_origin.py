"""A gRPC server with a method of each shape, on messages of plain bytes. Prints its port."""

import time
from concurrent import futures

import grpc


def echo(request, context):
    return request


def fail(request, context):
    context.set_trailing_metadata((("x-why", "because"), ("x-raw-bin", b"\x01\x02")))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: 100 % sure, ünicode")


def metadata(request, context):
    context.send_initial_metadata((("x-initial", "yes"),))
    context.set_trailing_metadata((("x-trailing", "also"),))
    seen = dict(context.invocation_metadata())
    return repr([seen.get("x-one"), seen.get("x-bin-bin")]).encode()


def slow(request, context):
    time.sleep(2)
    return request


def down(request, context):
    for n in range(int(request)):
        yield b"d" * n * 100


def broken(request, context):
    yield from down(request, context)
    context.abort(grpc.StatusCode.DATA_LOSS, "in the middle")


def up(requests, context):
    return b"u" * sum(len(request) for request in requests)


def both(requests, context):
    for request in requests:
        yield request * 2


METHODS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Broken": grpc.unary_stream_rpc_method_handler(broken),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Payment", METHODS),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
