"""Recipes as text: the literals, the names that stand in them, and what fits together."""
