"""A gRPC server (C-core) that fails as its caller asks it to, by the method."""

import concurrent.futures
import time

import grpc

PUSHBACK = (("grpc-retry-pushback-ms", "250"),)
NO_MORE = (("grpc-retry-pushback-ms", "-1"),)


def early(request, context):
    """Trailers-Only: the status stands in the response's headers."""
    context.abort(grpc.StatusCode.UNAVAILABLE, "early")


def late(request, context):
    """The status stands in the trailers, behind headers that are out.

    With metadata of their own: C-core sends empty headers together with a status that comes at once,
    and then the status stands in the head.
    """
    context.send_initial_metadata((("taken-up", "yes"),))
    context.abort(grpc.StatusCode.UNAVAILABLE, "late")


def pushback(request, context):
    context.set_trailing_metadata(PUSHBACK)
    context.abort(grpc.StatusCode.UNAVAILABLE, "in a while")


def no_more(request, context):
    context.set_trailing_metadata(NO_MORE)
    context.abort(grpc.StatusCode.UNAVAILABLE, "not again")


def slow(request, context):
    time.sleep(60)
    return b""


METHODS = {
    "Early": early,
    "Late": late,
    "Pushback": pushback,
    "NoMore": no_more,
    "Slow": slow,
    "Echo": lambda request, context: request,
}


def main():
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=4)
    server = grpc.server(pool)
    handlers = {name: grpc.unary_unary_rpc_method_handler(f) for name, f in METHODS.items()}
    handler = grpc.method_handlers_generic_handler("buttress.Peer", handlers)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


main()
