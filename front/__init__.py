"""A page to try the system by: start a saga, choose what goes wrong, watch it done and undone."""
