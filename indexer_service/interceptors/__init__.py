"""What happens around every call, outermost first: see chain."""
