"""Finds the services that this process serves."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from participants.contract.configuration import served_names
from participants.contract.offers import Offers
from participants.contract.service import Service


@cache
def served() -> tuple[Service, ...]:
    """The services named by PARTICIPANTS["SERVED"], in that order."""
    return tuple(service_named(name) for name in served_names())


def service_named(name: str) -> Service:
    """The service that `participants.<name>.operations` declares as `service`."""
    if name not in settings.PARTICIPANT_NAMES:
        known = ", ".join(settings.PARTICIPANT_NAMES)
        raise ImproperlyConfigured(f"PARTICIPANTS_SERVED names {name!r}; there are: {known}.")
    service = import_module(f"participants.{name}.operations").service
    if not isinstance(service, Service) or service.name != name:
        raise ImproperlyConfigured(f"participants.{name}.operations must hold service = Service({name!r}).")
    return service


@cache
def offers_of(name: str) -> Offers:
    """What `participants.<name>.offers` declares as `offers`; nothing if there is no such module."""
    module = f"participants.{name}.offers"
    if find_spec(module) is None:
        return Offers(name)
    offers = import_module(module).offers
    if not isinstance(offers, Offers) or offers.name != name:
        raise ImproperlyConfigured(f"{module} must hold offers = Offers({name!r}).")
    return offers


@cache
def by_operation() -> dict[str, Service]:
    """Which service has an operation; names are unique, since all are served at the root as well."""
    owners: dict[str, Service] = {}
    for service in served():
        for name in service.operations:
            if name in owners:
                raise ImproperlyConfigured(f"{name!r} is declared by {owners[name].name} and {service.name}.")
            owners[name] = service
    return owners
