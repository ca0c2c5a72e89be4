"""Circuit breaker and flow control per participant, shared by all workers through Redis.

One atomic script admits or holds back a call, another notes how it went, so that no two workers
see different states and only one probes a half-open circuit (Nygard, "Release It!", Stability
Patterns; numbers: SAGAS["BREAKER"]). A closing circuit lets calls through in a trickle. If Redis
cannot be reached each process decides alone, by its own counts.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

import redis
import structlog

from sagas.conf import conf
from sagas.state import Accepted, Deferred, Done, Impossible, Outcome, Refused, Transient

log = structlog.get_logger(__name__)

PREFIX = "sagas:breaker:"
TRICKLE = 5.0
LOCAL_FOR = 5.0

# KEYS[1] state hash, KEYS[2] calls under way (sorted set by end), KEYS[3] calls of this second
# ARGV recovery s, max concurrent (0: none), max per second (0: none), call timeout s, ticket, force, trickle
# Nothing is counted for a call that is held back, by whichever limit.
ADMIT = """
local now = redis.call('TIME'); now = now[1] + now[2] / 1000000
local open_until = tonumber(redis.call('HGET', KEYS[1], 'open_until') or '0')
local state = redis.call('HGET', KEYS[1], 'state') or 'closed'
local probes = ARGV[6] == '0' and state ~= 'closed'
if probes then
    if now < open_until then return {'open', tostring(open_until - now)} end
    local probe = tonumber(redis.call('HGET', KEYS[1], 'probe_until') or '0')
    if state == 'half_open' and now < probe then return {'open', tostring(math.max(probe - now, 0.5))} end
end
local closed_at = tonumber(redis.call('HGET', KEYS[1], 'closed_at') or '0')
local per_second = tonumber(ARGV[3])
if closed_at > 0 and now - closed_at >= tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[1], 'closed_at')
elseif closed_at > 0 then
    local trickle = tonumber(ARGV[7]) * (1 + now - closed_at)
    if per_second == 0 or trickle < per_second then per_second = trickle end
end
local most = tonumber(ARGV[2])
if most > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, now)
    if redis.call('ZCARD', KEYS[2]) >= most then return {'busy', '0.25'} end
end
if per_second > 0 then
    local key = KEYS[3] .. math.floor(now)
    local used = tonumber(redis.call('GET', key) or '0')
    if used + 1 > per_second then return {'busy', tostring(1 - now % 1)} end
    redis.call('INCR', key)
    redis.call('EXPIRE', key, 3)
end
if most > 0 then
    redis.call('ZADD', KEYS[2], now + tonumber(ARGV[4]) + 1, ARGV[5])
    redis.call('EXPIRE', KEYS[2], math.ceil(tonumber(ARGV[4])) + 60)
end
if probes then
    redis.call('HSET', KEYS[1], 'state', 'half_open', 'probe_until', now + tonumber(ARGV[4]) + 1)
end
return {'go', '0'}
"""

# KEYS[1] state hash, KEYS[2] calls under way, KEYS[3] failures (sorted set by time)
# ARGV ok, failures to open, window s, recovery s, ticket
NOTE = """
local now = redis.call('TIME'); now = now[1] + now[2] / 1000000
redis.call('ZREM', KEYS[2], ARGV[5])
local state = redis.call('HGET', KEYS[1], 'state') or 'closed'
if ARGV[1] == '1' then
    if state == 'half_open' then
        redis.call('HSET', KEYS[1], 'state', 'closed', 'closed_at', now)
        redis.call('DEL', KEYS[3])
        return 'closed'
    end
    return ''
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, now - tonumber(ARGV[3]))
redis.call('ZADD', KEYS[3], now, ARGV[5])
redis.call('EXPIRE', KEYS[3], math.ceil(tonumber(ARGV[3])) + 1)
if state == 'half_open' or (state == 'closed' and redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[2])) then
    redis.call('HSET', KEYS[1], 'state', 'open', 'open_until', now + tonumber(ARGV[4]))
    return 'open'
end
return ''
"""


def new_ticket() -> str:
    """What names one call: each attempt counts, though attempts share their idempotency key."""
    return secrets.token_hex(8)


def _answered(outcome: Outcome) -> bool:
    """An error of the server (RFC 9110, 15.6) is none, and neither is 503 with a time to come back."""
    if isinstance(outcome, Transient):
        return outcome.answered
    return isinstance(outcome, Done | Refused | Impossible | Accepted)


@dataclass(slots=True)
class Local:
    """What this process alone knows, for when Redis does not answer."""

    failures: list[float] = field(default_factory=list)
    open_until: float = 0.0


class Breaker:
    """The circuit and the limits of one participant."""

    def __init__(self, participant: str) -> None:
        self.participant = participant
        self.local = Local()
        self.healthy_until = 0.0
        base = PREFIX + participant
        self.keys = {"state": base, "calls": f"{base}:calls", "rate": f"{base}:rate:", "bad": f"{base}:bad"}

    def admit(self, ticket: str, timeout: timedelta, *, force: bool) -> Deferred | None:
        """None if the call may be made, else how long to wait; `force` passes an open circuit.

        `ticket` (see `new_ticket`) is this call's alone, and is given to `note` as well.
        """
        rules = conf().breaker
        limits = conf().participants.get(self.participant, {})
        if not shared_state().reachable():
            return self._admit_locally(force=force)
        if not self._needs_asking(limits):
            return None
        arguments = (
            rules.recovery.total_seconds(),
            int(limits.get("max_concurrent", 0)),
            int(limits.get("max_per_second", 0)),
            timeout.total_seconds(),
            ticket,
            "1" if force else "0",
            TRICKLE,
        )
        answer = shared_state().run(
            "admit", (self.keys["state"], self.keys["calls"], self.keys["rate"]), arguments
        )
        if answer is None:
            return self._admit_locally(force=force)
        verdict, wait = answer[0].decode(), float(answer[1])
        if verdict == "go":
            return None
        reason = (
            f"the circuit of {self.participant} is open"
            if verdict == "open"
            else f"{self.participant} is at its limit"
        )
        return Deferred(reason, timedelta(seconds=max(wait, 0.05)), circuit_open=verdict == "open")

    def _needs_asking(self, limits: dict[str, Any]) -> bool:
        """Without limits, a circuit that was closed a moment ago needs no round trip for every call."""
        if limits.get("max_concurrent") or limits.get("max_per_second"):
            return True
        now = time.monotonic()
        if now < self.healthy_until:
            return False
        state = shared_state().state(self.keys["state"])
        if state is not None and state.get(b"state", b"closed") == b"closed" and b"closed_at" not in state:
            self.healthy_until = now + 1.0
            return False
        return True

    def note(self, ticket: str, outcome: Outcome) -> None:
        """How an admitted call went: an answer of any kind is health, no answer is a failure."""
        ok = _answered(outcome)
        limits = conf().participants.get(self.participant, {})
        now, rules = time.monotonic(), conf().breaker
        if ok and now < self.healthy_until and not limits.get("max_concurrent"):
            return
        if not ok:
            self.healthy_until = 0.0
            self._note_locally(now)
        arguments = (
            "1" if ok else "0",
            rules.failures,
            rules.window.total_seconds(),
            rules.recovery.total_seconds(),
            ticket,
        )
        changed = shared_state().run(
            "note", (self.keys["state"], self.keys["calls"], self.keys["bad"]), arguments
        )
        if changed:
            log.warning("circuit changed", participant=self.participant, state=changed.decode())

    def _note_locally(self, now: float) -> None:
        rules = conf().breaker
        window = rules.window.total_seconds()
        self.local.failures = [at for at in self.local.failures if now - at < window] + [now]
        if len(self.local.failures) >= rules.failures:
            self.local.open_until = now + rules.recovery.total_seconds()

    def _admit_locally(self, *, force: bool) -> Deferred | None:
        left = self.local.open_until - time.monotonic()
        if force or left <= 0:
            return None
        reason = f"the circuit of {self.participant} is open in this process"
        return Deferred(reason, timedelta(seconds=left), circuit_open=True)


class SharedState:
    """Redis, asked with short timeouts and left alone for a while after it failed."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url, socket_connect_timeout=0.5, socket_timeout=0.5)
        self.scripts = {
            "admit": self.client.register_script(ADMIT),
            "note": self.client.register_script(NOTE),
        }
        self.away_until = 0.0

    def reachable(self) -> bool:
        """False for a few seconds after a failure."""
        return time.monotonic() >= self.away_until

    def run(self, script: str, keys: tuple[str, ...], arguments: tuple[Any, ...]) -> Any:
        """The script's answer; None if Redis did not give one."""
        if not self.reachable():
            return None
        try:
            return self.scripts[script](keys=keys, args=arguments)
        except redis.RedisError as error:
            self._failed(error)
            return None

    def state(self, key: str) -> dict[bytes, bytes] | None:
        """The hash of a circuit; None if Redis did not answer."""
        if not self.reachable():
            return None
        try:
            found: Any = self.client.hgetall(key)
            return dict(found)
        except redis.RedisError as error:
            self._failed(error)
            return None

    def _failed(self, error: Exception) -> None:
        self.away_until = time.monotonic() + LOCAL_FOR
        log.warning("circuit state unreachable, deciding locally", error=str(error))


@cache
def shared_state() -> SharedState:
    """The one connection pool of this process."""
    return SharedState(conf().redis_url)


@cache
def of(participant: str) -> Breaker:
    """The breaker of a participant, one object a process."""
    return Breaker(participant)


def inspect() -> dict[str, dict[str, Any]]:
    """Each participant's circuit as an operator sees it: state, recent failures, seconds left open."""
    shown: dict[str, dict[str, Any]] = {}
    for name in conf().participants:
        circuit = of(name)
        state = shared_state().state(circuit.keys["state"])
        if state is None:
            shown[name] = {"state": "unknown", "reason": "Redis is unreachable; workers decide locally"}
            continue
        seconds, micro = shared_state().client.time()
        now = seconds + micro / 1e6
        left = float(state.get(b"open_until", b"0")) - now
        since = now - conf().breaker.window.total_seconds()
        shown[name] = {
            "state": state.get(b"state", b"closed").decode(),
            "failures": shared_state().client.zcount(circuit.keys["bad"], since, "+inf"),
            "open_for_seconds": round(max(left, 0.0), 1),
        }
    return shown


def reset(participant: str) -> None:
    """Close a circuit by hand; calls flow at once, within the limits."""
    circuit = of(participant)
    shared_state().client.delete(circuit.keys["state"], circuit.keys["bad"])
    circuit.local = Local()
