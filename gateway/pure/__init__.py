"""Decisions and formats of the gateway; nothing here touches a socket, file, clock or loop."""
