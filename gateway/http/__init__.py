"""The shell of the gateway: ASGI application, routes, pages, metrics and server."""
