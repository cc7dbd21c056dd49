"""Budgets of calls to Discord, shared by all processes through Redis."""
