"""All rules that an installation is checked by."""

from tests.deploy import graces, nodes, policy, processes, reach, scalers, sizes

RULES: tuple[policy.Rule, ...] = (
    *policy.RULES,
    *nodes.RULES,
    *graces.RULES,
    *sizes.RULES,
    *processes.RULES,
    *reach.RULES,
    *scalers.RULES,
)
