"""How sockets are found and kept, beneath HTTP."""
