"""How much memory and CPU each process takes while the fleet uses 0, 50 and 100 % of the global budget."""
