"""The limiter against counting servers and random networks, and its estimate of the fleet's clock."""
