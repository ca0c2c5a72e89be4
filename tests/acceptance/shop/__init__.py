"""An app of the processes under test: a sale with little patience, and places to crash at."""
