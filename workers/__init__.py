"""The worker processes: Dramatiq workers, the refresher and the exporter, thin layers over the core."""
