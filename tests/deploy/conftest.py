"""Excludes these tests from ordinary runs, which lack the tools, and renders each overlay once."""

import importlib.util

import pytest

if importlib.util.find_spec("kubernetes_validate") is None:
    collect_ignore_glob = ["*"]
else:
    from tests.deploy import rendered

    @pytest.fixture(params=rendered.OVERLAYS)
    def overlay(request: pytest.FixtureRequest) -> rendered.Objects:
        """All objects of one overlay."""
        return rendered.overlay(request.param)

    @pytest.fixture
    def production() -> rendered.Objects:
        """A copy of all objects of production."""
        return rendered.overlay("production")

    @pytest.fixture
    def dev() -> rendered.Objects:
        """A copy of all objects of dev."""
        return rendered.overlay("dev")
