"""URLs of the API process."""

from django.contrib import admin
from django.urls import include, path, re_path

from sagas.api.shortcuts import routes
from sagas.api.views import NothingHereView
from sagas.choreography.urls import starts

handler400 = "sagas.api.problems.bad_request"
handler404 = "sagas.api.problems.not_found"
handler500 = "sagas.api.problems.server_error"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("sagas.api.urls")),
    *routes(
        {
            "api/saga/sales": "sales_saga",
            "api/saga/returns": "return_saga",
            "api/saga/checkout/": "checkout_saga",
        }
    ),
    path("", include("sagas.choreography.urls")),
    *starts(
        {
            "api/commandes/clients/<int:client_id>/checkout/choreo/": (
                "ecommerce.checkout.events",
                "client_id",
            ),
            "api/commandes/clients/<int:client_id>/order/choreo/": ("ecommerce.order.events", "client_id"),
        }
    ),
    path("", include("front.urls")),
    re_path(r"^api/", NothingHereView.as_view()),
]
