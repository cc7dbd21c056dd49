"""Tests of the command line, against a made-up service on a real gRPC channel."""
