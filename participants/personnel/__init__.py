"""Employees, what they may do, their work sessions and shifts."""
