"""The whole product on loopback, for development, demos and tests; never part of production."""
