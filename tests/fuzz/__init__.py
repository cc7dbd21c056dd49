"""What strangers may send: random requests at the edge, mutilated JSON behind it."""
