"""Health, and the details of an error."""

import sys

import grpc

from indexer_client import Client, errors, pb

with Client(sys.argv[1]) as client:
    try:
        client.api.GetJob(pb.GetJobRequest(job_id="x"))
    except errors.InvalidRequest as refused:
        print("wrong field:", refused.violations[0][0])

with grpc.insecure_channel(sys.argv[1]) as channel:
    # The answer is a message whose field 1 is the status; SERVING is 1. grpcio-health-checking has its classes.
    check = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
    print("health:", "SERVING" if check(b"", wait_for_ready=True, timeout=30) == b"\x08\x01" else "NOT_SERVING")
