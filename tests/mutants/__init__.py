"""Mutations of the product, and whether its tests notice them: `make mutants`."""
