"""Pages through the API: their rate against an empty handler's, and hidden channels under concurrent reads."""
