"""How few calls the index costs: a simulated week, and 500 users who start at once."""
