"""Replenishment requests and the central stock."""
