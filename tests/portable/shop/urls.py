"""The shop's URLs; the include is all that sagas need."""

from django.urls import include, path

urlpatterns = [path("", include("sagas.api.urls"))]
