"""What is done with the whole database: retention, rotation of keys, health checks."""
