"""gRPC's own health service (grpcio-health-checking), told what to say over a second method.

`buttress.Peer/Set` takes "name=STATUS". With the argument `bare` there is no health service.
"""

import concurrent.futures
import sys

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def main():
    # A watch takes a thread for as long as it lasts.
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=16)
    server = grpc.server(pool)
    servicer = health.HealthServicer()

    def set_status(request, context):
        name, status = request.decode().split("=")
        servicer.set(name, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        return b""

    handlers = {"Set": grpc.unary_unary_rpc_method_handler(set_status)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("buttress.Peer", handlers),)
    )
    if "bare" not in sys.argv[1:]:
        servicer.set("shop.Cart", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


main()
