"""What operators do, links to the dialog, and what is done with the whole database: retention, rotation, checks."""
