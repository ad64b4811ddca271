"""What is watched: metrics, spans, and statistics of the database. None of it is needed for linking."""
