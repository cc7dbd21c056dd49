"""The core that service and workers stand on: rules, use cases, and one door per vendor."""
