"""URLs of the API."""

from django.urls import URLPattern, URLResolver, path

from sagas.api import documentation, hooks, monitoring, operating, outside, progress, views
from sagas.api.shortcuts import either
from sagas.api.steering import steering
from sagas.interventions import VERBS

urlpatterns: list[URLPattern | URLResolver] = [
    path("health", monitoring.health, name="health"),
    path("health/ready", monitoring.ready, name="ready"),
    path("metrics", monitoring.metrics, name="metrics"),
    *either("api-docs", documentation.DocsView, "api-docs"),
    path("api-docs/schema", documentation.schema, name="api-schema"),
    *either("api/v1/sagas", views.SagasView, "sagas"),
    *either("api/v1/sagas/<uuid:saga_id>", views.SagaView, "saga"),
    *(
        route
        for verb in VERBS
        for route in either(f"api/v1/sagas/<uuid:saga_id>/{verb}", steering(verb), verb)
    ),
    *either("api/v1/sagas/<uuid:saga_id>/compensations", views.CompensationsView, "compensations"),
    *either("api/v1/sagas/<uuid:saga_id>/events", progress.ProgressView, "saga-events"),
    *either("api/v1/sagas/<uuid:saga_id>/graph", views.SagaGraphView, "saga-graph"),
    *either("api/v1/sagas/<uuid:saga_id>/signals/<str:name>", outside.SignalView, "signal"),
    *either("api/v1/callbacks/<str:token>", outside.CallbackView, "callback"),
    *either("api/v1/webhooks", hooks.WebhooksView, "webhooks"),
    *either("api/v1/webhooks/<int:hook_id>", hooks.WebhookView, "webhook"),
    *either("api/v1/webhooks/<int:hook_id>/deliveries", hooks.DeliveriesView, "deliveries"),
    *either("api/v1/definitions", views.DefinitionsView, "definitions"),
    *either("api/v1/interventions", operating.BulkView, "interventions"),
    *either("api/v1/circuits", operating.CircuitsView, "circuits"),
    *either("api/v1/circuits/<str:name>/close", operating.CloseCircuitView, "close-circuit"),
    *either("api/v1/definitions/<str:saga_type>/pause", operating.steering_types("pause"), "pause-type"),
    *either("api/v1/definitions/<str:saga_type>/resume", operating.steering_types("resume"), "resume-type"),
    *either("api/v1/definitions/<str:saga_type>/graph", views.DefinitionGraphView, "definition-graph"),
]
