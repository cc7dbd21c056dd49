"""Excludes these tests from ordinary runs, which lack the tools, and renders each installation once."""

import importlib.util

import pytest

if importlib.util.find_spec("kubernetes_validate") is None:
    collect_ignore_glob = ["*"]
else:
    from tests.deploy import rendered

    @pytest.fixture(params=list(rendered.INSTALLATIONS))
    def installation(request: pytest.FixtureRequest) -> rendered.Objects:
        """All objects of one installation."""
        return rendered.installation(request.param)

    @pytest.fixture
    def production() -> rendered.Objects:
        """A copy of all objects of production."""
        return rendered.installation("production")

    @pytest.fixture
    def dev() -> rendered.Objects:
        """A copy of all objects of dev."""
        return rendered.installation("dev")
