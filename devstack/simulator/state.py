"""The state of one simulator."""

import dataclasses

from devstack.simulator import (
    clock,
    faults,
    foreign_traffic,
    gateway_sessions,
    invalid_requests,
    limits,
    network,
    stats,
    tokens,
    world,
)


@dataclasses.dataclass(slots=True)
class SimulatorState:
    """The components of one simulator. Nothing is global, so several simulators can run in one process."""

    clock: clock.Clock
    world: world.World
    tokens: tokens.Tokens
    sizes: limits.BudgetSizes
    limiter: limits.Limiter
    invalid: invalid_requests.InvalidRequests
    faults: faults.Faults
    foreign: foreign_traffic.ForeignTraffic
    network: network.Network
    stats: stats.Stats
    gateway: gateway_sessions.Hub
