"""Holds manifests to their promises; run by `make check-deploy`, in an environment of its own (deploy/tools.lock)."""
