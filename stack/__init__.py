"""Tooling: brings the servers and processes of a local stack, and shows it at work.

Nothing else in this repository imports it.
"""
