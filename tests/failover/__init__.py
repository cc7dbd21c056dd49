"""Failovers of real Redis servers under the running product: `make check-failover`."""
