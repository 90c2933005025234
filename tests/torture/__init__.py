"""Histories of a store under everything that happens to machines; ``python -m tests.torture`` runs them."""
