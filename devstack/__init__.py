"""The whole product on loopback, for development, demonstration and tests; never a part of production."""
