from channels.security.websocket import WebsocketDenier
from django.urls import path, re_path

from gateway.consumers import GenerateConsumer

websocket_urlpatterns = [
    path("ws/generate", GenerateConsumer.as_asgi()),
    # Without it an unknown path is an error of ours and not a refused handshake.
    re_path("", WebsocketDenier.as_asgi()),
]
