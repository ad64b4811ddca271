"""What is remembered: connections, their steps and rate limits in SQL, each method one transaction."""
