"""The services whose local transactions a saga strings together; reached over HTTP only.

Each participant is an app with a database of its own. `contract` holds what they share; a
participant never reads another one's tables.
"""
