"""Errors of the stack."""


class Trouble(Exception):
    """Something a person has to mend; the message says what and how, in one or two lines."""
