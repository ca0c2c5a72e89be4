"""System checks: settings that definitions rely on."""

from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register

from sagas.conf import conf
from sagas.definition import registry


@register(Tags.compatibility)
def lease_outlives_call(**_: Any) -> list[CheckMessage]:
    """A claim must hold longer than the call it is made for (rule 5)."""
    if conf().lease_margin.total_seconds() > 0:
        return []
    return [
        Error(
            "SAGAS['LEASE_MARGIN'] is not positive: a claim would end before its call does.",
            hint="Give a few seconds, such as timedelta(seconds=10).",
            id="sagas.E001",
        )
    ]


@register(Tags.compatibility)
def definitions_found(**_: Any) -> list[CheckMessage]:
    """A project without any definition has most likely misnamed the module."""
    if registry.by_key:
        return []
    return [
        Error(
            "No saga definition was found.",
            hint="Put definitions in a module `sagas` of an installed app, such as shop/sagas.py.",
            id="sagas.E002",
        )
    ]
