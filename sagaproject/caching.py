"""How values lie in the cache: as JSON, since unpickling would run whatever somebody had put there."""

import json
from typing import Any


class JSONSerializer:
    """Of Django's Redis cache."""

    def dumps(self, value: Any) -> str:
        """The text of a value; whole numbers remain what Redis can count with."""
        return json.dumps(value)

    def loads(self, text: bytes) -> Any:
        """The value of a text."""
        return json.loads(text)
