"""The command line `indexer`: a client of the API and nothing more."""
