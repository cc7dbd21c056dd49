"""The scenarios: a module for each part that fails."""

from tests.chaos import waves
from tests.chaos.scenarios import discord, links, load, processes, servers

SCENARIOS: dict[str, waves.Scenario] = {
    scenario.name: scenario for module in (links, servers, processes, discord, load) for scenario in module.SCENARIOS
}
"""All scenarios, by name."""
SHORT = ("late-mongodb", "flush-redis", "kill-worker", "kill-service", "discord-outage", "cancel-storm")
"""The scenarios that `make test` plays."""
