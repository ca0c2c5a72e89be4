"""Imports every definition of this app, so that the engine discovers them."""

from sagas.retail import sales

__all__ = ["sales"]
