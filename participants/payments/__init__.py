"""Customers' accounts, payments and refunds."""
