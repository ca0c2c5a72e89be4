"""The peer's operations, in the order in which a saga calls them."""

ACTIONS = ("one", "two", "three", "four")
UNDOS = ("undo-one", "undo-two", "undo-three")
REFUSED = "refuse"
