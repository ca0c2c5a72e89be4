"""Stores and their opening hours."""
