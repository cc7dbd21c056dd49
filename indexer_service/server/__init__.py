"""The gRPC server and what it needs before the first call: TLS, health, wiring."""
