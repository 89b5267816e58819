"""The data plane. `gateway.api.handler` serves these paths, each only after a key."""

from django.urls import path

from gateway.api import views

urlpatterns = [
    path("v1/chat/completions", views.ChatCompletions.as_view()),
    path("v1/completions", views.Completions.as_view()),
    path("v1/embeddings", views.Embeddings.as_view()),
    path("v1/generate", views.Generate.as_view()),
    path("v1/models", views.Models.as_view()),
    path("v1/models/<path:name>", views.OneModel.as_view()),
]
