"""Black-box tests over gRPC against the running stack."""
