"""Using a link: an `httpx` client for the host's own calls to an account that is linked."""
