"""How many starts a second that join a running job one service process answers, beside an empty handler."""
