"""What people see on a terminal: output, tables and cards, progress."""
