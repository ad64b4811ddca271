"""One path for every connection: claim, call, decide, settle. Knows ports and the law only."""
