"""The HTTP API: shells around engine verbs."""
