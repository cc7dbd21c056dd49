"""Everything a running simulator consists of, in one place for those who need several parts."""

import dataclasses

from devstack.simulator import clock, faults, foreign, invalid, limits, network, stats, tokens, world


@dataclasses.dataclass(slots=True)
class Parts:
    """The parts; nothing of it is global, so two simulators in one process do not meet."""

    clock: clock.Clock
    world: world.World
    tokens: tokens.Tokens
    sizes: limits.Sizes
    limiter: limits.Limiter
    invalid: invalid.InvalidRequests
    faults: faults.Faults
    foreign: foreign.Foreign
    network: network.Network
    stats: stats.Stats
