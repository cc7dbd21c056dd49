"""Tests of the rendered manifests; run by `make check-deploy`, in a separate environment (deploy/tools.lock)."""
