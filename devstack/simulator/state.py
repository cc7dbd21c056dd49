"""Everything a running simulator consists of, in one place for those who need several parts."""

import dataclasses

from devstack.simulator import clock, faults, foreign_traffic, invalid_requests, limits, network, stats, tokens, world


@dataclasses.dataclass(slots=True)
class SimulatorState:
    """The parts; nothing of it is global, so two simulators in one process do not meet."""

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
