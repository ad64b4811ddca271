"""Telling the host: announcements wait in rows, and go to handlers and to a webhook, each at least once."""
