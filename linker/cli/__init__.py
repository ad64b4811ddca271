"""The `linker` command, one file per group of verbs. With `--json` stdout holds one JSON value and nothing else."""
