"""Prints what all participants' books say, as JSON; run with the environment of a world."""

import json

import django

django.setup()

from tests import retail  # noqa: E402 - its models need Django set up

retail.stock_adds_up()
retail.money_adds_up()
print(json.dumps(retail.figures()))
