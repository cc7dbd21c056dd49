"""The feed from the Gateway: start-up, events, deploys and crashes."""
