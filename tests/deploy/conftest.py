"""Keeps these tests out of an ordinary run, whose environment lacks the tools, and renders each overlay once."""

import importlib.util

import pytest

if importlib.util.find_spec("kubernetes_validate") is None:
    collect_ignore_glob = ["*"]
else:
    from tests.deploy import rendered

    @pytest.fixture(params=rendered.OVERLAYS)
    def overlay(request: pytest.FixtureRequest) -> rendered.Objects:
        """Every object of one overlay."""
        return rendered.overlay(request.param)

    @pytest.fixture
    def production() -> rendered.Objects:
        """Every object of production, to be changed at will."""
        return rendered.overlay("production")

    @pytest.fixture
    def dev() -> rendered.Objects:
        """Every object of dev, to be changed at will."""
        return rendered.overlay("dev")
