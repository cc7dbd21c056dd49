"""The suite of the budgets, over Redis and over their twin in memory."""
