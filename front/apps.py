"""The app of the web front end."""

from django.apps import AppConfig


class FrontConfig(AppConfig):
    """Plain HTML, one style sheet and a few JavaScript modules; no build step."""

    name = "front"
    verbose_name = "Web front end"
