"""Sockets, beneath HTTP: how they are found, kept and listened on."""
