"""Choreography: services that answer one another's events, with no conductor. Mechanism, no business.

`topics` is what an author writes against; `store` is the truth, in PostgreSQL; `bus` is transport,
over Redis Streams; `relay` brings events from the one to the other, `consumer` reacts to them.
"""
