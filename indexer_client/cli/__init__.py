"""The command line `indexer`, a pure client of the API."""
