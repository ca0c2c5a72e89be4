"""System checks: what definitions and settings must agree on. Each carries its mend as a hint."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.urls import NoReverseMatch, reverse

from sagas.claims import lease
from sagas.conf import conf
from sagas.definition import Step, registry
from sagas.reading import findings, participants

DOCUMENTATION = ("drf_spectacular", "drf_spectacular_sidecar")


@register
def lease_outlives_call(**_: Any) -> list[CheckMessage]:
    """A claim must hold longer than the call it is made for (rule 5)."""
    if conf().lease_margin > timedelta(0):
        return []
    return [
        Error(
            "SAGAS['LEASE_MARGIN'] is not positive: a claim would end before its call does.",
            hint="Give a few seconds, such as timedelta(seconds=10).",
            id="sagas.E001",
        )
    ]


@register
def definitions_found(**_: Any) -> list[CheckMessage]:
    """A project without any definition has most likely misnamed the module."""
    if registry.by_key:
        return []
    return [
        Warning(
            "No saga definition was found.",
            hint="Put definitions in a module `sagas` of an installed app, such as shop/sagas.py.",
            id="sagas.W002",
        )
    ]


@register
def api_documented(**_: Any) -> list[CheckMessage]:
    """Where the API is included, its documentation needs drf-spectacular; the rest of it does not."""
    try:
        reverse("api-docs")
    except (NoReverseMatch, AttributeError):  # not included; a project without any URLs
        return []
    missing = [app for app in DOCUMENTATION if not apps.is_installed(app)]
    rest = getattr(settings, "REST_FRAMEWORK", {})
    if not missing and "DEFAULT_SCHEMA_CLASS" in rest:
        return []
    return [
        Warning(
            "/api-docs cannot be served: drf-spectacular is not set up.",
            hint=f"Add {', '.join(map(repr, DOCUMENTATION))} to INSTALLED_APPS, and "
            "REST_FRAMEWORK['DEFAULT_SCHEMA_CLASS'] = 'drf_spectacular.openapi.AutoSchema'; "
            "or silence sagas.W005.",
            id="sagas.W005",
        )
    ]


@register
def definitions_sound(**_: Any) -> list[CheckMessage]:
    """Unreachable steps, missing inverses, results of later steps, endless retries."""
    return [
        (Error if found.severe else Warning)(found.message, hint=found.hint, id=f"sagas.{found.code}")
        for definition in registry.by_key.values()
        for found in findings(definition)
    ]


@register
def participants_known(**_: Any) -> list[CheckMessage]:
    """A participant that is called has an address."""
    known = conf().participants
    return [
        Warning(
            f"{type(definition).__name__}.{step.function} calls {name!r}, whose address is not set.",
            hint=f"Add SAGAS['PARTICIPANTS'][{name!r}] = {{'url': ...}}; "
            f"there {'are' if known else 'is'} {', '.join(known) or 'none'}.",
            id="sagas.W007",
        )
        for definition in registry.by_key.values()
        for step in definition.steps
        for name in sorted(participants(step) - set(known))
    ]


@register
def calls_fit_the_worker(**_: Any) -> list[CheckMessage]:
    """Celery must not kill a task before its call may end, nor deliver it twice meanwhile."""
    soft = getattr(settings, "CELERY_TASK_SOFT_TIME_LIMIT", None)
    options = getattr(settings, "CELERY_BROKER_TRANSPORT_OPTIONS", {})
    visible = options.get("visibility_timeout", 3600)
    messages: list[CheckMessage] = []
    for definition in registry.by_key.values():
        for step in definition.steps:
            longest = (lease(definition, step.position) + conf().lease_margin).total_seconds()
            where = f"{type(definition).__name__}.{step.function}"
            if soft is not None and longest > soft:
                messages.append(
                    Error(
                        f"{where} may hold its claim for {longest:g} s, "
                        f"but Celery ends tasks after {soft:g} s.",
                        hint="Lower the step's timeout, or raise CELERY_TASK_SOFT_TIME_LIMIT.",
                        id="sagas.E003",
                    )
                )
            if longest > visible:
                messages.append(
                    Error(
                        f"{where} may take {longest:g} s, "
                        f"but Redis delivers its message again after {visible:g} s.",
                        hint="Raise visibility_timeout in CELERY_BROKER_TRANSPORT_OPTIONS.",
                        id="sagas.E004",
                    )
                )
            if (pause := longest_pause(step)) > visible:
                messages.append(
                    Warning(
                        f"{where} may pause for {pause:g} s before it is tried again, "
                        f"but Redis delivers its message again after {visible:g} s.",
                        hint="Lower the `cap` of its Retry, or raise visibility_timeout in "
                        "CELERY_BROKER_TRANSPORT_OPTIONS.",
                        id="sagas.W006",
                    )
                )
    return messages


def longest_pause(step: Step) -> float:
    """Seconds before the last repeat of a step or of its undoing, which is the longest pause."""
    policies = [step.retry, *([step.undo.retry] if step.undo is not None else [])]
    pauses = [retry.pause(retry.attempts - 1) for retry in policies if retry.attempts > 1]
    return max(pauses, default=timedelta(0)).total_seconds()
