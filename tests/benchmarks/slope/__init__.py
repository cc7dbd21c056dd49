"""Indexing while each operation of a server takes longer: what jobs cost, and what the product says about it."""
