"""URLs of the front end."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from front import views

app_name = "front"
urlpatterns = [
    path("", views.index, name="index"),
    path("favicon.ico", views.icon),
    path("login/", views.Login.as_view(), name="login"),
    path("logout/", LogoutView.as_view(next_page="front:login"), name="logout"),
    path("front/faults", views.faults, name="faults"),
]
