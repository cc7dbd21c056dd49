"""The core that service and workers share: domain rules, use cases, and one package per vendor."""
