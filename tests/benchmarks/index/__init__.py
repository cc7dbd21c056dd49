"""Indexing through the API: how long jobs take, how much of the budget they use, and what a Discord call costs."""
