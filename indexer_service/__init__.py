"""The gRPC service: a thin shell around the core."""
