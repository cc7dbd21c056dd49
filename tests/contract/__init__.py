"""One suite for each port, run over its fake and its real adapter."""
