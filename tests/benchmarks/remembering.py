"""`python -m tests.benchmarks.remembering replay N | rebuild NAME | seal CLIENT`: what needs Django.

Prints JSON: the milliseconds of each replay; the seconds of the rebuild; a client's stored key with what
it has sealed.
"""

import json
import sys
import time
from collections.abc import Sequence

import django


def replays(count: int) -> list[float]:
    """Replay that many streams from all over the store to their state; the milliseconds of each."""
    from django.db import connection

    from sagas.choreography import store
    from sagas.choreography.events import fold
    from sagas.choreography.topics import registry

    with connection.cursor() as cursor:
        cursor.execute("SELECT id, topic FROM choreography_stream ORDER BY id LIMIT %s", [count])
        chosen = cursor.fetchall()
    times = []
    for stream, name in chosen:
        topic = registry.topics[name]
        began = time.perf_counter()
        fold(store.history(stream), topic.statuses, topic.ends)
        times.append(1000 * (time.perf_counter() - began))
    return times


def rebuild(name: str) -> float:
    """Rebuild a read model; the seconds it took."""
    from sagas.choreography import projections

    began = time.perf_counter()
    projections.rebuild(name)
    return time.perf_counter() - began


def seal(client: int) -> dict[str, str]:
    """A new key as it is stored, and a client's personal data under it."""
    from sagas.choreography import keys, sealing

    key = sealing.new_key()
    return {"key": keys.wrap(key).decode(), "sealed": sealing.seal({"client_id": client}, key)}


def main(given: Sequence[str]) -> None:
    """Do one thing."""
    django.setup()
    what, of = given
    if what == "replay":
        print(json.dumps(replays(int(of))))
    elif what == "rebuild":
        print(json.dumps(rebuild(of)))
    else:
        print(json.dumps(seal(int(of))))


if __name__ == "__main__":
    main(sys.argv[1:])
