"""One module per command: what the command does, without its options and output."""
