"""What strangers cost a service: memory, and the latency of honest reads, under each attack."""
